"""A meter behind a service: networks are measured by its agents, in campaigns that have the baseline in every lease."""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from typing_extensions import override

from leti.client import Backoff, LatencyClient
from leti.compression.measuring.medians import quotient_interval
from leti.compression.measuring.meter import Meter, Progress, Reading, Subject
from leti.core.codec import to_json
from leti.core.device import ModelPrecision
from leti.core.errors import InvalidInput, MeasurementFailed
from leti.core.farm import Campaign, CampaignRequest, MeasurementRow
from leti.core.graph import Graph
from leti.generator.precision import precision_of

POLLS: Final = Backoff(0.25, 5.0)
"""The pauses between questions how far campaigns have come."""

PAGE: Final = 1000

MANY: Final = 40
"""Networks that are measured as often as asked for at the most."""


@final
@dataclass(frozen=True, slots=True)
class _Measured:
    """One measurement: in short, and what its calm passes took in ms, by the platform's reference latency."""

    row: MeasurementRow
    passes_ms: tuple[float, ...]


_Pair = tuple[_Measured, _Measured]
"""A measurement of a network, and one of the baseline."""


@final
class ServiceMeter(Meter):
    """Has networks measured by the service at the other end of ``client``, on the platforms that run each precision.

    A subject's graph is what is measured, with random weights; its file stays here. Every call has a campaign for each
    precision, called ``name`` with what it holds: the same call again goes on from what is measured by then. Networks
    are measured ``repeats`` times, apart in time, each time in a lease that has the baseline too: once where more than
    :data:`MANY` are asked for, such as hundreds of kernels whose latencies are added up.

    A ratio is the median over the leases of a network's ratio to the baseline of the same lease, with the interval of
    :func:`~leti.compression.measuring.medians.quotient_interval`. A network of another precision than the baseline has
    another platform: its ratio is that of two latencies, and its interval says nothing of how well the two platforms'
    reference latencies are known. Likewise where no lease has measurements of both.

    Where nothing is measured for ``patience_s``, and the device is silent or in quarantine, waiting ends.
    """

    takes_files = False

    def __init__(
        self,
        client: LatencyClient,
        platform_ids: Mapping[ModelPrecision, str],
        name: str = "compression",
        *,
        repeats: int = 2,
        patience_s: float = 60.0,
        polls: Backoff = POLLS,
    ) -> None:
        self._client = client
        self._platform_ids = dict(platform_ids)
        self._name = name
        self._repeats = repeats
        self._patience_s = patience_s
        self._polls = polls

    @override
    def measure(
        self, baseline: Subject, subjects: Sequence[Subject], *, progress: Progress | None = None
    ) -> tuple[Reading, ...]:
        own = precision_of(baseline.graph)
        graphs = {own: {baseline.graph.fingerprint(): baseline.graph}}
        for i, subject in enumerate((baseline, *subjects)):
            precision = precision_of(subject.graph)
            if precision not in self._platform_ids:
                known = ", ".join(self._platform_ids)
                field = f"subjects[{i - 1}]" if i else "baseline"
                raise InvalidInput(f"no platform of {precision} is known", field=field, remedy=f"known: {known}")
            graphs.setdefault(precision, {})[subject.graph.fingerprint()] = subject.graph
        campaigns = [
            self._begin(precision, tuple(of_it.values()), baseline.graph if precision == own else None)
            for precision, of_it in graphs.items()
        ]
        self._await(campaigns, 1 + len(subjects), progress)
        measured = self._measured(campaigns)
        of_baseline = self._of(baseline, "baseline", campaigns, measured)
        baseline_ms = statistics.median([each.row.latency_ms for each in _calm(of_baseline)])
        first = Reading(baseline_ms, 1.0, 1.0, 1.0, noisy=all(each.row.noisy for each in of_baseline))
        others = (
            _reading(self._of(subject, f"subjects[{i}]", campaigns, measured), of_baseline, baseline_ms)
            for i, subject in enumerate(subjects)
        )
        return (first, *others)

    def _begin(self, precision: ModelPrecision, graphs: Sequence[Graph], baseline: Graph | None) -> Campaign:
        """Create the campaign of one precision, or find it again."""
        given: list[dict[str, Any]] = [{"graph": to_json(graph)} for graph in graphs]
        beside = None if baseline is None else given[0]  # which comes first among those of its precision
        repeats = self._repeats if len(given) <= MANY else 1
        content = json.dumps([given, beside is not None, repeats], sort_keys=True)
        request = CampaignRequest(
            name=f"{self._name}, {precision} {hashlib.sha256(content.encode()).hexdigest()[:12]}",
            platform_id=self._platform_ids[precision],
            networks=tuple(given[1:] if beside and len(given) > 1 else given),
            repeats=repeats,
            repeat_share=1.0,
            profile=False,
            baseline=beside,
        )
        return self._client.create_campaign(request)

    def _await(self, campaigns: Sequence[Campaign], networks: int, progress: Progress | None) -> None:
        """Wait until nothing of the campaigns is left to measure; raise where their devices have gone."""
        told, done, delays, changed_s = -1, 0, self._polls.delays(), time.monotonic()
        found = list(campaigns)
        while True:
            jobs = sum(each.jobs for each in found)
            ended = jobs - sum(each.queued + each.leased for each in found)
            if ended != told:
                told, delays, changed_s = ended, self._polls.delays(), time.monotonic()
                done = max(done, networks * ended // jobs)  # leases add measurements of the baseline
                if progress is not None:
                    progress(done, networks)
            if all(each.finished for each in found):
                return
            if time.monotonic() - changed_s >= self._patience_s:
                self._check_devices({each.platform_id for each in found if not each.finished})
            time.sleep(next(delays))
            found = [each if each.finished else self._client.campaign(each.id) for each in found]

    def _check_devices(self, platform_ids: set[str]) -> None:
        for info in self._client.devices():
            if info.state in ("gone", "quarantined") and platform_ids.intersection(info.platforms):
                raise MeasurementFailed(
                    f"{info.device.name} is {info.state}" + (f": {info.reason}" if info.reason else ""),
                    remedy="start its agent, or release it; the same call goes on from what is measured",
                    failure="device-gone",
                )

    def _measured(self, campaigns: Sequence[Campaign]) -> dict[str, list[_Measured]]:
        """Return the measurements of campaigns that came on time, by fingerprint."""
        found: defaultdict[str, list[_Measured]] = defaultdict(list)
        for campaign in campaigns:
            for row in self._rows(campaign.id):
                if not row.late:
                    calm = self._client.measurement(row.id).calm_passes
                    reference_ms = row.latency_ms / row.ratio
                    found[row.fingerprint].append(_Measured(row, tuple(each.ratio * reference_ms for each in calm)))
        return dict(found)

    def _rows(self, campaign_id: int) -> Iterator[MeasurementRow]:
        cursor: int | None = None
        while True:
            page = self._client.measurements(campaign_id=campaign_id, cursor=cursor, limit=PAGE)
            yield from page.items
            if page.next is None:
                return
            cursor = page.next

    def _of(
        self,
        subject: Subject,
        name: str,
        campaigns: Sequence[Campaign],
        measured: Mapping[str, Sequence[_Measured]],
    ) -> Sequence[_Measured]:
        """Return the measurements of a subject; raise where there are none, and say why."""
        fingerprint = subject.graph.fingerprint()
        if fingerprint in measured:
            return measured[fingerprint]
        for campaign in campaigns:
            for job in self._client.failures(campaign.id, limit=PAGE):
                if job.fingerprint == fingerprint:
                    raise MeasurementFailed(
                        f"{job.kind}: {job.message}",
                        field=name,
                        remedy=f"leti jobs retry --campaign {campaign.id}, and measure again",
                        failure=job.kind,
                    )
        names = " and ".join(repr(campaign.name) for campaign in campaigns)
        raise MeasurementFailed(f"was cancelled in {names}", field=name, remedy="leti jobs retry", failure="other")


def _reading(measured: Sequence[_Measured], of_baseline: Sequence[_Measured], baseline_ms: float) -> Reading:
    """Return what measurements of a network, and of the baseline, come to: those of the same leases if there are."""
    beside = {each.row.lease_id: each for each in of_baseline}
    platform_id = of_baseline[0].row.platform_id
    pairs = [
        (each, beside[each.row.lease_id])
        for each in measured
        if each.row.platform_id == platform_id and each.row.lease_id in beside
    ]
    if pairs:
        calm = [(one, other) for one, other in pairs if not (one.row.noisy or other.row.noisy)]
        chosen = calm or pairs
        ratio = statistics.median([one.row.latency_ms / other.row.latency_ms for one, other in chosen])
        low, high = quotient_interval([(one.passes_ms, other.passes_ms) for one, other in chosen])
        return Reading(ratio * baseline_ms, ratio, min(low, ratio), max(high, ratio), noisy=not calm)
    ratio = statistics.median([each.row.latency_ms for each in _calm(measured)]) / baseline_ms
    low, high = quotient_interval([(_pooled(measured), _pooled(of_baseline))])
    noisy = all(each.row.noisy for each in measured)
    return Reading(ratio * baseline_ms, ratio, min(low, ratio), max(high, ratio), is_interleaved=False, noisy=noisy)


def _calm(measured: Sequence[_Measured]) -> Sequence[_Measured]:
    """Return those that are not noisy, all of them where every one is."""
    return [each for each in measured if not each.row.noisy] or measured


def _pooled(measured: Sequence[_Measured]) -> list[float]:
    return [taken_ms for each in _calm(measured) for taken_ms in each.passes_ms]
