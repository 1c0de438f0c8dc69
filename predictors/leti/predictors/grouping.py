"""Grouping: operators that run as one, put together in arrays, and kernels as the parts of graphs place them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple, final

from leti.core.extras import needs
from leti.core.graph import Graph
from leti.core.parts import Part
from leti.predictors.division import Division, Ints
from leti.predictors.kernel import Kernel

with needs("boosting"):
    import numpy as np


@final
class Grouped(NamedTuple):
    """Operators in kernels: ``place`` (o,) is the kernel of each operator, ``heads`` (k,) the first of each kernel.

    ``compositions`` are operators by their numbers, ``types`` (k,) says which of them each kernel is.
    """

    place: Ints
    heads: Ints
    types: Ints
    compositions: list[tuple[int, ...]]


def grouped(graphs: Sequence[Graph | Part], codes: Ints, starts: Ints) -> Grouped:
    """Group operators by kernels, which are put in the order of their last operators."""
    group = np.arange(len(codes))
    ends = np.arange(len(codes))
    types = codes.copy()
    compositions: list[tuple[int, ...]] = [(code,) for code in range(int(codes.max(initial=-1)) + 1)]
    every = list(chain.from_iterable([graph.kernels for graph in graphs]))
    sizes = np.fromiter(map(len, every), dtype=np.int64, count=len(every))
    longer = (sizes > 1).nonzero()[0]
    offsets = np.repeat(starts, [len(graph.kernels) for graph in graphs])[longer]
    members = [every[i] for i in longer.tolist()]
    sizes = sizes[longer]
    flat = np.fromiter(chain.from_iterable(members), dtype=np.int64, count=int(sizes.sum()))
    first = sizes.cumsum() - sizes
    heads = flat[first] + offsets
    for position in range(1, int(sizes.max(initial=0))):
        held = sizes > position
        into, added = heads[held], flat[first[held] + position] + offsets[held]
        group[added] = into
        ends[into] = np.maximum(ends[into], added)
        width = len(compositions)
        pairs, inverse = np.unique(types[into] * width + codes[added], return_inverse=True)
        types[into] = width + inverse
        compositions.extend((*compositions[int(pair) // width], int(pair) % width) for pair in pairs)
    last = (group == np.arange(len(codes))).nonzero()[0]
    last = last[np.argsort(ends[last], kind="stable")]
    place = np.zeros(len(codes), dtype=np.int64)
    place[last] = np.arange(len(last))
    return Grouped(place[group], last, types[last], compositions)


@final
class Placed(NamedTuple):
    """Distinct kernels, which of them stands where ``(k,)``, and how many each graph has ``(graphs,)``."""

    kernels: tuple[Kernel, ...]
    numbers: Ints
    lengths: Ints

    @classmethod
    def of(cls, division: Division, of_parts: Sequence[tuple[Kernel, ...]]) -> Placed:
        """Place the kernels of each distinct part, in order, where the part stands."""
        number: dict[Kernel, int] = {}
        objects = {id(kernel): kernel for kernels in of_parts for kernel in kernels}  # few, and hashed once each
        places = {key: number.setdefault(kernel, len(number)) for key, kernel in objects.items()}
        coded = [[places[id(kernel)] for kernel in kernels] for kernels in of_parts]
        numbers: list[int] = []
        for code, times in zip(division.codes.tolist(), division.times.tolist(), strict=True):
            numbers += coded[code] * times
        sizes = np.array([len(kernels) for kernels in of_parts], dtype=np.int64)
        lengths = np.add.reduceat(sizes[division.codes] * division.times, division.starts[:-1])
        return cls(tuple(number), np.array(numbers, dtype=np.int64), lengths)
