"""Two platforms compared on the networks that are measured on both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Final
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from leti.core.errors import NotFound
from leti.service.dashboard.figures import Figure
from leti.service.dashboard.figures.clouds import Colour
from leti.service.dashboard.figures.comparing import by_space, moved, side_by_side
from leti.service.dashboard.platform_head import head_of
from leti.service.dashboard.rendering import HOME, figure, page
from leti.service.routes.parts import NAME, GivenParts, PlatformId
from leti.service.store.truth_columns import CommonColumns

router = APIRouter(prefix=f"{HOME}/platforms")

Other = Annotated[str, Query(alias="with", max_length=200, pattern=NAME)]

FIGURES: Final[Mapping[str, tuple[str, Callable[[CommonColumns, str, str, Colour], Figure]]]] = {
    "latencies": ("Latency on both platforms", side_by_side),
    "spaces": ("Agreement by space", lambda known, here, there, _: by_space(known, here, there)),
    "moved": ("Networks that change their rank most", lambda known, here, there, _: moved(known, here, there)),
}
"""The page's figures by their names in addresses: what each is called, and what draws it."""


@router.get("/{platform_id}/compare")
def show(
    request: Request, platform_id: PlatformId, parts: GivenParts, other: Other = "", colour: Colour = "density"
) -> Response:
    """Return the page: the other platform is the first one, where none is named."""
    head = head_of(parts.store, platform_id)
    others = [info for info in parts.store.platforms.list() if info.id != platform_id]
    if other and other not in [info.id for info in others]:
        raise NotFound(f"there is no other platform {other!r}", field="with", remedy="choose one of those in the list")
    measured = sorted(others, key=lambda info: -info.networks_measured)
    other = other or next((info.id for info in measured), "")
    query = urlencode({"with": other, "colour": colour})
    here = f"{HOME}/platforms/{quote(platform_id, safe='')}/compare"
    figures = [(f"{here}/{name}?{query}", title) for name, (title, _) in FIGURES.items()] if other else []
    shared = parts.store.truths.shared(platform_id, other) if other else 0
    return page(
        request, "compare.html", head=head, others=others, other=other, colour=colour, figures=figures, shared=shared
    )


@router.get("/{platform_id}/compare/{name}")
def draw(
    request: Request,
    platform_id: PlatformId,
    name: str,
    parts: GivenParts,
    other: Other,
    colour: Colour = "density",
) -> Response:
    """Return one figure."""
    if name not in FIGURES:
        raise NotFound(f"there is no figure {name[:40]!r}", field="name", remedy=", ".join(FIGURES))
    known = parts.store.truths.common(platform_id, other)
    return figure(request, FIGURES[name][1](known, platform_id, other, colour), name=name)
