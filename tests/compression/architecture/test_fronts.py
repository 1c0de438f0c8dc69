"""Fronts, what they dominate, and predictions by likeness."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leti.compression.architecture.fronts import best, crowding, hypervolume, non_dominated, ranks
from leti.compression.architecture.surrogate import predicted

POINTS = st.integers(1, 3).flatmap(
    lambda aims: st.lists(st.tuples(*[st.integers(0, 5)] * aims), min_size=1, max_size=12)
)


def beats(a, b):
    return all(x >= y for x, y in zip(a, b, strict=True)) and a != b


@given(POINTS)
def test_a_front_is_what_nothing_beats(points):
    values = np.array(points, float)
    assert non_dominated(values).tolist() == [not any(beats(b, a) for b in points) for a in points]
    fronts = ranks(values)
    for i, point in enumerate(points):  # one behind the last front that has something which beats it
        above = [fronts[j] for j, other in enumerate(points) if beats(other, point)]
        assert fronts[i] == 1 + max(above, default=-1)


@given(POINTS, st.integers(0, 14))
def test_the_best_are_whole_fronts_and_of_the_last_the_least_crowded(points, count):
    values = np.array(points, float)
    chosen, fronts = best(values, count), ranks(values)
    assert len(set(chosen)) == len(chosen) == min(count, len(points))
    assert sorted(fronts[chosen]) == sorted(fronts)[: len(chosen)]
    if chosen:
        last = np.flatnonzero(fronts == fronts[chosen].max())
        crowded = dict(zip(last, crowding(values[last]), strict=True))
        left = [crowded[i] for i in last if i not in chosen]
        assert max(left, default=0) <= min(crowded[i] for i in chosen if i in crowded)


@given(POINTS)
def test_a_hypervolume_is_the_cubes_below_the_points(points):
    aims = len(points[0])
    cubes = sum(
        any(all(c < x for c, x in zip(cube, point, strict=True)) for point in points)
        for cube in itertools.product(range(5), repeat=aims)
    )
    assert hypervolume(np.array(points, float), np.zeros(aims)) == pytest.approx(cubes)


def test_an_additive_objective_is_predicted_from_a_share_of_a_space():
    rng = np.random.default_rng(0)
    worth = rng.normal(size=(8, 4))
    vectors = rng.integers(0, 4, (200, 8))
    values = worth[np.arange(8), vectors].sum(axis=1)
    made = predicted(vectors[100:], vectors[:100], np.column_stack([values, -2 * values])[:100])
    assert np.corrcoef(made[:, 0], values[100:])[0, 1] > 0.95
    assert np.allclose(made[:, 1], -2 * made[:, 0])
