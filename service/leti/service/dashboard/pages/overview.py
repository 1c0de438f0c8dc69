"""The overview: every platform, how far its predictor can be trusted, and what the farm does now."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from leti.core.farm import DeviceInfo
from leti.core.training import PredictorInfo
from leti.core.wire import PlatformInfo
from leti.service.dashboard.live import Live
from leti.service.dashboard.rendering import HEADERS, HOME, page, render
from leti.service.routes.parts import GivenParts, Parts
from leti.service.store.metrics import FarmState

router = APIRouter(prefix=HOME)

TOLERANCE: Final = "0.1"
FEWEST: Final = 20
"""Predictions scored since below which nothing is said of drift."""

WORSE: Final = 1.5
"""Times the error on the holdout from which on an error since is called out."""


@final
@dataclass(frozen=True, slots=True)
class Card:
    """A platform at a glance; shares are within ±10 %, ``since`` is the median error of late, as a share."""

    platform: PlatformInfo
    device: DeviceInfo | None
    predictor: PredictorInfo | None
    repeatable: float | None
    since: float | None
    scored: int

    @property
    def drifts(self) -> bool:
        """Whether predictions of late are worse than on the holdout, by more than a little."""
        found = self.since is not None and self.predictor is not None and self.scored >= FEWEST
        return found and self.since > WORSE * self.predictor.metrics.mdape  # type: ignore[operator,union-attr]


@router.get("")
def show(request: Request, parts: GivenParts) -> Response:
    """Return the overview."""
    store, farm = parts.store, parts.store.metrics.read()
    cards = _cards(store.platforms.list(), store.devices.list(), store.predictors.actives(), farm)
    return page(request, "overview.html", cards=cards, service=str(request.base_url), **_now(farm, parts))


@router.get("/events")
async def listen(request: Request, parts: GivenParts) -> Response:
    """Stream what the farm does, as long as somebody looks."""

    def told(farm: FarmState) -> str:
        return render(request.scope, "overview_live.html", **_now(farm, parts))

    live: Live = request.app.state.live
    return StreamingResponse(live.events(told), headers=HEADERS, media_type="text/event-stream")


def _cards(
    platforms: Sequence[PlatformInfo],
    devices: Sequence[DeviceInfo],
    actives: Mapping[str, PredictorInfo],
    farm: FarmState,
) -> list[Card]:
    by_name = {info.device.name: info for info in devices}
    scored = {one.platform_id: one.errors for one in farm.scored}
    found = []
    for info in platforms:
        errors = scored.get(info.id, ())
        found.append(
            Card(
                platform=info,
                device=by_name.get(info.platform.device.name),
                predictor=actives.get(info.id),
                repeatable=info.repeatability.within.get(TOLERANCE) if info.repeatability else None,
                since=statistics.median(errors) if errors else None,
                scored=len(errors),
            )
        )
    return found


def _now(farm: FarmState, parts: Parts) -> dict[str, Any]:
    """Return what the live part shows: the farm, its jobs by state, and of how many devices something was heard."""
    gone_after_s = parts.settings.gone_after_s
    return {
        "farm": farm,
        "totals": {
            state: sum(one.jobs.get(state, 0) for one in farm.platforms) for state in ("queued", "leased", "failed")
        },
        "heard": sum(one.silent_s <= gone_after_s for one in farm.devices),
        "quarantined": sum(one.quarantined for one in farm.devices),
    }
