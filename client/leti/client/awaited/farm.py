"""Devices, campaigns, jobs, leases, results, measurements, awaited: methods of the client, one for a route or flow."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import Literal

from leti.client.calls import farm
from leti.client.connection import AsyncConnection
from leti.core.errors import LetiError
from leti.core.farm import (
    AgentInfo,
    Campaign,
    CampaignRequest,
    DeviceInfo,
    DeviceReport,
    FailedJob,
    FailureCount,
    JobPage,
    JobsChanged,
    JobSelection,
    JobState,
    Lease,
    LeaseRequest,
    MeasurementPage,
    Receipt,
    Result,
)
from leti.core.measurement import Measurement


class AsyncFarmMethods(ABC):
    """Methods over a connection."""

    _connection: AsyncConnection

    async def devices(self) -> tuple[DeviceInfo, ...]:
        """Return every device with its state now, and the reason for it."""
        return await self._connection.send(farm.devices())

    async def agents(self) -> tuple[AgentInfo, ...]:
        """Return who measures, or did so last, on each platform, and what it has in hand."""
        return await self._connection.send(farm.agents())

    async def report_device(self, name: str, report: DeviceReport) -> DeviceInfo:
        """Tell the service of a device's state, as its agent sees it."""
        return await self._connection.send(farm.report_device(name, report))

    async def quarantine(self, name: str, reason: str) -> DeviceInfo:
        """Let the service lend a device no more jobs until it is released."""
        return await self._connection.send(farm.quarantine(name, reason))

    async def release_device(self, name: str) -> DeviceInfo:
        """End a device's quarantine, whoever began it."""
        return await self._connection.send(farm.release_device(name))

    async def create_campaign(self, request: CampaignRequest) -> Campaign:
        """Queue networks to be measured on a platform."""
        return await self._connection.send(farm.create_campaign(request))

    async def campaigns(self, platform_id: str | None = None) -> tuple[Campaign, ...]:
        """Return every campaign, of a platform or of all, with the state of its jobs."""
        return await self._connection.run(farm.campaigns(platform_id))

    async def campaign(self, campaign_id: int) -> Campaign:
        """Return one campaign with the state of its jobs."""
        return await self._connection.send(farm.campaign(campaign_id))

    async def failures(self, campaign_id: int, *, limit: int = 100) -> tuple[FailedJob, ...]:
        """Return the first jobs of a campaign that ended without a measurement, and why."""
        return await self._connection.run(farm.failures(campaign_id, limit))

    async def jobs(
        self,
        *,
        platform_id: str | None = None,
        campaign_id: int | None = None,
        state: JobState | None = None,
        fingerprint: str | None = None,
        cursor: int | None = None,
        limit: int | None = None,
    ) -> JobPage:
        """Return one page of jobs; ``cursor`` is the ``next`` of the page before."""
        return await self._connection.send(
            farm.jobs(
                {
                    "platform_id": platform_id,
                    "campaign_id": campaign_id,
                    "state": state,
                    "fingerprint": fingerprint,
                    "cursor": cursor,
                    "limit": limit,
                }
            )
        )

    async def retry_jobs(self, selection: JobSelection) -> JobsChanged:
        """Queue jobs again that failed, were set aside or cancelled."""
        return await self._connection.send(farm.retry_jobs(selection))

    async def cancel_jobs(self, selection: JobSelection) -> JobsChanged:
        """Take jobs out of the queue, also those that are lent."""
        return await self._connection.send(farm.cancel_jobs(selection))

    async def failure_counts(
        self,
        *,
        by: Literal["network", "device"],
        platform_id: str | None = None,
        campaign_id: int | None = None,
        limit: int | None = None,
    ) -> tuple[FailureCount, ...]:
        """Return how often each network, or each device, failed in which way, the most frequent first."""
        return await self._connection.send(
            farm.failure_counts({"by": by, "platform_id": platform_id, "campaign_id": campaign_id, "limit": limit})
        )

    async def lease(self, request: LeaseRequest, *, wait_s: float = 0.0) -> Lease | None:
        """Ask for jobs, wait up to ``wait_s`` for some; return ``None`` where there are none.

        It is not repeated: each call may lease others.
        """
        return await self._connection.send(farm.lease(request, wait_s))

    async def heartbeat(self, lease_id: int, token: int) -> None:
        """Renew a lease; raise :class:`~leti.core.errors.LeaseLost` where it is lost."""
        await self._connection.send(farm.heartbeat(lease_id, token))

    async def release(self, lease_id: int, token: int) -> None:
        """Give a lease back before it runs out; its unfinished jobs go back to the queue."""
        await self._connection.send(farm.release(lease_id, token))

    async def post_result(self, result: Result) -> Receipt:
        """Hand in a result; posting it twice stores it once."""
        return await self._connection.send(farm.post_result(result))

    async def post_results(self, results: Sequence[Result]) -> tuple[Receipt | LetiError, ...]:
        """Hand in up to 256 results; return a receipt for each, or the error that says why it was not taken."""
        return await self._connection.run(farm.post_results(results))

    async def measurements(
        self,
        *,
        platform_id: str | None = None,
        campaign_id: int | None = None,
        fingerprint: str | None = None,
        cursor: int | None = None,
        limit: int | None = None,
    ) -> MeasurementPage:
        """Return one page of measurements in short; ``cursor`` is the ``next`` of the page before."""
        return await self._connection.send(
            farm.measurements(
                {
                    "platform_id": platform_id,
                    "campaign_id": campaign_id,
                    "fingerprint": fingerprint,
                    "cursor": cursor,
                    "limit": limit,
                }
            )
        )

    async def measurement(self, measurement_id: int) -> Measurement:
        """Return one measurement with every sample."""
        return await self._connection.send(farm.measurement(measurement_id))
