"""Serving: a latency for each network that is asked for, measured where it is known, predicted where it is not."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

from leti.core.errors import InvalidInput, NotFound
from leti.core.graph import Graph
from leti.core.measurement import Truth
from leti.core.prediction import Prediction, Predictor
from leti.core.queries import PredictionItem, PredictionRequest, PredictionResponse
from leti.core.training import PredictorInfo
from leti.service.catalogue import read_networks
from leti.service.settings import Settings
from leti.service.store import KnownNetwork, Store

LOADED = 8
"""Predictors that stay loaded."""


@final
class LoadedPredictors:
    """Predictors by the SHA-256 of their content, loaded when first asked for; those asked for last stay loaded."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loaded: OrderedDict[str, Predictor] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, sha256: str) -> Predictor:
        """Return a predictor; raise :class:`ArtifactError` where its files are gone or damaged."""
        with self._lock:
            if sha256 not in self._loaded:
                from leti.predictors import artifacts

                self._loaded[sha256] = artifacts.load(self._folder / sha256, sha256)
                if len(self._loaded) > LOADED:
                    self._loaded.popitem(last=False)
            self._loaded.move_to_end(sha256)
            return self._loaded[sha256]


@final
class Answerer:
    """Answers requests for latencies: the truth where there is one, else one call of one predictor for all the rest."""

    def __init__(self, store: Store, loaded: LoadedPredictors, settings: Settings) -> None:
        self._store = store
        self._loaded = loaded
        self._settings = settings

    def answer(self, request: PredictionRequest) -> PredictionResponse:
        """Return an item for each network, in order, and keep what was predicted to be scored later.

        Networks are taken in the precision of the platform's models.
        Raises :class:`NotFound` for the platform, for the predictor, and where no predictor is active but one is
        needed; :class:`InvalidInput` naming the field; :class:`NotPredictable`.
        """
        if not 0 < request.coverage < 1:
            raise InvalidInput(f"must be between 0 and 1, not {request.coverage}", field="coverage")
        platform = self._store.platforms.platform(request.platform_id)
        chosen = None if request.predictor_id is None else self._named(request.platform_id, request.predictor_id)
        limit = self._settings.max_batch
        known = read_networks(request.networks, request.zero, platform.model_precision, limit=limit)
        unique = {item.network.fingerprint: item.graph for item in known}
        truths, reference_ms = self._store.measurements.truths(request.platform_id, list(unique))
        asked = {fingerprint: graph for fingerprint, graph in unique.items() if fingerprint not in truths}
        answers: Mapping[str, Prediction] = {}
        if asked:
            info = chosen or self._active(request.platform_id, len(asked))
            answers = self._predict(info, asked, request.coverage)
        items = (_item(item, truths, reference_ms, answers) for item in known)
        return PredictionResponse(request.platform_id, tuple(items))

    def _predict(self, info: PredictorInfo, asked: Mapping[str, Graph], coverage: float) -> dict[str, Prediction]:
        graphs: Sequence[Graph] = list(asked.values())
        predicted = self._loaded.get(info.artifact_sha256).predict(graphs, coverage=coverage)
        answers = {
            fingerprint: Prediction(
                answer.latency_ms,
                answer.low_ms,
                answer.high_ms,
                answer.coverage,
                "predicted",
                info.kind,
                info.version,
                answer.unknown,
                answer.distance,
            )
            for fingerprint, answer in zip(asked, predicted, strict=True)
        }
        self._store.predictors.keep(info.id, answers)
        return answers

    def _named(self, platform_id: str, predictor_id: int) -> PredictorInfo:
        info = self._store.predictors.get(predictor_id)
        if info.platform_id != platform_id:
            raise InvalidInput(
                f"predictor {predictor_id} is for {info.platform_id}",
                field="predictor_id",
                remedy="name one of GET /v1/predictors?platform_id=…, or none for the active one",
            )
        return info

    def _active(self, platform_id: str, asked: int) -> PredictorInfo:
        info = self._store.predictors.active(platform_id)
        if info is None:
            raise NotFound(
                f"{asked} of the networks are not measured on {platform_id}, and no predictor is active there",
                field="platform_id",
                remedy="train one: POST /v1/predictors, or leti train",
            )
        return info


def _item(
    known: KnownNetwork, truths: Mapping[str, Truth], reference_ms: float, answers: Mapping[str, Prediction]
) -> PredictionItem:
    fingerprint, degenerate = known.network.fingerprint, known.network.degenerate
    found = truths.get(fingerprint)
    if found is None:
        answer, count = answers[fingerprint], 0
    else:
        latency = found.ratio * reference_ms
        low, high = latency * (1 - found.spread), latency * (1 + found.spread)
        answer, count = Prediction(latency, max(low, 0.0), high, 1.0, "measured"), found.count
    return PredictionItem(
        fingerprint=fingerprint,
        latency_ms=answer.latency_ms,
        low_ms=answer.low_ms,
        high_ms=answer.high_ms,
        coverage=answer.coverage,
        source=answer.source,
        predictor=answer.predictor,
        version=answer.version,
        unknown=answer.unknown,
        degenerate=degenerate,
        count=count,
        distance=answer.distance,
    )
