"""A platform's measurements: what latency goes with, how far it repeats, and how the platform fares over time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, final
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from leti.core.errors import NotFound
from leti.service.dashboard.figures import Figure
from leti.service.dashboard.figures.clouds import Colour, Spacing
from leti.service.dashboard.figures.costs import against_accuracy, against_macs, against_memory, histogram
from leti.service.dashboard.figures.over_time import drift_over_time, left_out, no_predictor, reference_over_time
from leti.service.dashboard.figures.repeats import repeats
from leti.service.dashboard.platform_head import head_of
from leti.service.dashboard.rendering import HOME, figure, page
from leti.service.routes.networks import TASK
from leti.service.routes.parts import GivenParts, Parts, PlatformId

router = APIRouter(prefix=f"{HOME}/platforms")

DAYS: Final = 365.0
SCORED: Final = 2_000
"""Networks measured last, in so many days, whose predictions are held against what was found."""


@final
@dataclass(frozen=True, slots=True)
class Chosen:
    """What a figure is asked to show: the state that stands in the page's address."""

    colour: Colour
    spacing: Spacing
    task: str


GivenColour = Annotated[Colour, Query()]
GivenSpacing = Annotated[Spacing, Query()]
GivenTask = Annotated[str, Query(pattern=f"^({TASK})?$")]


def _accuracy(parts: Parts, platform_id: str, chosen: Chosen) -> Figure:
    return against_accuracy(
        parts.store.truths.accuracies(platform_id, chosen.task), chosen.task, chosen.colour, chosen.spacing
    )


def _repeats(parts: Parts, platform_id: str, chosen: Chosen) -> Figure:
    found = parts.store.platforms.get(platform_id).repeatability
    return repeats(parts.store.truths.runs(platform_id), found, chosen.spacing)


def _drift(parts: Parts, platform_id: str, _chosen: Chosen) -> Figure:
    if parts.store.predictors.active(platform_id) is None:
        return no_predictor()
    return drift_over_time(parts.searching.scorer.drift(platform_id, None, days=DAYS, last=SCORED, worst=0))


@final
@dataclass(frozen=True, slots=True)
class Drawn:
    """A figure of the page: its title while it is not loaded, and what draws it."""

    title: str
    draw: Callable[[Parts, str, Chosen], Figure]


FIGURES: Final[Mapping[str, Drawn]] = {
    "macs": Drawn("Latency against MACs", lambda p, id, c: against_macs(p.store.truths.all(id), c.colour, c.spacing)),
    "memory": Drawn(
        "Latency against peak memory", lambda p, id, c: against_memory(p.store.truths.all(id), c.colour, c.spacing)
    ),
    "accuracy": Drawn("Latency against accuracy", _accuracy),
    "histogram": Drawn("Latencies", lambda p, id, c: histogram(p.store.truths.all(id))),
    "repeats": Drawn("Run 1 against run 2", _repeats),
    "left-out": Drawn("Measurements that do not count", lambda p, id, c: left_out(p.store.truths.times(id))),
    "reference": Drawn(
        "The reference network over time", lambda p, id, c: reference_over_time(p.store.truths.times(id))
    ),
    "drift": Drawn("Predictions against later measurements", _drift),
}
"""The page's figures by their names in addresses."""

SECTIONS: Final = (
    ("What latency goes with", ("macs", "memory", "accuracy", "histogram")),
    ("How far it repeats", ("repeats", "left-out")),
    ("Over time", ("reference", "drift")),
)


@router.get("/{platform_id}/measurements")
def show(
    request: Request,
    platform_id: PlatformId,
    parts: GivenParts,
    colour: GivenColour = "density",
    spacing: GivenSpacing = "value",
    task: GivenTask = "",
) -> Response:
    """Return the page; its figures come one by one."""
    head = head_of(parts.store, platform_id)
    tasks = parts.store.accuracies.tasks(platform_id)
    task = task or next(iter(tasks), "")
    query = urlencode({"colour": colour, "spacing": spacing, "task": task})
    here = f"{HOME}/platforms/{quote(platform_id, safe='')}/measurements"
    sections = [
        (title, [(f"{here}/{name}?{query}", FIGURES[name].title) for name in names]) for title, names in SECTIONS
    ]
    return page(
        request,
        "measurements.html",
        head=head,
        sections=sections,
        chosen=Chosen(colour, spacing, task),
        tasks=tasks if not task or task in tasks else (*tasks, task),
    )


@router.get("/{platform_id}/measurements/{name}")
def draw(
    request: Request,
    platform_id: PlatformId,
    name: str,
    parts: GivenParts,
    colour: GivenColour = "density",
    spacing: GivenSpacing = "value",
    task: GivenTask = "",
) -> Response:
    """Return one figure."""
    if name not in FIGURES:
        raise NotFound(f"there is no figure {name[:40]!r}", field="name", remedy=", ".join(FIGURES))
    parts.store.platforms.platform(platform_id)
    return figure(request, FIGURES[name].draw(parts, platform_id, Chosen(colour, spacing, task)), name=name)
