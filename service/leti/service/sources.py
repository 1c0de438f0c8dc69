"""Sources: what other platforms know, for a platform of which little is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, final

from leti.core.device import ModelPrecision
from leti.core.errors import LetiError
from leti.service.serving import LoadedPredictors
from leti.service.store import Store

if TYPE_CHECKING:
    from leti.core.graph import Graph
    from leti.core.prediction import Predictor
    from leti.core.training import PredictorInfo

ADAPTED: Final = "adapted"
"""The kind that learns from sources, and is none itself: one would carry the other within it, and so on."""

MAX_POPULATION: Final = 512
"""Networks that sources were trained on of which an adaptation hears."""


@final
@dataclass(frozen=True, slots=True)
class Found:
    """Active predictors by the id of their platform, what the store says of them, and why others are left out."""

    predictors: Mapping[str, Predictor] = field(default_factory=dict)
    infos: tuple[PredictorInfo, ...] = ()
    remarks: tuple[str, ...] = ()


@final
class Sources:
    """Finds the active predictors of platforms, and the networks that they learnt from."""

    def __init__(self, store: Store, loaded: LoadedPredictors) -> None:
        self._store = store
        self._loaded = loaded

    def active(self, precision: ModelPrecision, *, most: int) -> Found:
        """Return the active predictors of platforms of a precision, at most so many."""
        return self._load(self._active(precision, but=""), most)

    def others(self, platform_id: str, precision: ModelPrecision, *, most: int) -> Found:
        """Return what a platform can be adapted from: active predictors of others that are not adapted themselves."""
        infos = self._active(precision, but=platform_id)
        found = self._load([info for info in infos if info.kind != ADAPTED], most)
        adapted = tuple(
            f"the predictor of {info.platform_id} is adapted itself, and no source"
            for info in infos
            if info.kind == ADAPTED
        )
        return Found(found.predictors, found.infos, (*adapted, *found.remarks))

    def able(self, found: Found, graphs: Sequence[Graph]) -> Found:
        """Return the sources that can price networks; the others are left out, and told."""
        wrong = _refusals(found, graphs)
        remarks = tuple(f"the predictor of {platform_id} is no source: {told}" for platform_id, told in wrong.items())
        return Found(
            {platform_id: source for platform_id, source in found.predictors.items() if platform_id not in wrong},
            tuple(info for info in found.infos if info.platform_id not in wrong),
            (*found.remarks, *remarks),
        )

    def population(self, found: Found) -> tuple[Graph, ...]:
        """Return networks that sources were trained on, as many of each as the limit allows, each once.

        There are none where one source cannot price what another was trained on.
        """
        share = MAX_POPULATION // max(len(found.infos), 1)
        fingerprints = dict.fromkeys(
            fingerprint
            for info in found.infos
            for fingerprint in self._store.datasets.trained_on(info.dataset_id, limit=share)
        )
        graphs = tuple(self._store.networks.graphs(list(fingerprints)))
        return () if _refusals(found, graphs) else graphs

    def _active(self, precision: ModelPrecision, *, but: str) -> list[PredictorInfo]:
        platforms = [
            platform.id
            for platform in self._store.platforms.list()
            if platform.id != but and platform.platform.model_precision == precision
        ]
        infos = [self._store.predictors.active(platform_id) for platform_id in platforms]
        return [info for info in infos if info is not None]

    def _load(self, infos: list[PredictorInfo], most: int) -> Found:
        """Load predictors; one that cannot be is left out, and told."""
        loaded: dict[str, Predictor] = {}
        used: list[PredictorInfo] = []
        remarks: list[str] = []
        for info in infos:
            if len(loaded) == most:
                remarks.append(f"only the first {most} platforms' predictors are used")
                break
            try:
                loaded[info.platform_id] = self._loaded.get(info.artifact_sha256)
                used.append(info)
            except LetiError as error:
                remarks.append(f"the {info.kind} of {info.platform_id} cannot be loaded ({error.message})")
        return Found(loaded, tuple(used), tuple(remarks))


def _refusals(found: Found, graphs: Sequence[Graph]) -> dict[str, str]:
    """Return what predictors say that cannot price networks, by the id of their platform."""
    told: dict[str, str] = {}
    for platform_id, predictor in found.predictors.items():
        try:
            predictor.predict(graphs, coverage=0.5)
        except LetiError as error:
            told[platform_id] = error.message
    return told
