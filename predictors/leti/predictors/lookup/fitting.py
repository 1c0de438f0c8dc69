"""How a look-up table is learnt: from kernels measured one by one, from whole networks, or from both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, cast, final

from leti.core.extras import needs
from leti.predictors.batch import Ints, Kernel, Matrix, Vector
from leti.predictors.lookup.correction import OVERHEAD, SUM, Correction, correct
from leti.predictors.lookup.table import KernelTable, Occurrences, Roofline, Source, TableRow
from leti.predictors.nonnegative import ROUNDS, fit_nonnegative

with needs("boosting"):
    import numpy as np
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

MAX_SOLVED: Final = 400
"""Kernels solved for, the most widespread first; those beyond keep what is expected of them."""

MIN_NETWORKS: Final = 2
"""Networks that a kernel must stand in to be solved for: in one alone it would take whatever that one lacks."""

_FREE: Final = 1e-8
_LEAST_MEASURED: Final = 0.05
"""Share of the typical kernel below which a measured time is rounding: no ratio is taken to less."""


@final
@dataclass(frozen=True, eq=False)
class Evidence:
    """What n networks say of m kernels: how often each stands in each ``(n, m)``, and ``measured_ms`` (m,), or NaN."""

    occurrences: Occurrences
    kernels: tuple[Kernel, ...]
    counts: Matrix
    measured_ms: Vector
    latencies_ms: Vector

    @classmethod
    def of(
        cls, occurrences: Occurrences, latencies_ms: Vector, times: Sequence[Sequence[float] | None] | None
    ) -> Evidence:
        """Gather networks with their latencies ``(n,)`` in ms and, of some, the milliseconds of each kernel.

        Times whose number is not that of the kernels are left out: they are of another grain.
        """
        columns, kernels = _distinct(occurrences)
        return cls(
            occurrences,
            kernels,
            occurrences.counts(columns, len(kernels)),
            _medians(occurrences, columns[occurrences.numbers], len(kernels), times),
            latencies_ms,
        )

    @cached_property
    def expected(self) -> tuple[Vector, Roofline]:
        """What each kernel was measured to take, or is to be expected to, ``(m,)``; and the roofline."""
        return _expected(self)

    @property
    def has_measured(self) -> bool:
        """Whether any kernel was measured by itself."""
        return bool(np.isfinite(self.measured_ms).any())


def fit_table(evidence: Evidence, strength: float, *, rounds: int = ROUNDS) -> tuple[KernelTable, Correction]:
    """Return a table and the correction of its sums.

    ``strength`` says how firmly kernels are drawn to what was measured or is expected of them, in networks' worth of
    relative error; where it is infinite they are that, and the correction alone is fitted.
    """
    expected, roofline = evidence.expected
    sums = evidence.counts @ expected
    if np.isinf(strength):
        table = _table(evidence, expected, np.zeros(len(expected), dtype=bool), roofline)
        return table, correct(sums, evidence.occurrences.features, evidence.latencies_ms)
    if evidence.has_measured:
        expected = expected * correct(sums, {}, evidence.latencies_ms).factor
    spread = (evidence.counts > 0).sum(axis=0)
    solved = np.zeros(len(expected), dtype=bool)
    solved[np.argsort(-spread, kind="stable")[:MAX_SOLVED]] = True
    solved &= spread >= MIN_NETWORKS
    latencies, overhead = _solve(evidence, expected, solved, strength, rounds)
    return _table(evidence, latencies, solved, roofline), Correction((OVERHEAD, SUM), (overhead, 1.0))


def _solve(evidence: Evidence, expected: Vector, chosen: Mask, strength: float, rounds: int) -> tuple[Vector, float]:
    """Return what each kernel takes ``(m,)`` and the overhead of a network, in ms; ``chosen`` (m,) are solved for."""
    left = ~chosen
    counts, latencies = evidence.counts, evidence.latencies_ms
    rest = counts[:, left] @ expected[left]
    columns = np.column_stack([counts[:, chosen], rest, np.ones(len(counts))])
    typical = float(np.median(latencies))
    prior = np.array([*expected[chosen], 1.0, 0.0])
    floor = max(float(expected.max()), typical) * 1e-9
    stiffness = strength / (np.maximum(expected[chosen], floor) * typical)
    stiffness = np.array([*stiffness, max(strength, _FREE), _FREE * len(counts) / typical**2])
    found = fit_nonnegative(columns, latencies, prior, stiffness, rounds=rounds)
    solved = expected.copy()
    solved[chosen] = found[:-2]
    solved[left] *= found[-2]
    return solved, float(found[-1])


def _expected(evidence: Evidence) -> tuple[Vector, Roofline]:
    """Return what each kernel was measured to take, or is to be expected to, ``(m,)``; and the roofline."""
    measured = np.isfinite(evidence.measured_ms)
    if not measured.any():
        roofline = Roofline.fit(evidence.kernels, evidence.counts, evidence.latencies_ms, overhead=True)
        return roofline.estimate_ms(evidence.kernels), roofline
    known = np.flatnonzero(measured)
    times = evidence.measured_ms[known]
    typical = float(np.median(times[times > 0])) if np.any(times > 0) else 1.0
    kernels = [evidence.kernels[i] for i in known]
    roofline = Roofline.fit(kernels, np.eye(len(kernels)), np.maximum(times, _LEAST_MEASURED * typical))
    rows = tuple(TableRow.of(kernel, time, 1, "measured") for kernel, time in zip(kernels, times.tolist(), strict=True))
    expected, _ = KernelTable(rows, roofline).price(evidence.kernels)
    return expected, roofline


def _table(evidence: Evidence, latencies_ms: Vector, solved: Mask, roofline: Roofline) -> KernelTable:
    """Return the table, its rows by name and shapes."""
    counts = evidence.counts.sum(axis=0).astype(int).tolist()
    sources = np.where(np.isfinite(evidence.measured_ms), "measured", np.where(solved, "solved", "estimated")).tolist()
    columns = zip(evidence.kernels, latencies_ms.tolist(), counts, cast("list[Source]", sources), strict=True)
    rows = [TableRow.of(*column) for column in columns]
    return KernelTable(tuple(sorted(rows, key=lambda row: row.key)), roofline)


def _distinct(occurrences: Occurrences) -> tuple[Ints, tuple[Kernel, ...]]:
    """Return the column of each kernel that occurs, -1 for the others, and the kernels of the columns, by name."""
    used = np.unique(occurrences.numbers).tolist()
    by_name: dict[str, Kernel] = {}
    for number in used:
        by_name.setdefault(occurrences.kernels[number].name, occurrences.kernels[number])
    place = {name: i for i, name in enumerate(sorted(by_name))}
    columns = np.full(len(occurrences.kernels), -1, dtype=np.int64)
    for number in used:
        columns[number] = place[occurrences.kernels[number].name]
    return columns, tuple(by_name[name] for name in place)


def _medians(
    occurrences: Occurrences, columns: Ints, width: int, times: Sequence[Sequence[float] | None] | None
) -> Vector:
    """Return the median over networks of each kernel's mean time in one, ``(width,)``, NaN where none is known."""
    found: defaultdict[int, list[float]] = defaultdict(list)
    starts = np.cumsum(occurrences.lengths) - occurrences.lengths
    for start, length, of_one in zip(starts.tolist(), occurrences.lengths.tolist(), times or (), strict=False):
        if of_one is None or len(of_one) != length:
            continue
        here = columns[start : start + length]
        counts = np.bincount(here, minlength=width)
        sums = np.bincount(here, weights=np.asarray(of_one, dtype=np.float64), minlength=width)
        for column in np.flatnonzero(counts).tolist():
            found[column].append(float(sums[column] / counts[column]))
    medians = np.full(width, np.nan)
    for column, values in found.items():
        medians[column] = np.median(values)
    return medians
