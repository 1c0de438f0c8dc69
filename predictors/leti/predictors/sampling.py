"""Sampling: which networks to measure on a platform, so that few measurements say much.

``random`` draws. ``diverse`` takes k medoids: the networks that all candidates are nearest to, in standardised features
(Kaufman and Rousseeuw, *Finding Groups in Data*, 1990: the greedy BUILD, then alternation). ``disagreement`` takes, one
after another, the network about which a model of the new platform would be least certain, given those taken and those
measured already: a Gaussian process whose kernel says that platforms differ as the given predictors disagree, once
their level is taken away, and beyond that as networks differ in what they are made of (greedy maximisation of the
determinant of the covariance; Krause, Singh and Guestrin, "Near-Optimal Sensor Placements in Gaussian Processes",
2008).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, get_args

from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.core.graph import Graph
from leti.core.prediction import Predictor
from leti.predictors.adaptation.features import TransferFeatures
from leti.predictors.batch import Batch, Matrix

with needs("boosting"):
    import numpy as np

How = Literal["random", "diverse", "disagreement"]

MAX_CANDIDATES: Final = 5_000
"""Most graphs to choose from where they are compared with each other."""

_ROUNDS: Final = 20
_NOISE: Final = 0.1
_COMMON, _DISAGREEMENT, _PARTS = 1.0, 0.3, 0.3
"""Prior variances of what platforms have in common, of what they differ in, and of what networks are made of."""


def choose(
    graphs: Sequence[Graph],
    count: int,
    *,
    how: How = "random",
    seed: int = 0,
    measured: Sequence[Graph] = (),
    predictors: Sequence[Predictor] = (),
) -> list[int]:
    """Return the numbers of ``count`` of the graphs, each different from the others and from those ``measured``.

    ``predictors`` are those of other platforms, which ``disagreement`` needs. The same arguments give the same numbers.
    They stand in the order in which they were chosen, so that the first few of ``disagreement`` are a choice too.
    Raises :class:`~leti.core.errors.InvalidInput` for an unknown way, without predictors where they are needed, and
    where fewer than ``count`` different graphs are new.
    """
    if how not in get_args(How):
        raise InvalidInput(
            f"there is no way to choose called {str(how)[:80]!r}", field="how", remedy=", ".join(get_args(How))
        )
    known = {graph.fingerprint() for graph in measured}
    first: dict[str, int] = {}
    for i, graph in enumerate(graphs):
        first.setdefault(graph.fingerprint(), i)
    new = [i for fingerprint, i in first.items() if fingerprint not in known]
    if isinstance(count, bool) or not 0 <= count <= len(new):
        raise InvalidInput(
            f"must be from 0 to {len(new)}, as many graphs as are different and not measured, not {count!r}",
            field="count",
        )
    if how == "disagreement" and not predictors:
        raise InvalidInput("are needed to see where they disagree", field="predictors", remedy="choose by diversity")
    if how != "random" and len(new) + len(known) > MAX_CANDIDATES:
        raise InvalidInput(f"are {len(new)}: at most {MAX_CANDIDATES} can be compared", field="graphs")
    generator = np.random.default_rng(seed)
    if not count:
        return []
    if how == "random":
        return [new[i] for i in generator.choice(len(new), count, replace=False).tolist()]
    candidates = [graphs[i] for i in new]
    seen = {graph.fingerprint(): graph for graph in measured}
    rows, before = _standardised(candidates, tuple(seen.values()), predictors if how == "disagreement" else ())
    start = int(generator.integers(len(new)))
    picked = _medoids(rows, before, count, start) if how == "diverse" else _uncertain(rows, before, count, start)
    return [new[i] for i in picked]


def _standardised(
    candidates: Sequence[Graph], measured: Sequence[Graph], predictors: Sequence[Predictor]
) -> tuple[Matrix, Matrix]:
    """Return features of candidates and of measured graphs, on one scale; the sources' predictions among them."""
    both = (*candidates, *measured)
    encoded = TransferFeatures.learn(both).encode(Batch.of(both))
    if not predictors:
        rows = np.hstack([encoded.parts, encoded.positions])
    else:
        answers = [np.asarray(predictor.predict(both, coverage=0.5).latency_ms) for predictor in predictors]
        told = np.log(np.column_stack(answers))
        told = told - told.mean(axis=0)  # a platform's level is no disagreement
        told = told / np.maximum(told.std(axis=0), 1e-9)
        common = told.mean(axis=1, keepdims=True)
        blocks = ((_COMMON, common), (_DISAGREEMENT, told - common), (_PARTS, encoded.parts))
        rows = np.hstack([np.sqrt(variance) * _unit(block) for variance, block in blocks])
    return rows[: len(candidates)], rows[len(candidates) :]


def _unit(block: Matrix) -> Matrix:
    """Return a block whose rows have a mean square of one; of zero where nothing varies."""
    size = float(np.sqrt(np.mean(np.sum((block - block.mean(axis=0)) ** 2, axis=1))))
    unit: Matrix = (block - block.mean(axis=0)) / size if size > 1e-6 else np.zeros_like(block)
    return unit


def _medoids(rows: Matrix, before: Matrix, count: int, start: int) -> list[int]:
    """Return k medoids, those measured before being medoids that stay; ``start`` is the first where there are none."""
    distance = _distances(rows, rows)
    fixed = _distances(rows, before).min(axis=1) if len(before) else np.full(len(rows), np.inf)
    picked = [] if len(before) else [start]
    nearest = np.minimum(fixed, distance[:, picked].min(axis=1)) if picked else fixed
    while len(picked) < count:
        cost = np.minimum(nearest[:, None], distance).sum(axis=0)
        cost[picked] = np.inf
        picked.append(int(np.argmin(cost)))
        nearest = np.minimum(nearest, distance[:, picked[-1]])
    for _ in range(_ROUNDS):
        owner = np.argmin(np.column_stack([distance[:, picked], fixed]), axis=1)
        moved = []
        for place, medoid in enumerate(picked):
            own = np.flatnonzero(owner == place)
            moved.append(int(own[distance[np.ix_(own, own)].sum(axis=0).argmin()]) if len(own) else medoid)
        if moved == picked or len(set(moved)) < count:
            break
        picked = moved
    return picked


def _uncertain(rows: Matrix, before: Matrix, count: int, start: int) -> list[int]:
    """Return, one after another, the row of the largest variance given the others: a pivoted Cholesky decomposition."""
    everything = np.vstack([rows, before])
    variance = np.einsum("ij,ij->i", everything, everything)
    factors = np.empty((len(everything), 0))
    picked: list[int] = []
    known = list(range(len(rows), len(everything)))
    while len(picked) < count:
        if known:
            pivot = known.pop()
        else:
            free = variance[: len(rows)].copy()
            free[picked] = -np.inf
            pivot = int(np.argmax(free)) if picked or len(before) else start
            picked.append(pivot)
        across = everything @ everything[pivot] - factors @ factors[pivot]
        column = across / np.sqrt(max(variance[pivot], 0.0) + _NOISE)
        factors = np.column_stack([factors, column])
        variance = variance - column**2
    return picked


def _distances(one: Matrix, other: Matrix) -> Matrix:
    """Return distances ``(n, m)`` of rows."""
    squared = np.sum(one**2, axis=1)[:, None] + np.sum(other**2, axis=1)[None] - 2 * one @ other.T
    distance: Matrix = np.sqrt(np.maximum(squared, 0.0))
    return distance
