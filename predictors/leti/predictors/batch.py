"""Batch: graphs taken apart into flat arrays, so that what follows is NumPy over the whole batch.

Graphs share most of their operators, which :class:`~leti.core.graph.Op` interns: each distinct operator and kernel of a
batch is described once, and stands in the arrays by its number.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import final

from leti.core.extras import needs
from leti.core.graph import Attribute, Encoding, Graph, Op, TensorType

with needs("boosting"):
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]
    Vector = NDArray[np.float64]
    Ints = NDArray[np.int64]


@final
@dataclass(frozen=True, slots=True)
class Kernel:
    """Operators executed as one: names at three grains (``kind``, ``family``, ``name``) and what they cost together.

    ``traffic_bytes`` leaves out the tensors that pass from one operator of the kernel to the next. ``ops`` are its
    operators, in order.
    """

    kind: str
    family: str
    name: str
    macs: int
    params: int
    traffic_bytes: int
    ops: tuple[Op, ...] = ()

    @classmethod
    def of(cls, ops: Sequence[Op]) -> Kernel:
        """Describe a kernel of these operators, in order."""
        inside = 2 * sum(t.size_bytes for op in ops[:-1] for t in op.outputs)
        return cls(
            max(ops, key=lambda op: op.macs).kind,
            " + ".join(_family(op) for op in ops),
            " + ".join(f"{_family(op)} {_shapes(op)}" for op in ops),
            sum(op.macs for op in ops),
            sum(op.params for op in ops),
            max(sum(op.traffic_bytes for op in ops) - inside, 0),
            tuple(ops),
        )


@final
@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Graphs as arrays over all their operators (o), kernels (k), and edges between kernels (e).

    ``ops`` and ``kernels`` are the distinct ones; ``codes`` (o,) and ``numbers`` (k,) say which stands where, and
    ``op_graphs`` (o,) and ``kernel_graphs`` (k,) in which graph; ``op_kernels`` (o,) in which kernel. Graph ``g`` has ``lengths[g]`` kernels from
    ``starts[g]`` on, in the order of their last operators. An edge leads from the kernel ``writers`` (e,) to the kernel
    ``readers`` (e,) that reads it; ``sources`` (k, most of any) lists the writers of each reader, padded with k.
    ``whole`` (graphs, 3) holds peak memory in bytes, elements of the inputs, and operators; ``encodings`` (graphs,)
    what their search spaces say of them.
    """

    ops: tuple[Op, ...]
    kernels: tuple[Kernel, ...]
    codes: Ints
    numbers: Ints
    op_graphs: Ints
    op_kernels: Ints
    kernel_graphs: Ints
    starts: Ints
    lengths: Ints
    writers: Ints
    readers: Ints
    sources: Ints
    whole: Matrix
    encodings: tuple[Encoding | None, ...]

    def __len__(self) -> int:
        """Return the number of graphs."""
        return len(self.lengths)

    @classmethod
    def of(cls, graphs: Sequence[Graph]) -> Batch:
        """Take graphs apart."""
        ops, codes = _number_ops(graphs)
        counts = np.array([len(graph.ops) for graph in graphs], dtype=np.int64)
        offsets = np.cumsum(counts) - counts
        op_graphs = np.repeat(np.arange(len(graphs)), counts)
        group, compositions, types = _group(graphs, codes, offsets)
        ends = np.zeros(len(codes), dtype=np.int64)
        np.maximum.at(ends, group, np.arange(len(codes)))
        heads = np.flatnonzero(group == np.arange(len(codes)))
        heads = heads[np.argsort(ends[heads])]
        place = np.zeros(len(codes), dtype=np.int64)
        place[heads] = np.arange(len(heads))
        writers, readers = (place[group[ends]] for ends in _edges(graphs, ops, codes, offsets))
        across = writers != readers
        writers, readers = writers[across], readers[across]
        used, numbers = np.unique(types[heads], return_inverse=True)
        kernel_graphs = op_graphs[heads]
        lengths = np.bincount(kernel_graphs, minlength=len(graphs))
        return cls(
            ops,
            tuple(_kernel(tuple(ops[code] for code in compositions[key])) for key in used),
            codes,
            numbers,
            op_graphs,
            place[group],
            kernel_graphs,
            np.cumsum(lengths) - lengths,
            lengths,
            writers,
            readers,
            _padded(readers, writers, len(heads)),
            np.array([_whole(graph) for graph in graphs], dtype=np.float64).reshape(len(graphs), 3),
            tuple([graph.encoding for graph in graphs]),
        )

    def cost(self, name: str) -> Vector:
        """Return the ``macs``, ``params`` or ``traffic_bytes`` of each distinct kernel."""
        return np.array([getattr(kernel, name) for kernel in self.kernels], dtype=np.float64)

    def longest(self, costs: Matrix) -> tuple[Matrix, Ints]:
        """Return the largest sum of costs along any path that ends in each kernel, ``(k, measures)``, and how it came.

        ``costs`` is ``(distinct kernels, measures)``. The second result ``(k,)`` is the kernel before on the longest
        path by the *last* measure, k where there is none. Works through all graphs at once, position by position.
        """
        total = len(self.numbers)
        reached = np.vstack([costs[self.numbers], np.zeros((1, costs.shape[1]))])
        before = np.full(total, total, dtype=np.int64)
        if not self.sources.shape[1]:
            return reached[:-1], before
        by_length = np.argsort(-self.lengths, kind="stable")
        starts = self.starts[by_length]
        lasting = np.searchsorted(-self.lengths[by_length], -np.arange(self.lengths.max()), side="left")
        rows = np.arange(len(self))
        for position, count in enumerate(lasting.tolist()):
            here = starts[:count] + position
            sources = self.sources[here]
            earlier = reached[sources]
            reached[here] += earlier.max(axis=1)
            before[here] = sources[rows[:count], earlier[:, :, -1].argmax(axis=1)]
        return reached[:-1], before

    def followed(self, reached: Vector, before: Ints) -> Ints:
        """Return the kernels on the longest path of every graph, from the results of :meth:`longest`, in no order."""
        order = np.lexsort((reached, self.kernel_graphs))  # the last of each graph has the longest path
        here = order[(self.starts + self.lengths - 1)[self.lengths > 0]]
        found = [here]
        while len(here):
            here = before[here]
            here = here[here < len(before)]
            found.append(here)
        return np.concatenate(found)


def _number_ops(graphs: Sequence[Graph]) -> tuple[tuple[Op, ...], Ints]:
    """Return the distinct operators, and the number of each operator of each graph."""
    identities = np.fromiter(
        map(id, chain.from_iterable(graph.ops for graph in graphs)),  # the graphs keep their operators alive meanwhile
        dtype=np.int64,
        count=sum(len(graph.ops) for graph in graphs),
    )
    objects = {id(op): op for graph in graphs for op in graph.ops}
    distinct, codes = np.unique(identities, return_inverse=True)
    return tuple(objects[int(identity)] for identity in distinct), codes.astype(np.int64)


def _edges(graphs: Sequence[Graph], ops: Sequence[Op], codes: Ints, starts: Ints) -> tuple[Ints, Ints]:
    """Return writing and reading operators of every value that is read, graph inputs left out; both ``(edges,)``."""
    inputs = np.array([len(graph.inputs) for graph in graphs], dtype=np.int64)
    made = np.array([len(op.outputs) for op in ops], dtype=np.int64)[codes]
    makers = np.repeat(
        np.insert(np.arange(len(codes)), starts, -1), np.insert(made, starts, inputs)
    )  # operator that makes each value, -1 for graph inputs
    arity = np.array([len(op.inputs) for op in ops], dtype=np.int64)[codes]
    values_before = np.cumsum(inputs) - inputs + np.concatenate([[0], np.cumsum(made)])[starts]
    readers = np.repeat(np.arange(len(codes)), arity)
    local = np.fromiter(
        chain.from_iterable(chain.from_iterable(graph.wiring for graph in graphs)), dtype=np.int64, count=len(readers)
    )
    graph_of = np.repeat(np.arange(len(graphs)), [len(graph.ops) for graph in graphs])
    writers = makers[local + values_before[graph_of[readers]]] if len(readers) else readers
    inner = writers >= 0
    return writers[inner], readers[inner]


def _group(graphs: Sequence[Graph], codes: Ints, starts: Ints) -> tuple[Ints, list[tuple[int, ...]], Ints]:
    """Return for each operator the first of its kernel, compositions (numbers of operators), and each head's one."""
    group = np.arange(len(codes))
    types = codes.copy()
    compositions: list[tuple[int, ...]] = [(code,) for code in range(int(codes.max(initial=-1)) + 1)]
    grouped = [kernel for graph in graphs for kernel in graph.kernels]
    sizes = np.fromiter(map(len, grouped), dtype=np.int64, count=len(grouped))
    offsets = np.repeat(starts, [len(graph.kernels) for graph in graphs])
    for position in range(1, int(sizes.max(initial=0))):
        longer = np.flatnonzero(sizes > position)
        members = [grouped[i] for i in longer]
        heads = np.fromiter(map(operator.itemgetter(0), members), dtype=np.int64, count=len(longer)) + offsets[longer]
        added = (
            np.fromiter(map(operator.itemgetter(position), members), dtype=np.int64, count=len(longer))
            + offsets[longer]
        )
        group[added] = heads
        width = len(compositions)
        pairs, inverse = np.unique(types[heads] * width + codes[added], return_inverse=True)
        types[heads] = width + inverse
        compositions.extend((*compositions[int(pair) // width], int(pair) % width) for pair in pairs)
    return group, compositions, types


def _padded(readers: Ints, writers: Ints, count: int) -> Ints:
    """Return the writers of each reader as rows, ``(count, most of any)``, padded with ``count``."""
    order = np.argsort(readers, kind="stable")
    readers, writers = readers[order], writers[order]
    each = np.bincount(readers, minlength=count)
    column = np.arange(len(readers)) - np.repeat(np.cumsum(each) - each, each)
    rows = np.full((count, int(each.max(initial=0))), count, dtype=np.int64)
    rows[readers, column] = writers
    return rows


def _whole(graph: Graph) -> tuple[int, int, int]:
    return graph.peak_memory_bytes, sum(t.elements for t in graph.inputs), len(graph.ops)


@functools.lru_cache(maxsize=16_384)
def _kernel(ops: tuple[Op, ...]) -> Kernel:
    return Kernel.of(ops)


def _family(op: Op) -> str:
    attributes = ",".join(f"{key}={_attribute(value)}" for key, value in op.attributes)
    return f"{op.kind}[{attributes}]" if attributes else op.kind


def _attribute(value: Attribute) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _shapes(op: Op) -> str:
    return f"{','.join(map(_type, op.inputs))}>{','.join(map(_type, op.outputs))}"


def _type(tensor: TensorType) -> str:
    shape = "x".join(map(str, tensor.shape))
    return shape if tensor.dtype == "float32" else f"{shape}:{tensor.dtype}"
