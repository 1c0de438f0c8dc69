"""How far the predictors of a platform can be trusted: all of them side by side, and one of them looked into."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, final

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response

from leti.core.codec import from_json
from leti.core.datasets import DatasetInfo
from leti.core.errors import Conflict, InvalidInput, LetiError, NotFound, TooFewMeasurements, TooManyRequests
from leti.core.measurement import Repeatability
from leti.core.tasks import Task
from leti.core.training import PredictorInfo, TrainingReport, TrainingRequest
from leti.predictors import registry
from leti.service.dashboard.figures import Figure
from leti.service.dashboard.figures.accuracy import errors_of, scatter, shares, worst_first
from leti.service.dashboard.figures.errors import by_kind, by_latency, by_space, coverage
from leti.service.dashboard.platform_head import Head, head_of
from leti.service.dashboard.rendering import HOME, figure, page, seen
from leti.service.dashboard.verdict import Verdict, judge
from leti.service.gate.access import GivenCaller
from leti.service.problems import STATUSES
from leti.service.routes.parts import MAX_ID, GivenParts, PathId, PlatformId
from leti.service.sources import ADAPTED
from leti.service.store import Store
from leti.service.store.holdouts import HoldoutColumns
from leti.service.store.predictors import check_platform

router = APIRouter(prefix=f"{HOME}/platforms/{{platform_id}}")

WORST: Final = 15
"""Worst predictions that are listed."""

TRAININGS: Final = 50
"""Newest trainings among which one with a learning curve is sought."""

_REFUSALS: Final = (InvalidInput, Conflict, NotFound, TooFewMeasurements, TooManyRequests)

FIGURES: Final[Mapping[str, Callable[[PredictorInfo, HoldoutColumns], Figure]]] = {
    "scatter": scatter,
    "by-latency": by_latency,
    "by-space": by_space,
    "by-kind": by_kind,
    "coverage": coverage,
}
"""Figures of one predictor's holdout."""

Chosen = Annotated[int | None, Query(ge=1, le=MAX_ID)]


@final
@dataclass(frozen=True, slots=True)
class Shown:
    """The predictors of one dataset, the simplest first, and the one that is looked into."""

    dataset: DatasetInfo
    infos: tuple[PredictorInfo, ...]
    picked: PredictorInfo
    ceiling: Repeatability | None
    verdict: Verdict
    datasets: Mapping[int, tuple[int, int]]
    """The networks that train and that are held out, by the dataset's number, the newest first."""


@final
@dataclass(frozen=True, slots=True)
class Bad:
    """A prediction that is far off."""

    fingerprint: str
    space: str
    measured_ms: float
    latency_ms: float
    error: float
    inside: bool


@router.get("")
def show(
    request: Request, parts: GivenParts, platform_id: PlatformId, dataset: Chosen = None, predictor: Chosen = None
) -> Response:
    """Return the page on accuracy."""
    return _page(request, parts.store, head_of(parts.store, platform_id), dataset, predictor)


@router.get("/predictors/{predictor_id}/{name}")
def draw(
    request: Request, parts: GivenParts, platform_id: PlatformId, predictor_id: PathId, name: str, small: bool = False
) -> Response:
    """Return a figure of one predictor's holdout; as a file, predicted against measured has every network."""
    info = parts.store.predictors.get(predictor_id)
    check_platform(info, platform_id)
    if name not in FIGURES:
        raise NotFound(f"there is no figure {name[:40]!r}", field="name", remedy=", ".join(FIGURES))
    holdout = parts.store.holdouts.columns(predictor_id)
    if name == "scatter":
        drawn = scatter(info, holdout, whole=request.query_params.get("format") == "csv", small=small)
    else:
        drawn = FIGURES[name](info, holdout)
    return figure(request, drawn, name=f"{info.kind}-{info.version}-{name}{'-small' * small}")


@router.get("/shares")
def draw_shares(request: Request, parts: GivenParts, platform_id: PlatformId, dataset: Chosen = None) -> Response:
    """Return the figure of all predictors of a dataset."""
    head = head_of(parts.store, platform_id)
    shown = _shown(parts.store, head, dataset, None)
    infos = () if shown is None else shown.infos
    drawn = shares(infos, [_called(one, infos) for one in infos], None if shown is None else shown.ceiling)
    return figure(request, drawn, name="shares")


@router.post("/learning-curve")
def ask_curve(
    request: Request,
    parts: GivenParts,
    caller: GivenCaller,
    platform_id: PlatformId,
    dataset: Annotated[int, Form(ge=1, le=MAX_ID)],
    kind: Annotated[str, Form(max_length=80)],
) -> Response:
    """Queue a training of one kind on a dataset that draws its learning curve; who serves stays who it is."""
    wanted = TrainingRequest(platform_id, (kind,), activate=False, learning_curve=True, dataset_id=dataset)
    try:
        parts.trainer.check(wanted)
        parts.store.tasks.add("train", platform_id, wanted, by=caller.name)
    except _REFUSALS as error:
        return _page(request, parts.store, head_of(parts.store, platform_id), dataset, None, error)
    return seen(f"{HOME}/platforms/{platform_id}?dataset={dataset}#learning-curve")


def _page(
    request: Request,
    store: Store,
    head: Head,
    dataset: int | None,
    predictor: int | None,
    refused: LetiError | None = None,
) -> Response:
    shown = _shown(store, head, dataset, predictor)
    status = 200 if refused is None else STATUSES[type(refused)]
    if shown is None:
        return page(request, "platform.html", status, head=head, shown=None, refused=refused)
    return page(
        request,
        "platform.html",
        status,
        head=head,
        shown=shown,
        refused=refused,
        worst=_worst(store.holdouts.columns(shown.picked.id)),
        curve=_drawn_curve(store, head.id, shown.dataset.id),
        awaited=_awaited_curve(store, head.id),
        curved=_best_single(shown.infos),
    )


def _shown(store: Store, head: Head, dataset_id: int | None, predictor_id: int | None) -> Shown | None:
    """Return what is shown: of what is asked for, else of the newest dataset; ``None`` where there is no predictor."""
    infos = store.predictors.list(head.id)
    if not infos:
        return None
    picked = None
    if predictor_id is not None:
        picked = next((one for one in infos if one.id == predictor_id), None)
        if picked is None:
            raise NotFound(f"this platform has no predictor {predictor_id}", field="predictor")
        dataset_id = picked.dataset_id
    if dataset_id is None:
        dataset_id = max(one.dataset_id for one in infos)
    ranks = {kind: i for i, kind in enumerate(registry.known_kinds())}
    of_dataset = sorted(
        (one for one in infos if one.dataset_id == dataset_id),
        key=lambda one: (ranks.get(one.kind, len(ranks)), one.version),
    )
    if not of_dataset:
        raise NotFound(f"this platform has no predictor of dataset {dataset_id}", field="dataset")
    if picked is None:
        best = min(of_dataset, key=lambda one: one.cross_validation_mdape)
        picked = next((one for one in of_dataset if one.active), best)
    dataset = store.datasets.get(dataset_id)
    ceiling = dataset.repeatability or head.info.repeatability
    by_id = {one.id: ranks.get(one.kind, len(ranks)) for one in of_dataset}
    verdict = judge(of_dataset, store.holdouts.shared(dataset_id, list(by_id)), ceiling, by_id)
    sizes = {one.dataset_id: (one.metrics.n_train, one.metrics.n_test) for one in reversed(infos)}
    return Shown(dataset, tuple(of_dataset), picked, ceiling, verdict, sizes)


def _called(info: PredictorInfo, infos: Sequence[PredictorInfo]) -> str:
    """Return a name that tells a predictor from the others of its dataset."""
    alone = sum(one.kind == info.kind for one in infos) == 1
    return info.kind if alone else f"{info.kind} {info.version}"


def _worst(holdout: HoldoutColumns) -> list[Bad]:
    error = errors_of(holdout)
    return [
        Bad(
            holdout.fingerprint[i],
            holdout.space[i],
            holdout.measured_ms[i],
            holdout.latency_ms[i],
            float(error[i]),
            holdout.low_ms[i] <= holdout.measured_ms[i] <= holdout.high_ms[i],
        )
        for i in worst_first(holdout)[:WORST]
    ]


def _report(task: Task) -> TrainingReport | None:
    done = task.kind == "train" and task.report is not None
    return from_json(TrainingReport, task.report) if done else None


def _drawn_curve(store: Store, platform_id: str, dataset_id: int) -> tuple[Task, TrainingReport] | None:
    """Return the newest training that drew a learning curve, of the dataset if there is one."""
    found = store.tasks.page(
        platform_id=platform_id, kind="train", state="done", cursor=0, limit=TRAININGS, newest_first=True
    )
    asked = (task for task in found.items if task.request["learning_curve"])
    drawn = [(task, report) for task in asked if (report := _report(task)) is not None and report.learning_curve]
    return next((one for one in drawn if one[1].dataset_id == dataset_id), drawn[0] if drawn else None)


def _awaited_curve(store: Store, platform_id: str) -> Task | None:
    """Return a training that is to draw a learning curve and has not ended."""
    for state in ("running", "queued"):
        found = store.tasks.page(platform_id=platform_id, kind="train", state=state, cursor=0, limit=TRAININGS)
        for task in found.items:
            if task.request["learning_curve"]:
                return task
    return None


def _best_single(infos: Sequence[PredictorInfo]) -> PredictorInfo | None:
    """Return the predictor whose kind a learning curve is drawn of: the best that is no mix and adapts nothing."""
    single = [one for one in infos if one.kind not in (registry.MIX, ADAPTED)]
    return min(single, key=lambda one: one.cross_validation_mdape, default=None)
