"""Training several kinds on the same networks: each is fitted once, and a mix takes those that are fitted already."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from leti.core.extras import needs
from leti.core.graph import Graph
from leti.core.prediction import Predictor, Progress
from leti.predictors.adaptation.predictor import AdaptedPredictor
from leti.predictors.batch import Vector
from leti.predictors.calibrated import CalibratedPredictor
from leti.predictors.evaluation import Judged, Sample, held_out_errors, judge_fitted
from leti.predictors.registry import MIX, create
from leti.predictors.stacking.predictor import StackedPredictor

with needs("boosting"):
    import numpy as np


@final
@dataclass(slots=True)
class Training:
    """Predictors of several kinds, fitted to one sample with one seed.

    ``sources`` are predictors of other platforms by name, for a kind that learns from them, and ``population`` networks
    that those were trained on.
    """

    sample: Sample
    seed: int = 0
    sources: Mapping[str, Predictor] = field(default_factory=dict)
    population: Sequence[Graph] = ()
    fitted: dict[str, Predictor] = field(default_factory=dict)
    fit_s: dict[str, float] = field(default_factory=dict)
    """Seconds that each took; a mix counts those of its members as well."""
    errors: dict[str, Vector] = field(default_factory=dict)
    """What :func:`~leti.predictors.evaluation.held_out_errors` says of each."""

    def fit(self, kind: str, *, folds: int = 5, progress: Progress | None = None) -> float:
        """Fit a predictor of a kind and return its :func:`~leti.predictors.evaluation.held_out_error`.

        Raises what :meth:`~leti.core.prediction.Predictor.fit` raises.
        """
        start = time.perf_counter()
        members = self._members()
        if kind == MIX and len(members) > 1:
            self.fitted[kind] = StackedPredictor.of(members, seed=self.seed)
            before = sum(self.fit_s[member] for member in members)
        else:
            self.fitted[kind] = self.sample.teach(self._new(kind), seed=self.seed, progress=progress)
            before = 0.0
        self.fit_s[kind] = before + time.perf_counter() - start
        self.errors[kind] = held_out_errors(self.fitted[kind], self.sample, seed=self.seed, folds=folds)
        return float(np.median(self.errors[kind]))

    def judge(self, kind: str, test: Sample, *, coverage: float = 0.9) -> Judged:
        """Report on a predictor that :meth:`fit` has made; see :func:`~leti.predictors.evaluation.judge`."""
        predictor, fit_s = self.fitted[kind], self.fit_s[kind]
        return judge_fitted(predictor, test, n_train=len(self.sample), fit_s=fit_s, coverage=coverage)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the predictors have to say about the measurements and about themselves, each sentence once."""
        said = [remark for predictor in self.fitted.values() for remark in getattr(predictor, "remarks", ())]
        return tuple(dict.fromkeys(said))

    def _new(self, kind: str) -> Predictor:
        if kind == AdaptedPredictor.kind:
            return AdaptedPredictor(self.sources, population=self.population)
        return create(kind)

    def _members(self) -> dict[str, CalibratedPredictor[Any, Any]]:
        return {
            kind: predictor
            for kind, predictor in self.fitted.items()
            if isinstance(predictor, CalibratedPredictor) and kind not in (MIX, AdaptedPredictor.kind)
        }
