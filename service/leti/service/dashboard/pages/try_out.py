"""Trying a network: choices of a space, a spec or a model file, and at once its latency on every platform."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response

from leti.core.errors import InvalidInput, LetiError
from leti.core.farm import CampaignRequest
from leti.generator.spaces import get_space, space_names
from leti.generator.spaces.places import Place, described
from leti.service.catalogue import read_networks
from leti.service.dashboard.latencies import COVERAGE, find_latencies, latency_figure
from leti.service.dashboard.rendering import HOME, figure, page, placed, seen
from leti.service.dashboard.shares import shares_figure
from leti.service.dashboard.trial import Trial, Trials
from leti.service.dashboard.words import fingerprint as short
from leti.service.routes.parts import NAME, GivenParts, Parts, PathId

HERE: Final = f"{HOME}/try"

router = APIRouter(prefix=HERE)

MOST_REPEATS: Final = 20
"""Times that one network is measured from this page."""

Space = Annotated[str, Query(max_length=64)]
Choices = Annotated[list[str] | None, Query(max_length=1_000)]
Like = Annotated[str, Query(pattern="^([0-9a-f]{64})?$")]
Text = Annotated[str, Query(max_length=10_000)]
PlatformId = Annotated[str, Query(max_length=200, pattern=NAME)]
Said = Annotated[str, Form(max_length=10_000)]


@router.get("")
def show(
    request: Request,
    parts: GivenParts,
    space: Space = "",
    v: Choices = None,
    like: Like = "",
    network: Text = "",
    change: Annotated[str, Query(max_length=10)] = "",
    platform_id: PlatformId = "",
) -> Response:
    """Return a network's choices, and its latency on every platform; of the answer alone where that was asked for.

    With ``change``, lead to another network: a ``random`` one, or one of another choice (``mutate``).
    """
    trials = Trials(parts.store)
    more = {"platform_id": platform_id} if platform_id else {}
    try:
        if change == "random":
            return seen(_address(trials.drawn(get_space(space), like), more))
        trial = trials.read(space, v or (), like, network)
        if trial is not None and change == "mutate":
            return seen(_address(trials.mutated(trial), more))
    except LetiError as error:
        return _refused(request, parts, error, space=space, v=v or (), like=like, text=network)
    if trial is not None and not network and len(v or ()) != 1 and not _is_part(request):
        return seen(_address(trial, more))
    return _shown(request, parts, trial, platform_id)


@router.post("")
def take(request: Request, parts: GivenParts, network: Annotated[str, Form(max_length=1_000_000)] = "") -> Response:
    """Take a network as a text, and lead to it."""
    try:
        if not network.strip():
            raise InvalidInput("is empty", field="network", remedy="paste a spec, an architecture or a fingerprint")
        return seen(_address(Trials(parts.store).given(network)))
    except LetiError as error:
        return _refused(request, parts, error, text=network)


@router.get("/latencies")
def show_latencies(
    request: Request, parts: GivenParts, space: Space = "", v: Choices = None, like: Like = "", network: Text = ""
) -> Response:
    """Return the latency of a network on every platform, as a figure."""
    trial = _trial(parts, space, v or (), like, network)
    found = find_latencies(parts, trial.network, trial.zero)
    return figure(request, latency_figure(found.platforms, short(found.network.fingerprint)), name="latencies")


@router.get("/breakdown")
def show_breakdown(
    request: Request,
    parts: GivenParts,
    platform_id: PlatformId,
    space: Space = "",
    v: Choices = None,
    like: Like = "",
    network: Text = "",
) -> Response:
    """Return what the latency of a network on a platform is made of, as a figure."""
    trial = _trial(parts, space, v or (), like, network)
    return figure(request, shares_figure(parts, platform_id, trial.network, trial.zero), name="breakdown")


@router.get("/uploads/{upload_id}")
def show_upload(request: Request, parts: GivenParts, upload_id: PathId) -> Response:
    """Return how far the reading of a model file is; lead to its network once that is known."""
    upload = parts.store.uploads.get(upload_id)
    if upload.fingerprint is not None:
        address = f"{HERE}?network={upload.fingerprint}"
        return Response(headers={"hx-redirect": address}) if _is_part(request) else seen(address)
    worked = any(worker.present for worker in parts.store.workers.list())
    template = "try_reading.html" if _is_part(request) else "try_upload.html"
    return page(request, template, upload=upload, worked=worked)


@router.post("/keep")
def keep(parts: GivenParts, space: Said = "", v: Said = "", like: Said = "", network: Said = "") -> Response:
    """Keep the network, and lead to its page."""
    trial = _trial(parts, space, (v,), like, network)
    if not trial.space:
        return seen(f"{HOME}/networks/{trial.network}")
    (known,) = read_networks((trial.network,), trial.zero, "float32", limit=1)
    parts.store.networks.add([known])
    return seen(f"{HOME}/networks/{known.network.fingerprint}")


@router.post("/measure")
def measure(
    request: Request,
    parts: GivenParts,
    platform_id: Annotated[str, Form(max_length=200, pattern=NAME)],
    space: Said = "",
    v: Said = "",
    like: Said = "",
    network: Said = "",
    name: Annotated[str, Form(max_length=200)] = "",
    repeats: Annotated[str, Form(max_length=10)] = "4",
) -> Response:
    """Have the network measured on a platform, by a campaign of its own."""
    trial = _trial(parts, space, (v,), like, network)
    try:
        if not repeats.isdecimal() or not 1 <= int(repeats) <= MOST_REPEATS:
            raise InvalidInput(f"must be from 1 to {MOST_REPEATS}, not {repeats!r}", field="repeats")
        asked = CampaignRequest(
            name, platform_id, networks=(trial.network,), zero=trial.zero, repeats=int(repeats), repeat_share=1.0
        )
        campaign, _ = parts.planner.create(asked)
    except LetiError as error:
        typed = {"name": name, "repeats": repeats, "platform_id": platform_id}
        return _shown(request, parts, trial, platform_id, status=422, unmeasured=error, typed=typed)
    return seen(f"{HOME}/campaigns/{campaign.id}")


def _trial(parts: Parts, space: str, v: Sequence[str], like: str, network: str) -> Trial:
    found = Trials(parts.store).read(space, v, like, network)
    if found is None:
        raise InvalidInput("is missing", field="network", remedy="choose a search space, or give a network")
    return found


def _address(trial: Trial, more: dict[str, str] | None = None) -> str:
    return f"{HERE}?{trial.query}" + (f"&{urlencode(more)}" if more else "")


def _is_part(request: Request) -> bool:
    """Return whether a part of the page asks for itself anew."""
    return bool(request.headers.get("hx-target"))


def _groups(space: str) -> list[tuple[str, list[tuple[int, str, Place]]]]:
    """Return the places of a space by what they are of: each by its number and what it is called there."""
    places = list(enumerate(described(get_space(space))))

    def parted(one: tuple[int, Place]) -> str:
        return one[1].name.rpartition(", ")[0]

    return [
        (title, [(i, place.name.removeprefix(f"{title}, "), place) for i, place in group])
        for title, group in groupby(places, key=parted)
    ]


def _shown(
    request: Request,
    parts: Parts,
    trial: Trial | None,
    platform_id: str = "",
    *,
    status: int = 200,
    unmeasured: LetiError | None = None,
    typed: dict[str, str] | None = None,
) -> Response:
    """Return the page, or the answer alone, for a network."""
    context: dict[str, Any] = {"trial": trial, "error": None, "found": None, "unmeasured": unmeasured}
    context["coverage"] = COVERAGE
    if trial is not None:
        try:
            context |= _answered(parts, trial, platform_id, typed or {})
        except LetiError as error:
            context["error"], status = _named(error, trial.space), 422
    if _is_part(request):
        answer = page(request, "try_answer.html", status, **context)
        if trial is not None and context["error"] is None:
            more = {"platform_id": platform_id} if platform_id else None
            answer.headers["hx-push-url"] = _address(trial, more)
        return answer
    space = trial.space if trial else ""
    return _page(
        request,
        status,
        context,
        space=space,
        choices=trial.choices if trial else (),
        like=trial.like if trial else "",
        text="" if space or trial is None else str(trial.network),
    )


def _answered(parts: Parts, trial: Trial, platform_id: str, typed: dict[str, str]) -> dict[str, Any]:
    found = find_latencies(parts, trial.network, trial.zero)
    name = short(found.network.fingerprint)
    known = found.network.known().network
    ids = [one.platform_id for one in found.platforms]
    drawn = latency_figure(found.platforms, name)
    return {
        "found": found,
        "network": known,
        "graph": found.network.graph,
        "kept": known.fingerprint in parts.store.networks.find([known.fingerprint]),
        "platform_id": platform_id if platform_id in ids else ids[0],
        "latencies": placed(drawn, "latencies", f"{HERE}/latencies?{trial.query}&format=csv"),
        "typed": {"name": f"try {name}", "repeats": "4", "platform_id": platform_id or ids[0], **typed},
    }


def _refused(
    request: Request,
    parts: Parts,
    error: LetiError,
    *,
    space: str = "",
    v: Sequence[str] = (),
    like: str = "",
    text: str = "",
) -> Response:
    """Return what is wrong beside the field that it is in, with what was typed or chosen kept."""
    known = space if space in space_names() else ""
    context: dict[str, Any] = {"trial": None, "error": _named(error, known), "found": None, "unmeasured": None}
    if _is_part(request):
        return page(request, "try_answer.html", 422, **context)
    numbers = [int(one) if one.isdecimal() and len(one) < 5 else 0 for one in ",".join(v).split(",")]
    return _page(request, 422, context, space=known, choices=tuple(numbers), like=like, text=text)


def _named(error: LetiError, space: str) -> LetiError:
    """Return an error whose field is called what the form calls it."""
    field = error.field
    for prefix in ("networks[0]", "network", "choices"):
        field = field.removeprefix(prefix)
    number = field.strip("[]")
    if space and number.isdecimal() and int(number) < len(get_space(space).positions):
        error.field = described(get_space(space))[int(number)].name
    elif field != error.field:
        error.field = field.lstrip(".") or "network"
    return error


def _page(request: Request, status: int, context: dict[str, Any], **form: Any) -> Response:
    groups = _groups(form["space"]) if form["space"] else []
    return page(request, "try.html", status, spaces=space_names(), groups=groups, **form, **context)
