"""Stages: a network as affine maps, each followed by functions of single elements, and perhaps a max pool.

Of a stage's value, only selected elements need be computed: a function of single elements keeps rows apart, a max pool
needs the few elements that its windows hold. What lies between stages is affine and need not be told apart: a
convolution, a pool of means, a norm and a sum are all a matrix and an offset.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, final

from leti.core.errors import InvalidInput
from leti.core.graph import Graph, Op

AFFINE: Final = frozenset(
    {
        *("conv1d", "conv2d", "conv3d", "depthwise_conv2d", "transpose_conv2d", "fully_connected", "constant"),
        *("scale", "shift", "batch_norm", "normalization", "avg_pool1d", "avg_pool2d", "avg_pool3d", "mean", "sum"),
        *("add", "sub", "neg", "reshape", "transpose", "concat", "split", "stack", "unstack", "slice", "pad"),
        *("broadcast_to", "tile", "reverse", "roll", "depth_to_space", "space_to_depth", "resize", "cumsum"),
    }
)
"""Kinds whose outputs are a matrix times their inputs, and an offset."""

LIPSCHITZ: Final[Mapping[str, float]] = MappingProxyType(
    {
        **dict.fromkeys(("relu", "relu6", "relu_n1", "clip", "tanh", "abs", "softplus", "softsign", "sin", "cos"), 1.0),
        **{"sigmoid": 0.25, "hard_sigmoid": 1 / 6, "selu": 1.7581, "elu": 1.0, "leaky_relu": 1.0},
        **{"silu": 1.0999, "hard_swish": 1.5, "gelu": 1.1290, "mish": 1.0885},
    }
)
"""Functions of single elements, and the steepest that each is; ``elu`` and ``leaky_relu`` also as steep as alpha."""

_AXES: Final = frozenset({"axis", "axes"})

MAX_POOL: Final = "max_pool2d"


def steepness(op: Op) -> float:
    """Return the Lipschitz constant of a function of single elements, or of a max pool."""
    if op.kind == MAX_POOL:
        return 1.0
    return max(LIPSCHITZ[op.kind], abs(op.number("alpha", 1.0)) if op.kind in ("elu", "leaky_relu") else 0.0)


@final
@dataclass(frozen=True, slots=True)
class Affine:
    """A value that is an affine map of ``sources``; those ``passed`` are added to it as they are."""

    value: int
    sources: tuple[int, ...]
    passed: frozenset[int]


@final
@dataclass(frozen=True, slots=True)
class Stage:
    """What operators ``then`` make of an affine map's value, one after the other; ``pool`` is the max pool's number."""

    affine: Affine
    then: tuple[int, ...]
    value: int
    pool: int | None


@final
@dataclass(frozen=True, slots=True)
class Division:
    """A network from its operator ``first`` on: stages in order, the values that leave them, and what reads those.

    ``rest`` are operators that work on whole values again, such as a final softmax. ``groups[i]`` is the group of stage
    ``i``: stages of one group add each other as they are, and so must select the same elements.
    """

    first: int
    stages: tuple[Stage, ...]
    exits: tuple[Affine, ...]
    rest: tuple[int, ...]
    groups: tuple[int, ...]


def divide(graph: Graph, first: int) -> Division:
    """Return the stages of a graph from operator ``first`` on; those before it stay as they are.

    Raises :class:`~leti.core.errors.InvalidInput` naming the operator that is neither affine, nor a function of single
    elements, nor a max pool, nor behind all that are.
    """
    rest = _rest(graph, first)
    readers = _reader_counts(graph)
    firsts = graph.first_values()
    whole = firsts[first] if first < len(firsts) else len(readers)
    known = {value: Affine(value, (value,), frozenset({value})) for value in range(whole)}
    stages: dict[int, Stage] = {}  # by the value that each makes
    for i in range(first, len(graph.ops)):
        op, sources, made = graph.ops[i], graph.wiring[i], firsts[i]
        if i in rest:
            continue
        if op.kind in AFFINE and keeps_samples(op):
            merged = _merged(op, [known[source] for source in sources])
            for value in range(made, made + len(op.outputs)):
                known[value] = replace(merged, value=value)
            continue
        if op.kind not in LIPSCHITZ and op.kind != MAX_POOL:
            raise _refused(i, op)
        before = stages.get(sources[0])
        if before is not None and readers[before.value] == 1 and (op.kind != MAX_POOL or before.pool is None):
            del stages[before.value]
            stage = replace(before, then=(*before.then, i), value=made)
        else:
            stage = Stage(known[sources[0]], (i,), made, None)
        stages[made] = replace(stage, pool=i) if op.kind == MAX_POOL else stage
        known[made] = Affine(made, (made,), frozenset({made}))
    left = {value for i in rest for value in graph.wiring[i]} | set(graph.outputs)
    exits = tuple([known[value] for value in sorted(left) if value >= whole and value in known])
    ordered = tuple([stages[value] for value in sorted(stages)])
    if not all(affine.sources for affine in (*exits, *(stage.affine for stage in ordered))):
        raise InvalidInput("a part of the network reads nothing but constants", field="graph")
    return Division(first, ordered, exits, tuple(sorted(rest)), _groups(ordered))


def _refused(number: int, op: Op) -> InvalidInput:
    return InvalidInput(
        f"{op.kind!r} is neither affine nor a function of single elements, and the network goes on behind it",
        field=f"graph.ops[{number}]",
        remedy="begin behind it",
    )


def keeps_samples(op: Op) -> bool:
    """Return whether an operator of one sample would do the same to each of many."""
    if op.kind == "constant":
        return True
    named = [value for name, value in op.attributes if name in _AXES]
    axes = {axis for value in named for axis in (value if isinstance(value, tuple) else (value,))}
    moves = op.kind == "transpose" and op.integers("perm")[0] != 0
    return 0 not in axes and not moves and all(t.shape[:1] == (1,) for t in (*op.inputs, *op.outputs))


def _merged(op: Op, read: Sequence[Affine]) -> Affine:
    """Return what an operator makes of affine maps; those that a sum takes as they are go on so."""
    sources = tuple(dict.fromkeys(source for affine in read for source in affine.sources))
    keeps = op.kind == "reshape" or (op.kind == "add" and len({t.shape for t in op.inputs}) == 1)
    passed = {
        source
        for source in sources
        if keeps and all(source in affine.passed for affine in read if source in affine.sources)
        and sum(source in affine.sources for affine in read) == 1
    }  # fmt: skip
    return Affine(-1, sources, frozenset(passed))


def _rest(graph: Graph, first: int) -> frozenset[int]:
    """Return the operators that may be of any kind: what is behind them computes next to nothing, and no affine map.

    That is a final softmax with whatever follows it, and functions of single elements that nothing affine reads.
    """
    makers = [-1] * len(graph.inputs) + [i for i, op in enumerate(graph.ops) for _ in op.outputs]
    last = max((i for i, op in enumerate(graph.ops) if op.macs), default=-1)
    rest: set[int] = set()
    for i in range(max(first, last + 1), len(graph.ops)):
        kind = graph.ops[i].kind
        other = kind not in AFFINE and kind not in LIPSCHITZ and kind != MAX_POOL
        if other or any(makers[value] in rest for value in graph.wiring[i]):
            rest.add(i)
    needed: set[int] = set()  # by an affine operator, directly or not
    for i in range(len(graph.ops) - 1, first - 1, -1):
        if i not in rest and (i in needed or graph.ops[i].kind in AFFINE):
            needed.update(makers[value] for value in graph.wiring[i])
    ends = {i for i in range(first, len(graph.ops)) if i not in needed and graph.ops[i].kind not in AFFINE}
    return frozenset(rest | ends)


def _reader_counts(graph: Graph) -> list[int]:
    counts = [0] * (len(graph.inputs) + sum(len(op.outputs) for op in graph.ops))
    for value in (*(value for sources in graph.wiring for value in sources), *graph.outputs):
        counts[value] += 1
    return counts


def _groups(stages: Sequence[Stage]) -> tuple[int, ...]:
    """Return the first stage of each stage's group; a stage with a pool adds nothing as it is."""
    numbers = {stage.value: i for i, stage in enumerate(stages)}
    group = list(range(len(stages)))
    for i, stage in enumerate(stages):
        joined = [group[numbers[source]] for source in added(stage) if source in numbers]
        for other in joined:
            old, new = max(group[i], other), min(group[i], other)
            group = [new if number == old else number for number in group]
    return tuple(group)


def added(stage: Stage) -> frozenset[int]:
    """Return the sources of which a stage adds the selected elements as they are, where they are a stage's."""
    return stage.affine.passed if stage.pool is None else frozenset()


def reduced_macs(graph: Graph, division: Division, rows: int | Sequence[int]) -> int:
    """Return the multiply-accumulates where each stage computes so many ``rows``, or all where there are fewer."""
    sizes = [t.elements for t in graph.value_types]
    each = [rows] * len(division.stages) if isinstance(rows, int) else rows
    computed = {stage.value: min(n, sizes[stage.value]) for n, stage in zip(each, division.stages, strict=True)}
    total = sum(op.macs for op in graph.ops[: division.first]) + sum(graph.ops[i].macs for i in division.rest)
    for stage in division.stages:
        read = sum(computed.get(s, sizes[s]) for s in stage.affine.sources if not (s in added(stage) and s in computed))
        total += computed[stage.value] * window_size(graph, stage) * read
    for leaving in division.exits:
        total += sizes[leaving.value] * sum(computed.get(s, sizes[s]) for s in leaving.sources)
    return total


def window_size(graph: Graph, stage: Stage) -> int:
    """Return how many elements a stage's max pool looks at for one of its own, 1 without a pool."""
    return 1 if stage.pool is None else math.prod(graph.ops[stage.pool].integers("kernel"))
