"""Pareto fronts: which points no other beats in everything, how they are spread, and how much they dominate."""

from __future__ import annotations

from leti.core.extras import needs
from leti.generator.weights import Array

with needs("compression"):
    import numpy as np


def non_dominated(values: Array) -> Array:
    """Return which points no other dominates: ``values`` are (points, aims), more is better; (points,) of bool.

    A point dominates another that it is nowhere worse than, and somewhere better. Equal points stay together.
    """
    kept = np.ones(len(values), bool)
    for i, point in enumerate(values):
        kept[i] = not ((values >= point).all(axis=1) & (values > point).any(axis=1)).any()
    return kept


def crowding(values: Array) -> Array:
    """Return the crowding distance of points (points, aims) of one front: (points,), infinite at its ends.

    "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II" (Deb et al., 2002).
    """
    distance = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]]
        distance[order[[0, -1]]] = np.inf
        if span > 0:
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return distance


def best(values: Array, count: int) -> list[int]:
    """Return the numbers of up to ``count`` points: front after front, of the last the least crowded.

    That is how NSGA-II chooses who survives.
    """
    chosen: list[int] = []
    left = np.arange(len(values))
    while len(left) and len(chosen) < count:
        mask = non_dominated(values[left])
        front = left[mask]
        order = np.argsort(-crowding(values[front]), kind="stable")
        chosen += [int(i) for i in front[order][: count - len(chosen)]]
        left = left[~mask]
    return chosen


def ranks(values: Array) -> Array:
    """Return the front of each point, (points,): 0 where no other dominates it, 1 where those of 0 alone do, and on."""
    made = np.zeros(len(values), int)
    left, rank = np.arange(len(values)), 0
    while len(left):
        mask = non_dominated(values[left])
        made[left[mask]] = rank
        left, rank = left[~mask], rank + 1
    return made


def hypervolume(values: Array, reference: Array) -> float:
    """Return the volume that points (points, aims) dominate above a reference (aims,); more is better.

    By slices along the last aim, as in "A Faster Algorithm for Calculating Hypervolume" (While et al., 2006): for the
    few aims and the hundreds of points that searches have.
    """
    above = (np.asarray(values, float) - reference)[(np.asarray(values) > reference).all(axis=1)]
    return _volume(above)


def _volume(points: Array) -> float:
    if not len(points):
        return 0.0
    if points.shape[1] == 1:
        return float(points.max())
    points = points[np.argsort(-points[:, -1], kind="stable")]
    heights = points[:, -1] - np.append(points[1:, -1], 0.0)
    return float(sum(h * _volume(points[: i + 1, :-1]) for i, h in enumerate(heights) if h > 0))
