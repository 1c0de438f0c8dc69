"""A table of kernels and what each takes: exact where it has the shapes, interpolated between them where it has not.

What a kernel should take at least follows from its multiply-accumulates and the bytes it moves (the roofline of
Williams, Waterman and Patterson, 2009, in its additive form: launch + macs + bytes, by kind). A kernel of the table is
so many times slower or faster than that, and kernels of one family with like shapes are so alike: the ratio of a kernel
that the table lacks is interpolated, in logarithms of work and traffic, between its neighbours of the same family.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, final

from leti.core.extras import needs
from leti.predictors.batch import Batch, Ints, Kernel, Matrix, Vector
from leti.predictors.division import Memory
from leti.predictors.nonnegative import fit_nonnegative

with needs("boosting"):
    import numpy as np

Source = Literal["measured", "solved", "estimated"]
Grain = Literal["kernel", "operator"]

FEATURES: Final = ("kernels", "weight_bytes")
"""What a correction may use of a network beside the sum of its kernels, in this order."""

NEIGHBOURS: Final = 4
MAX_REMARKS: Final = 5
"""Kernels that a remark on a graph names; what is more of the same is counted."""

_BOUND: Final = 20.0
"""A kernel of the table is never taken as more than this many times off its roofline when others are priced by it."""

_STIFF: Final = (1e-6, 3e-2)
"""How firmly the roofline of all kinds is drawn to nothing, and that of each kind to the one of all."""


@final
@dataclass(frozen=True, slots=True)
class TableRow:
    """One kernel: its name and shapes, what it takes in ms, how many kernels of the training were it, and how we know.

    ``name`` is the family (kinds and attributes of its operators), ``shapes`` those of each operator in order. A
    kernel is ``measured`` where it was by itself (and fitted to whole networks too, where that is nearer the truth),
    ``solved`` where whole networks alone say what it takes, ``estimated`` where its work and traffic do.
    """

    name: str
    shapes: str
    kind: str
    macs: int
    traffic_bytes: int
    latency_ms: float
    count: int
    source: Source

    @classmethod
    def of(cls, kernel: Kernel, latency_ms: float, count: int, source: Source) -> TableRow:
        """Return the row of a kernel."""
        shapes = " + ".join(part.rpartition(" ")[2] for part in kernel.name.split(" + "))
        return cls(kernel.family, shapes, kernel.kind, kernel.macs, kernel.traffic_bytes, latency_ms, count, source)

    @property
    def key(self) -> tuple[str, str]:
        """What tells rows apart."""
        return self.name, self.shapes


@final
class Occurrences:
    """Which kernels stand in each of n graphs: ``numbers`` (k,) into ``kernels``, those of a graph side by side.

    ``lengths`` (n,) says how many each graph has; ``weight_bytes`` (n,) are the bytes of its parameters.
    """

    __slots__ = ("kernels", "lengths", "numbers", "weight_bytes")

    def __init__(self, kernels: Sequence[Kernel], numbers: Ints, lengths: Ints, weight_bytes: Vector) -> None:
        self.kernels = tuple(kernels)
        self.numbers = numbers
        self.lengths = lengths
        self.weight_bytes = weight_bytes

    def __len__(self) -> int:
        """Return the number of graphs."""
        return len(self.lengths)

    def __getitem__(self, rows: Ints) -> Occurrences:
        """Return the graphs with these numbers."""
        starts = np.cumsum(self.lengths) - self.lengths
        lengths = self.lengths[rows]
        first = np.cumsum(lengths) - lengths
        places = np.arange(int(lengths.sum())) + np.repeat(starts[rows] - first, lengths)
        return Occurrences(self.kernels, self.numbers[places], lengths, self.weight_bytes[rows])

    @classmethod
    def of(cls, batch: Batch, grain: Grain) -> Occurrences:
        """Return the kernels of a batch, or each operator as if it were a kernel by itself."""
        if grain == "kernel":
            kernels, numbers, graphs = batch.kernels, batch.numbers, batch.kernel_graphs
        else:
            kernels, numbers, graphs = tuple(Kernel.of((op,)) for op in batch.ops), batch.codes, batch.op_graphs
        params = np.array([kernel.params for kernel in kernels], dtype=np.float64)
        weight_bytes = 4 * np.bincount(graphs, weights=params[numbers], minlength=len(batch))
        return cls(kernels, numbers, np.bincount(graphs, minlength=len(batch)), weight_bytes.astype(np.float64))

    @property
    def graphs(self) -> Ints:
        """In which graph each kernel stands, ``(k,)``."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @property
    def features(self) -> dict[str, Vector]:
        """What a correction may use beside the sum of the kernels, ``(n,)`` each, in this order."""
        return dict(zip(FEATURES, (self.lengths.astype(np.float64), self.weight_bytes), strict=True))

    def counts(self, columns: Ints, width: int) -> Matrix:
        """Return how often each column stands in each graph, ``(n, width)``; ``columns`` is one a distinct kernel."""
        column = columns[self.numbers]
        place = np.where(column >= 0, self.graphs * width + column, len(self) * width)
        tally = np.bincount(place, minlength=len(self) * width + 1)[:-1]
        return tally.reshape(len(self), width).astype(np.float64)

    def sums(self, latencies_ms: Vector) -> Vector:
        """Return the sum over each graph's kernels, ``(n,)``, of what each distinct kernel takes."""
        return np.bincount(self.graphs, weights=latencies_ms[self.numbers], minlength=len(self)).astype(np.float64)


Line = tuple[float, float, float]


@final
@dataclass(frozen=True, slots=True)
class Roofline:
    """Milliseconds a launch, a multiply-accumulate and a byte, by kind of operator; "" is for every other kind."""

    coefficients: Mapping[str, Line]

    @classmethod
    def fit(
        cls, kernels: Sequence[Kernel], counts: Matrix, latencies_ms: Vector, *, overhead: bool = False
    ) -> Roofline:
        """Fit to sums: ``counts`` ``(n, kernels)`` of each kernel in n networks (or in n measurements of one kernel).

        First for all kinds together, then for each kind, drawn to the former; with an overhead that is not kept where
        networks have one.
        """
        costs = _costs(kernels)
        base = np.full((len(counts), 1), float(overhead))
        total = np.hstack([base, counts @ costs])
        size = np.mean((total / latencies_ms[:, None]) ** 2, axis=0)
        common = fit_nonnegative(total, latencies_ms, np.zeros(4), _stiffness(size, _STIFF[0] * len(total)))
        kinds = sorted({kernel.kind for kernel in kernels})
        of_kind = np.array([[kernel.kind == kind for kernel in kernels] for kind in kinds], dtype=np.float64)
        split = np.hstack([base, *((counts * mask) @ costs for mask in of_kind)])
        # A kind is drawn to the common line by what its launch, work or bytes take in a typical network.
        size = np.mean((split / latencies_ms[:, None]) ** 2, axis=0)
        prior = np.concatenate([common[:1], np.tile(common[1:], len(kinds))])
        found = fit_nonnegative(split, latencies_ms, prior, _stiffness(size, _STIFF[1] * len(split)))
        return cls({"": _line(common[1:]), **dict(zip(kinds, map(_line, found[1:].reshape(-1, 3)), strict=True))})

    def estimate_ms(self, kernels: Sequence[Kernel]) -> Vector:
        """Return what each kernel should take, ``(kernels,)``; never nothing for a kernel that does something."""
        common = self.coefficients[""]
        lines = np.array([self.coefficients.get(kernel.kind, common) for kernel in kernels]).reshape(-1, 3)
        costs = _costs(kernels)
        own, shared = (costs * lines).sum(axis=1), costs @ np.asarray(common)
        estimate: Vector = np.maximum(own, shared / _BOUND)
        return estimate


def _line(coefficients: Vector) -> Line:
    launch, mac, byte = coefficients.tolist()
    return launch, mac, byte


def _stiffness(size: Vector, strength: float) -> Vector:
    return strength * np.where(size > 0, size, 1.0)


def _costs(kernels: Sequence[Kernel]) -> Matrix:
    """Return launches, multiply-accumulates and bytes of each kernel, ``(kernels, 3)``."""
    return np.array([(1.0, k.macs, k.traffic_bytes) for k in kernels], dtype=np.float64).reshape(-1, 3)


@final
@dataclass(frozen=True)
class KernelTable:
    """Rows by name and shapes, and the roofline that prices what they lack."""

    rows: tuple[TableRow, ...]
    roofline: Roofline

    def price(self, kernels: Sequence[Kernel]) -> tuple[Vector, tuple[str, ...]]:
        """Return what each kernel takes in ms, ``(kernels,)``, and a remark on each that the table lacks, else ""."""
        found = self._priced.look_up(kernels, self._price)
        return np.array([price for price, _ in found], dtype=np.float64), tuple([remark for _, remark in found])

    @cached_property
    def _priced(self) -> Memory[Kernel, tuple[float, str]]:
        """What each kernel takes, and the remark on it."""
        return Memory()

    def _price(self, kernels: Sequence[Kernel]) -> list[tuple[float, str]]:
        estimates = self.roofline.estimate_ms(kernels)
        latencies = estimates.copy()
        remarks = [""] * len(kernels)
        for i, kernel in enumerate(kernels):
            row = TableRow.of(kernel, 0.0, 0, "estimated")
            known = self._by_key.get(row.key)
            if known is not None:
                latencies[i] = known.latency_ms
                continue
            ratio, remarks[i] = self._interpolate(row, kernel)
            latencies[i] *= ratio
        return list(zip(latencies.tolist(), remarks, strict=True))

    def _interpolate(self, row: TableRow, kernel: Kernel) -> tuple[float, str]:
        """Return how many times the estimate a kernel takes, and what is to be said about it."""
        place = np.log1p(np.array([row.macs, row.traffic_bytes], dtype=np.float64))
        family = self._families.get(row.name)
        if family is None:
            known = all(op.kind in self._kinds for op in kernel.ops)
            # A kind that nothing of the training had is listed by its name already.
            return self._kind_ratios.get(row.kind, 1.0), f"not in table: {row.name}" if known else ""
        places, logarithms = family
        nearest = np.argsort(np.abs(places - place).sum(axis=1), kind="stable")[:NEIGHBOURS]
        weight = 1 / (np.abs(places[nearest] - place).sum(axis=1) + 1e-3)
        inside = bool(np.all((places.min(axis=0) <= place + 1e-9) & (place <= places.max(axis=0) + 1e-9)))
        how = "interpolated" if inside else "extrapolated"
        ratio = float(np.exp(weight @ logarithms[nearest] / weight.sum()))
        return ratio, f"{how}: {row.name} {row.shapes}"

    @cached_property
    def _by_key(self) -> dict[tuple[str, str], TableRow]:
        return {row.key: row for row in self.rows}

    @cached_property
    def _kinds(self) -> frozenset[str]:
        """Kinds of operator that stand in the table, alone or inside a kernel."""
        return frozenset(part.partition("[")[0] for row in self.rows for part in row.name.split(" + "))

    @cached_property
    def _ratios(self) -> Vector:
        """Logarithm of how many times its estimate each row takes."""
        as_kernels = [Kernel(row.kind, row.name, "", row.macs, 0, row.traffic_bytes) for row in self.rows]
        estimates = self.roofline.estimate_ms(as_kernels)
        latencies = np.array([row.latency_ms for row in self.rows])
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = np.where(estimates > 0, latencies / estimates, 1.0)
        logarithms: Vector = np.log(np.clip(ratios, 1 / _BOUND, _BOUND))
        return logarithms

    @cached_property
    def _families(self) -> dict[str, tuple[Matrix, Vector]]:
        members: defaultdict[str, list[int]] = defaultdict(list)
        for i, row in enumerate(self.rows):
            members[row.name].append(i)
        places = np.log1p(np.array([(row.macs, row.traffic_bytes) for row in self.rows], dtype=np.float64))
        return {name: (places[of_one], self._ratios[of_one]) for name, of_one in members.items()}

    @cached_property
    def _kind_ratios(self) -> dict[str, float]:
        members: defaultdict[str, list[int]] = defaultdict(list)
        for i, row in enumerate(self.rows):
            members[row.kind].append(i)
        return {kind: float(np.exp(np.median(self._ratios[of_one]))) for kind, of_one in members.items()}


def remarks_of(occurrences: Occurrences, remarks: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return what is to be said of each graph, at most :data:`MAX_REMARKS` kernels by name and how many there are more.

    ``remarks`` is one a distinct kernel, empty where there is nothing to say; where there never is, so is the result.
    """
    if not any(remarks):
        return ()
    odd = np.array([bool(remark) for remark in remarks], dtype=bool)
    found: list[set[str]] = [set() for _ in range(len(occurrences))]
    graphs, numbers = occurrences.graphs, occurrences.numbers
    for place in np.flatnonzero(odd[numbers]) if len(numbers) else ():
        found[graphs[place]].add(remarks[numbers[place]])
    return tuple(_shortened(sorted(of_one)) for of_one in found)


def _shortened(remarks: Sequence[str]) -> tuple[str, ...]:
    if len(remarks) <= MAX_REMARKS:
        return tuple(remarks)
    return (*remarks[:MAX_REMARKS], f"not in table: {len(remarks) - MAX_REMARKS} more kernels")
