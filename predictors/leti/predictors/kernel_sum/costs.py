"""What is known of a kernel before it is priced, and graphs as counts of kernels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, final

from leti.core.extras import needs
from leti.predictors.batch import Batch, Ints, Kernel, Matrix
from leti.predictors.division import Table

with needs("boosting"):
    import numpy as np
    from scipy import sparse

if TYPE_CHECKING:
    Counts = Any  # an array, or a scipy.sparse.csr_array, which has no types

COSTS: Final = (
    "kernels",
    "macs",
    "input_bytes",
    "output_bytes",
    "weight_bytes",
    "macs_per_input_channel",
    "macs_per_output_channel",
    "sqrt_macs",
)
"""What a kernel is charged for. Few channels leave lanes of a vector unit idle: MACs divided by channels tell how many
pixels and taps there are to go over; a kernel's ramp-up grows slower than its work, as the root of the MACs does."""

MAX_FAMILIES: Final = 40
"""Families with prices of their own: the most widespread. The others are priced by their kind."""

MIN_GRAPHS: Final = 3
"""Fewest graphs that a family must stand in to have prices of its own."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Kernels:
    """Graphs as kernels: ``counts`` (graphs, distinct) of each of the distinct ``kernels``, and what is known of those.

    ``costs`` (distinct, :data:`COSTS`), ``kinds`` and ``families`` (distinct,) by the numbers of the encoder, -1 for
    those that it does not know; ``strange`` (distinct,) remarks on what it does not know, or an empty text. Graph ``g``
    runs the kernels ``sequence[starts[g] : starts[g] + lengths[g]]`` in order.
    """

    counts: Counts
    kernels: tuple[Kernel, ...]
    costs: Matrix
    kinds: Ints
    families: Ints
    strange: tuple[str, ...]
    sequence: Ints
    starts: Ints
    lengths: Ints

    def __len__(self) -> int:
        """Return the number of graphs."""
        return len(self.starts)

    def __getitem__(self, rows: Ints) -> Kernels:
        """Return the graphs with these numbers; the distinct kernels stay."""
        return Kernels(
            self.counts[rows],
            self.kernels,
            self.costs,
            self.kinds,
            self.families,
            self.strange,
            self.sequence,
            self.starts[rows],
            self.lengths[rows],
        )


@final
@dataclass(frozen=True)
class KernelEncoder:
    """The kinds of kernel that training had, and the families that have prices of their own; both sorted."""

    kinds: tuple[str, ...]
    families: tuple[str, ...]
    seen: tuple[str, ...]

    @classmethod
    def learn(cls, batch: Batch) -> KernelEncoder:
        """Return the kinds and families of a batch."""
        names = [kernel.family for kernel in batch.kernels]
        distinct = sorted(set(names))
        family = _places(names, distinct)[batch.numbers]
        pairs = np.unique(batch.kernel_graphs * max(len(distinct), 1) + family) % max(len(distinct), 1)
        spread = np.bincount(pairs, minlength=len(distinct))
        order = np.argsort(-spread, kind="stable")[:MAX_FAMILIES]
        chosen = sorted(distinct[i] for i in order.tolist() if spread[i] >= MIN_GRAPHS)
        return cls(tuple(sorted({kernel.kind for kernel in batch.kernels})), tuple(chosen), tuple(distinct))

    def encode(self, batch: Batch) -> Kernels:
        """Return the graphs of a batch as kernels."""
        kernels = batch.kernels
        table, marks, known = self._table.look_up(kernels, self._describe)
        kinds, families, is_strange = marks[known].T
        strange = [""] * len(kernels)
        for number in is_strange.nonzero()[0].tolist():
            strange[number] = f"kernel: {kernels[number].family} not in training"
        return Kernels(
            _counts(batch),
            kernels,
            table[known],
            kinds,
            families,
            tuple(strange),
            batch.numbers,
            batch.starts,
            batch.lengths,
        )

    @cached_property
    def _table(self) -> Table[Kernel]:
        """The costs of each kernel, its kind and family, and whether there is a remark on it."""
        return Table(len(COSTS), 3)

    def _describe(self, kernels: Sequence[Kernel]) -> tuple[Matrix, Ints]:
        kinds, families, seen = self._known
        marks = np.empty((len(kernels), 3), dtype=np.int64)
        marks[:, 0] = kind = [kinds.get(kernel.kind, -1) for kernel in kernels]
        marks[:, 1] = [families.get(kernel.family, -1) for kernel in kernels]
        marks[:, 2] = [number >= 0 and kernel.family not in seen for kernel, number in zip(kernels, kind, strict=True)]
        return np.array([_costs(kernel) for kernel in kernels], dtype=np.float64).reshape(-1, len(COSTS)), marks

    @cached_property
    def _known(self) -> tuple[dict[str, int], dict[str, int], frozenset[str]]:
        kinds, families = ({name: i for i, name in enumerate(names)} for names in (self.kinds, self.families))
        return kinds, families, frozenset(self.seen)


def _counts(batch: Batch) -> Counts:
    """Return how often each distinct kernel stands in each graph; of one graph as an array."""
    if len(batch) == 1:
        return np.bincount(batch.numbers, minlength=len(batch.kernels))[None, :].astype(np.float64)
    ones = np.ones(len(batch.numbers))
    places = batch.kernel_graphs, batch.numbers
    return sparse.csr_array((ones, places), shape=(len(batch), len(batch.kernels)), dtype=np.float64)


def _costs(kernel: Kernel) -> tuple[float, ...]:
    """Return the :data:`COSTS` of a kernel."""
    first, last = kernel.ops[0], kernel.ops[-1]
    outputs = last.outputs or first.inputs
    inputs = first.inputs or outputs
    weights = sum(op.traffic_bytes - op.activation_bytes for op in kernel.ops)
    return (
        1.0,
        float(kernel.macs),
        float(sum(tensor.size_bytes for tensor in inputs)),
        float(sum(tensor.size_bytes for tensor in outputs)),
        float(max(weights, 0)),
        kernel.macs / _channels(inputs),
        kernel.macs / _channels(outputs),
        math.sqrt(kernel.macs),
    )


def _channels(tensors: Sequence[Any]) -> int:
    """Return the size of the last dimension of the first tensor."""
    return int(tensors[0].shape[-1]) if tensors and tensors[0].shape else 1


def _places(names: Iterable[str], known: Sequence[str]) -> Ints:
    """Return each name's place in ``known``, or -1."""
    place = {name: i for i, name in enumerate(known)}
    return np.array([place.get(name, -1) for name in names], dtype=np.int64)
