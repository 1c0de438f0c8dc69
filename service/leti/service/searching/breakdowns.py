"""Breakdowns: what a predicted latency is made of, kernel by kernel where a predictor of the platform can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, final

from leti.core.errors import ArtifactError, LetiError, NotPredictable
from leti.core.graph import Graph
from leti.core.measurement import OperatorTime
from leti.core.prediction import Breakdown, Explains, Predictor, Share
from leti.core.queries import ItemFailure, PredictionRequest
from leti.core.searching import BreakdownRequest, BreakdownResponse, LayerShare, NetworkBreakdown
from leti.core.training import PredictorInfo
from leti.generator.describe import op_title, type_text
from leti.service.answering import Answerer, Named
from leti.service.answering.answers import NOTHING, Answer
from leti.service.answering.reading import Reader
from leti.service.problems import problem
from leti.service.searching.predictors import find_candidates
from leti.service.serving import LoadedPredictors
from leti.service.settings import GraphLimits
from leti.service.store import Store

MAX_NETWORKS: Final = 100
"""Networks that one request may have taken apart."""

MAX_TITLES: Final = 6
"""Operators that a description names."""

Grain = Literal["operators", "features"]


@final
@dataclass(frozen=True, slots=True)
class _Told:
    """A predictor that can tell, and of what."""

    info: PredictorInfo
    predictor: Explains
    grain: Grain


@final
class Explainer:
    """Takes latencies apart."""

    def __init__(self, store: Store, loaded: LoadedPredictors, answerer: Answerer, graphs: GraphLimits) -> None:
        self._store = store
        self._loaded = loaded
        self._answerer = answerer
        self._reader = Reader(store, limit=MAX_NETWORKS, graphs=graphs)
        self._grains: dict[str, Grain | None] = {}

    def explain(self, request: BreakdownRequest) -> BreakdownResponse:
        """Return a breakdown of each network: by the predictor that is named, else by one that can tell of kernels.

        Raises :class:`NotFound` for platform and predictor, :class:`InvalidInput` for a predictor of another platform
        and where no network can be read, and :class:`NotPredictable` where no trained predictor can tell.
        """
        platform = self._store.platforms.platform(request.platform_id)
        asked = PredictionRequest(
            (request.platform_id,), request.networks, request.encodings, request.zero, patches=request.patches
        )
        candidates = find_candidates(self._store, request.platform_id, request.predictor_id)
        items = self._reader.read(asked, platform.model_precision).items
        named = {index: item for index, item in enumerate(items) if not isinstance(item, LetiError)}
        failures = [
            ItemFailure(index, "read", problem(item)) for index, item in enumerate(items) if isinstance(item, LetiError)
        ]
        if not named:
            raise failures[0].problem.error()
        told = self._choose(candidates, next(iter(named.values())).graph)
        answers = self._answerer.answer(asked)
        served = answers.column(answers.platforms[0])
        profiles = self._store.measurements.operator_times(
            request.platform_id, list(dict.fromkeys(item.fingerprint for item in named.values()))
        )
        found: list[NetworkBreakdown] = []
        for index, breakdown in _explain(told.predictor, named).items():
            if isinstance(breakdown, LetiError):
                failures.append(ItemFailure(index, "predict", problem(breakdown)))
                continue
            item, answer = named[index], served[index]
            found.append(
                NetworkBreakdown(
                    index=index,
                    fingerprint=item.fingerprint,
                    latency_ms=breakdown.latency_ms,
                    shares=_shares(item.graph, breakdown, profiles.get(item.fingerprint, ()), platform.runtime),
                    served_ms=answer.latency_ms,
                    source=_source(answer),
                )
            )
        return BreakdownResponse(
            platform_id=request.platform_id,
            predictor_id=told.info.id,
            predictor=told.info.kind,
            version=told.info.version,
            active=told.info.active,
            grain=told.grain,
            items=tuple(found),
            failures=tuple(sorted(failures, key=lambda failure: failure.index)),
        )

    def _choose(self, candidates: Sequence[PredictorInfo], graph: Graph) -> _Told:
        """Return the first candidate that can tell of kernels, else the first that can tell of features."""
        of_features: _Told | None = None
        reason: LetiError | None = None
        for info in candidates:
            if self._grains.get(info.artifact_sha256, "unknown") is None:
                continue
            try:
                predictor = self._loaded.get(info.artifact_sha256)
                grain = self._grain(info, predictor, graph)
            except (ArtifactError, NotPredictable) as error:
                reason = reason or error
                continue
            if grain is None or not isinstance(predictor, Explains):
                continue
            if grain == "operators":
                return _Told(info, predictor, grain)
            of_features = of_features or _Told(info, predictor, grain)
        if of_features is not None:
            return of_features
        kinds = ", ".join(dict.fromkeys(info.kind for info in candidates))
        raise NotPredictable(
            f"{kinds} cannot say what a latency is made of" + (f" ({reason.message})" if reason else ""),
            field="predictor_id",
            remedy="train a kind that can: lookup_table or kernel_sum",
        ) from reason

    def _grain(self, info: PredictorInfo, predictor: Predictor, graph: Graph) -> Grain | None:
        """Return what a predictor tells of; ``None`` where it never does. Raises :class:`NotPredictable`."""
        known = self._grains.get(info.artifact_sha256)
        if known is not None:
            return known
        grain: Grain | None = None
        if isinstance(predictor, Explains):
            (breakdown,) = predictor.explain([graph])
            grain = "operators" if any(share.operators for share in breakdown.shares) else "features"
        self._grains[info.artifact_sha256] = grain
        return grain


def _explain(predictor: Explains, named: Mapping[int, Named]) -> dict[int, Breakdown | LetiError]:
    """Return the breakdown of each network, or why there is none: all in one call where all can be had."""
    try:
        return dict(zip(named, predictor.explain([item.graph for item in named.values()]), strict=True))
    except NotPredictable:
        return {index: _explain_one(predictor, item.graph) for index, item in named.items()}


def _explain_one(predictor: Explains, graph: Graph) -> Breakdown | LetiError:
    try:
        return predictor.explain([graph])[0]
    except NotPredictable as error:
        return error.with_traceback(None)


def _source(answer: Answer) -> Literal["measured", "predicted", "none"]:
    if answer is NOTHING:
        return "none"
    return "measured" if answer.measured else "predicted"


def _shares(
    graph: Graph, breakdown: Breakdown, profile: Sequence[OperatorTime], runtime: str
) -> tuple[LayerShare, ...]:
    measured = _measured_ms(graph, profile, runtime) if profile else {}
    return tuple(
        LayerShare(
            share.name,
            share.latency_ms,
            share.operators,
            describe(graph, share),
            measured.get(frozenset(share.operators)),
        )
        for share in breakdown.shares
    )


def _measured_ms(graph: Graph, profile: Sequence[OperatorTime], runtime: str) -> dict[frozenset[int], float]:
    """Return what a profile says of kernels, by their operators; nothing where it does not match the graph."""
    from leti.predictors.profiles.matching import kernel_times_ms  # brings numpy
    from leti.predictors.profiles.runtime_names import kernels_of

    times = kernel_times_ms(graph, profile, runtime=runtime)
    if times is None:
        return {}
    return dict(zip(map(frozenset, kernels_of(graph)), times, strict=True))


def describe(graph: Graph, share: Share) -> str:
    """Return the kinds of a share's operators, and the shapes that go in and come out; "" where it is of none."""
    ops = [graph.ops[number] for number in share.operators]
    if not ops:
        return ""
    titles = [op_title(op) for op in ops[:MAX_TITLES]]
    if len(ops) > MAX_TITLES:
        titles.append(f"{len(ops) - MAX_TITLES} more")
    shapes = [", ".join(map(type_text, tensors)) for tensors in (ops[0].inputs, ops[-1].outputs) if tensors]
    return f"{' + '.join(titles)}: {' → '.join(shapes)}"
