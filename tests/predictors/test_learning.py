"""Learning curves: errors that are known in advance, and a real predictor."""

from __future__ import annotations

import itertools
import random
from typing import ClassVar

import pytest

pytest.importorskip("numpy", reason="needs the extra boosting")
pytest.importorskip("scipy", reason="needs the extra boosting")

import numpy as np

from leti.core.prediction import Predictions
from leti.core.spec import NetworkConfig
from leti.generator.lowering import lower
from leti.generator.spaces.nasbench201 import NasBench201
from leti.predictors import learning
from leti.predictors.evaluation import Sample, cross_validate
from leti.predictors.learning import AHEAD, learning_curve


@pytest.fixture(scope="module")
def sample() -> Sample:
    """120 networks of which every third shares its group with the one before."""
    graphs = tuple(lower(spec) for spec in NasBench201().sample(120, 0, NetworkConfig()))
    noise = random.Random(0)
    latencies_ms = tuple((0.2 + graph.macs / 2e7) * (1 + noise.gauss(0, 0.03)) for graph in graphs)
    groups = tuple(str(i - (i % 3 == 2)) for i in range(len(graphs)))
    return Sample(graphs, latencies_ms, groups)


class Lawful:
    """Errs by a law of the number of networks that it was trained on, to either side, more or less."""

    truth: ClassVar[dict[int, float]] = {}
    seen: ClassVar[list[set[str]]] = []

    def __init__(self, floor: float, slope: float) -> None:
        self.floor, self.slope = floor, slope

    def fit(self, graphs, latencies_ms, *, operator_times, groups, seed, progress):  # type: ignore[no-untyped-def]
        self.error = self.floor + self.slope * len(graphs) ** -0.5
        self.seen.append(set(groups))
        return self

    def predict(self, graphs, *, coverage):  # type: ignore[no-untyped-def]
        latencies = np.asarray([self.truth[id(graph)] for graph in graphs])
        spread = np.asarray([random.Random(graph.fingerprint()).uniform(0.5, 1.5) for graph in graphs])
        predicted = latencies * (1 + self.error * spread)
        return Predictions(predicted, predicted, predicted, coverage, "lawful", 1, tuple(() for _ in graphs))


@pytest.fixture
def lawful(sample: Sample, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    def make(floor: float, slope: float) -> type[Lawful]:
        Lawful.truth = {id(graph): ms for graph, ms in zip(sample.graphs, sample.latencies_ms, strict=True)}
        Lawful.seen = []
        monkeypatch.setattr(learning, "create", lambda kind: Lawful(floor, slope))
        return Lawful

    return make


def test_a_law_is_found_and_continued(sample: Sample, lawful) -> None:  # type: ignore[no-untyped-def]
    lawful(0.01, 0.4)
    curve = learning_curve("lawful", sample)
    assert curve.reason == ""
    counts = [point.networks for point in curve.measured]
    assert counts == sorted(counts)
    assert counts[0] < 30
    assert counts[-1] == 96, "four of five folds"
    assert [point.networks for point in curve.expected] == [round(factor * 120) for factor in AHEAD]
    inside = []
    for point in (*curve.measured, *curve.expected):
        law = 0.01 + 0.4 * point.networks**-0.5
        assert point.low <= point.mdape <= point.high
        assert point.mdape == pytest.approx(law, rel=0.15)
        inside.append(point.low <= law <= point.high)
    assert sum(inside) >= len(inside) - 1, "intervals of 90 %"


def test_groups_stay_whole_and_parts_are_nested(sample: Sample, lawful) -> None:  # type: ignore[no-untyped-def]
    seen = lawful(0.01, 0.4).seen
    curve = learning_curve("lawful", sample)
    sizes = len(curve.measured)
    assert len(seen) == 5 * sizes
    for fold in range(5):
        parts = seen[fold * sizes : (fold + 1) * sizes]
        assert all(smaller < larger for smaller, larger in itertools.pairwise(parts))


def test_an_error_that_does_not_fall_promises_nothing(sample: Sample, lawful) -> None:  # type: ignore[no-untyped-def]
    lawful(0.05, 0.0)
    curve = learning_curve("lawful", sample)
    assert curve.expected == ()
    assert "cannot be told from chance" in curve.reason


def test_few_networks_give_no_curve_and_the_error_of_cross_validation(sample: Sample) -> None:
    few = sample.part(range(36))
    curve = learning_curve("flops", few, seed=3)
    (point,) = curve.measured
    assert point.mdape == cross_validate("flops", few, seed=3)
    assert curve.expected == ()
    assert "too few" in curve.reason


def test_it_is_the_same_for_one_seed(sample: Sample) -> None:
    first, again, other = (learning_curve("flops", sample, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert len(first.measured) == 4
