"""Predictors: how each did, which one serves and did before; trained, judged, promoted and rolled back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, final

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from leti.core.errors import ArtifactError, LetiError, NotPredictable
from leti.core.training import EvaluationRequest, PromotionPage, TrainingRequest
from leti.predictors import registry
from leti.service.dashboard.figures.attributions import attributions, untold
from leti.service.dashboard.filters import ROWS, Before, Name, pager, status_of
from leti.service.dashboard.rendering import HOME, figure, page, seen
from leti.service.gate.access import GivenCaller
from leti.service.routes.parts import GivenParts, Parts, PathId
from leti.service.routes.predictors import queue_training
from leti.service.routes.tasks import queue_evaluation

router = APIRouter(prefix=f"{HOME}/predictors")

PROMOTIONS: Final = 20
"""Promotions that are shown at once."""

PlatformField = Annotated[str, Form(max_length=200)]


@final
@dataclass(frozen=True, slots=True)
class Asked:
    """What was typed into the form of a training."""

    platform_id: str = ""
    kinds: tuple[str, ...] = ()
    learning_curve: bool = False
    activate: bool = True


@router.get("")
def show(
    request: Request,
    parts: GivenParts,
    platform_id: Name = None,
    kind: Name = None,
    before: Before = 0,
    promoted_before: Before = 0,
) -> Response:
    """Return predictors, the newest first, and which of them served."""
    return _list(request, parts, platform_id=platform_id, kind=kind, before=before, promoted_before=promoted_before)


@router.post("/train")
def train(
    request: Request,
    parts: GivenParts,
    caller: GivenCaller,
    platform_id: PlatformField = "",
    kinds: Annotated[Sequence[str], Form()] = (),
    learning_curve: Annotated[bool, Form()] = False,
    activate: Annotated[bool, Form()] = False,
) -> Response:
    """Queue a training, and lead to its task."""
    wanted = TrainingRequest(platform_id, tuple(kinds), activate=activate, learning_curve=learning_curve)
    try:
        task = queue_training(parts, wanted, by=caller.name)
    except LetiError as error:
        asked = Asked(platform_id, tuple(kinds), learning_curve, activate)
        return _list(request, parts, asked=asked, refused={"train": error})
    return seen(f"{HOME}/tasks/{task.id}")


@router.post("/evaluate")
def evaluate(
    request: Request,
    parts: GivenParts,
    caller: GivenCaller,
    platform_id: PlatformField = "",
    every: Annotated[bool, Form()] = False,
) -> Response:
    """Queue an evaluation, and lead to its task."""
    try:
        task = queue_evaluation(parts, EvaluationRequest(platform_id, every), by=caller.name)
    except LetiError as error:
        return _list(request, parts, asked=Asked(platform_id), refused={"evaluate": error})
    return seen(f"{HOME}/tasks/{task.id}")


@router.post("/roll-back")
def roll_back(request: Request, parts: GivenParts, caller: GivenCaller, platform_id: PlatformField = "") -> Response:
    """Make the predictor serve a platform again that did before."""
    try:
        info = parts.store.predictors.roll_back(platform_id, by=caller.name)
    except LetiError as error:
        return _list(request, parts, asked=Asked(platform_id), refused={"roll-back": error})
    return seen(f"{HOME}/predictors/{info.id}")


@router.get("/{predictor_id}")
def show_one(request: Request, predictor_id: PathId, parts: GivenParts) -> Response:
    """Return a predictor: what it was trained on, how it did, when it served."""
    return _one(request, parts, predictor_id)


@router.get("/{predictor_id}/attributions")
def draw_attributions(request: Request, predictor_id: PathId, parts: GivenParts) -> Response:
    """Return what a predictor's latencies are made of."""
    info = parts.store.predictors.get(predictor_id)
    try:
        drawn = attributions(info, parts.searching.attributions.of(info))
    except (NotPredictable, ArtifactError) as error:
        drawn = untold(info, error.message)
    return figure(request, drawn, name=f"attributions-{predictor_id}")


@router.post("/{predictor_id}/promote")
def promote(request: Request, predictor_id: PathId, parts: GivenParts, caller: GivenCaller) -> Response:
    """Make a predictor the one that its platform serves."""
    try:
        parts.store.predictors.promote(predictor_id, by=caller.name)
    except LetiError as error:
        return _one(request, parts, predictor_id, error)
    return seen(f"{HOME}/predictors/{predictor_id}")


def _one(request: Request, parts: Parts, predictor_id: int, error: LetiError | None = None) -> Response:
    info = parts.store.predictors.get(predictor_id)
    promotions = parts.store.predictors.promotions(info.platform_id, predictor_id=info.id, cursor=0, limit=PROMOTIONS)
    return page(
        request,
        "predictor.html",
        status_of(error),
        info=info,
        dataset=parts.store.datasets.get(info.dataset_id),
        platform=parts.store.platforms.get(info.platform_id),
        promotions=promotions.items,
        error=error,
    )


def _list(
    request: Request,
    parts: Parts,
    *,
    platform_id: str | None = None,
    kind: str | None = None,
    before: int = 0,
    promoted_before: int = 0,
    asked: Asked | None = None,
    refused: dict[str, LetiError] | None = None,
) -> Response:
    store = parts.store
    found = store.predictors.page(platform_id=platform_id, kind=kind, cursor=before, limit=ROWS, newest_first=True)
    platforms = {info.id: info for info in store.platforms.list()}
    typed = asked or Asked(platform_id or "")
    of = platform_id or typed.platform_id or (next(iter(platforms)) if len(platforms) == 1 else "")
    served: PromotionPage | None = None
    if of in platforms:
        served = store.predictors.promotions(of, cursor=promoted_before, limit=PROMOTIONS)
    return page(
        request,
        "predictors.html",
        status_of(next(iter((refused or {}).values()), None)),
        predictors=found.items,
        pager=pager(request, router.prefix, before, found.next),
        platforms=platforms,
        kinds=registry.known_kinds(),
        trainable=registry.kinds(sources=True),
        costly={kind for kind, entry in registry.PREDICTORS.items() if entry.costly},
        chosen={"platform_id": platform_id, "kind": kind},
        served_platform=of if served else "",
        promotions=served.items if served else (),
        served_pager=pager(request, router.prefix, promoted_before, served.next if served else None, "promoted_before"),
        asked=typed,
        refused=refused or {},
    )
