"""Training data: graphs with measured latencies, checked before anything is learnt from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from leti.core.errors import InvalidInput, TooFewMeasurements
from leti.core.extras import needs
from leti.core.graph import Graph
from leti.core.prediction import OperatorTimes
from leti.predictors.batch import Vector

with needs("boosting"):
    import numpy as np

MIN_NETWORKS = 20
"""Fewest measured networks to train on: 19 residuals are the fewest that can bound an interval of 95 % coverage."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """Different graphs with latencies ``(n,)`` in ms, groups and times of kernels, all of length n.

    ``remarks`` says what was odd about the measurements, a sentence each.
    """

    graphs: tuple[Graph, ...]
    latencies_ms: Vector
    groups: tuple[str, ...]
    operator_times: tuple[Sequence[float] | None, ...] | None = None
    remarks: tuple[str, ...] = ()


def check_training_data(
    graphs: Sequence[Graph],
    latencies_ms: Sequence[float],
    groups: Sequence[str] | None = None,
    operator_times: OperatorTimes | None = None,
    *,
    minimum: int = MIN_NETWORKS,
) -> TrainingData:
    """Return what can be learnt from; graphs that are given more than once are merged, with the median latency.

    ``groups`` defaults to one a graph. Raises :class:`InvalidInput` naming the entry for latencies and times that are
    none and where all latencies are the same, and :class:`TooFewMeasurements` for fewer than ``minimum`` different
    graphs or a single group.
    """
    measured = _check_latencies(graphs, latencies_ms)
    _check_operator_times(graphs, operator_times)
    if groups is not None and len(groups) != len(graphs):
        raise InvalidInput(f"has {len(groups)} entries for {len(graphs)} graphs", field="groups")
    rows: dict[str, list[int]] = {}
    for row, graph in enumerate(graphs):
        rows.setdefault(graph.fingerprint(), []).append(row)
    _check_enough(len(graphs), len(rows), minimum)
    first = [of_one[0] for of_one in rows.values()]
    named = tuple(str(row) for row in first) if groups is None else tuple(groups[row] for row in first)
    if len(set(named)) < 2:
        raise TooFewMeasurements(
            "all networks are of one group, so none can be kept apart to calibrate the interval",
            field="groups",
            remedy="measure networks of at least 2 groups",
            given=1,
            needed=2,
        )
    if np.ptp(measured) == 0:
        raise InvalidInput(
            f"are all the same, {measured[0]:g} ms: nothing can be learnt",
            field="latencies_ms",
            remedy="check how they were measured",
        )
    times = None if operator_times is None else tuple(_first_times(operator_times, of) for of in rows.values())
    merged = np.array([float(np.median(measured[of_one])) for of_one in rows.values()])
    remarks = _contradictions(measured, list(rows.values()))
    return TrainingData(tuple(graphs[row] for row in first), merged, named, times, remarks)


def _check_latencies(graphs: Sequence[Graph], latencies_ms: Sequence[float]) -> Vector:
    """Return latencies as float64 ``(n,)``."""
    if len(graphs) != len(latencies_ms):
        raise InvalidInput(f"has {len(latencies_ms)} entries for {len(graphs)} graphs", field="latencies_ms")
    for i, latency in enumerate(latencies_ms):
        if not _is_time(latency) or latency == 0:
            raise InvalidInput(f"must be positive and finite, not {latency!r}", field=f"latencies_ms[{i}]")
    return np.asarray(latencies_ms, dtype=np.float64)


def _check_operator_times(graphs: Sequence[Graph], operator_times: OperatorTimes | None) -> None:
    if operator_times is None:
        return
    if len(operator_times) != len(graphs):
        raise InvalidInput(f"has {len(operator_times)} entries for {len(graphs)} graphs", field="operator_times")
    for i, (graph, times) in enumerate(zip(graphs, operator_times, strict=True)):
        if times is None:
            continue
        kernels = len(graph.ops) - sum(len(kernel) - 1 for kernel in graph.kernels)
        if len(times) != kernels:
            raise InvalidInput(f"has {len(times)} entries for {kernels} kernels", field=f"operator_times[{i}]")
        for j, time in enumerate(times):
            if not _is_time(time):
                raise InvalidInput(f"must be 0 or more and finite, not {time!r}", field=f"operator_times[{i}][{j}]")


def _is_time(value: float) -> bool:
    try:
        return not isinstance(value, bool | np.bool_) and math.isfinite(value) and value >= 0
    except TypeError:
        return False


def _check_enough(given: int, different: int, minimum: int) -> None:
    if different < minimum:
        repeated = "" if different == given else f", {different} of them different"
        raise TooFewMeasurements(
            f"{given} measured networks are given{repeated}, {minimum} are needed",
            field="graphs",
            remedy=f"measure {minimum - different} more",
            given=different,
            needed=minimum,
        )


def _first_times(operator_times: OperatorTimes, rows: Sequence[int]) -> Sequence[float] | None:
    return next((times for row in rows if (times := operator_times[row]) is not None), None)


def _contradictions(measured: Vector, rows: Sequence[Sequence[int]]) -> tuple[str, ...]:
    """Return a remark where networks are given more than once."""
    several = [of_one for of_one in rows if len(of_one) > 1]
    if not several:
        return ()
    spread = max(float(measured[of_one].max() / measured[of_one].min()) - 1 for of_one in several)
    networks = "1 network is" if len(several) == 1 else f"{len(several)} networks are"
    return (
        f"{networks} given more than once, {sum(map(len, several))} times in all, with latencies that differ by up to "
        f"{100 * spread:.1f} %: each counts once, with the median",
    )
