"""Drawings of graphs: boxes and edges that a browser lays out, as fine as it can show them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, final, get_args

from leti.core.errors import NotFound
from leti.core.fingerprint import cut
from leti.core.graph import Graph, Op
from leti.generator.describe import count_text, op_title, type_text

Grain = Literal["operators", "kernels", "modules"]
"""What a box stands for: an operator, the operators that run as one kernel, or a part that one value enters and one
leaves; parts that repeat one after the other share a box."""

GRAINS: Final[tuple[Grain, ...]] = get_args(Grain)

MAX_BOXES: Final = 1_000
"""Boxes of a drawing: what has more is drawn more coarsely, so that a browser stays quick."""

MAX_PERIOD: Final = 16
"""Parts in a row that are looked at for whether they repeat."""

MAX_NAMED: Final = 4
"""Kinds of operator that a box names."""

_KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "convolution": ("conv1d", "conv2d", "conv3d", "depthwise_conv2d", "transpose_conv2d"),
    "matrix": ("fully_connected", "matmul", "embedding"),
    "pooling": (
        *("avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool1d", "max_pool2d", "max_pool3d"),
        *("mean", "sum", "max", "min", "prod", "argmax", "argmin"),
    ),
    "normalisation": (
        *("batch_norm", "normalization", "layer_norm", "instance_norm", "group_norm", "rms_norm"),
        *("local_response_norm", "l2_normalize", "softmax", "log_softmax"),
    ),
    "activation": (
        *("relu", "relu6", "relu_n1", "clip", "prelu", "leaky_relu", "elu", "gelu", "selu", "sigmoid", "tanh", "silu"),
        *("hard_swish", "hard_sigmoid", "mish", "softplus", "softsign"),
    ),
    "movement": (
        *("concat", "split", "stack", "unstack", "slice", "reshape", "transpose", "broadcast_to", "tile", "pad"),
        *("gather", "gather_nd", "reverse", "roll", "depth_to_space", "space_to_depth", "space_to_batch"),
        *("batch_to_space", "resize", "cast", "quantize", "dequantize"),
    ),
}
GROUPS: Final[Mapping[str, str]] = MappingProxyType({kind: group for group, kinds in _KINDS.items() for kind in kinds})
"""The group of each kind of operator; other kinds compute each number by itself."""

OTHER: Final = "arithmetic"
UNKNOWN: Final = "unknown"


@final
@dataclass(frozen=True, slots=True)
class Box:
    """A box: what it says, its group, and its operators' numbers; ``times`` that many of it follow each other."""

    title: str
    shape: str
    group: str
    detail: str
    operators: tuple[int, ...] = ()
    times: int = 1


@final
@dataclass(frozen=True, slots=True)
class Drawing:
    """Boxes, and which is joined to which; ``grains`` are those in which the graph has few enough boxes."""

    grain: Grain
    grains: tuple[Grain, ...]
    boxes: tuple[Box, ...]
    edges: tuple[tuple[int, int], ...]


def group_of(op: Op) -> str:
    """Return the group of an operator."""
    return UNKNOWN if op.is_unknown else GROUPS.get(op.kind, OTHER)


def draw(graph: Graph, grain: Grain | None = None) -> Drawing | None:
    """Return the drawing of a graph: the finest of kernels and modules that has few enough boxes, or one grain.

    ``None`` where even its modules are too many; raises :class:`NotFound` for a grain that has too many boxes.
    """
    groups = {one: _grouped(graph, one) for one in GRAINS}
    grains = tuple(one for one in GRAINS if len(groups[one]) <= MAX_BOXES)
    if grain is None:
        grain = next((one for one in grains if one != "operators"), None)
        if grain is None:
            return None
    if grain not in grains:
        raise NotFound(
            f"has {len(groups[grain])} boxes, which no browser lays out in time",
            field="grain",
            remedy=f"at most {MAX_BOXES}: ask for {' or '.join(grains) or 'the table of operators'}",
        )
    members = groups[grain]
    inputs = [Box("input", type_text(type_), "border", "", ()) for type_ in graph.inputs]
    boxes = [*inputs, *(_box(graph, one) for one in members)]
    place = {number: len(inputs) + i for i, one in enumerate(members) for number in one.operators}
    return Drawing(grain, grains, (*boxes, *_ends(graph)), tuple(_edges(graph, place, len(boxes))))


@final
@dataclass(frozen=True, slots=True)
class _Member:
    """Operators of one box; those of its first repetition are told of."""

    operators: tuple[int, ...]
    first: tuple[int, ...]
    times: int = 1


def _grouped(graph: Graph, grain: Grain) -> list[_Member]:
    if grain == "operators":
        return [_Member((i,), (i,)) for i in range(len(graph.ops))]
    if grain == "kernels":
        return [_Member(kernel, kernel) for kernel in _kernels(graph)]
    return list(_modules(graph))


def _kernels(graph: Graph) -> list[tuple[int, ...]]:
    of_kernel = {number for kernel in graph.kernels for number in kernel}
    single = ((i,) for i in range(len(graph.ops)) if i not in of_kernel)
    return sorted([*graph.kernels, *single], key=lambda kernel: kernel[-1])


def _modules(graph: Graph) -> Iterator[_Member]:
    """Yield the parts of a graph; of equal runs of parts that follow each other, one box for all."""
    segments = cut(len(graph.inputs), graph.ops, graph.wiring, graph.outputs)
    names = [segment.form(graph.ops).name(graph.ops) for segment in segments]
    at = 0
    while at < len(segments):
        period, times = _repeats(names, at)
        start, end = segments[at].start, segments[at + period - 1].end
        last = segments[at + period * times - 1].end
        yield _Member(tuple(range(start, last)), tuple(range(start, end)), times)
        at += period * times


def _repeats(names: Sequence[bytes], at: int) -> tuple[int, int]:
    """Return the length of the run from ``at`` on that covers most by repeating, and how many times it stands."""
    best = (1, 1)
    for period in range(1, min(MAX_PERIOD, (len(names) - at) // 2) + 1):
        times = 1
        while names[at : at + period] == names[at + period * times : at + period * (times + 1)]:
            times += 1
        if times > 1 and period * times > best[0] * best[1]:
            best = (period, times)
    return best


def _box(graph: Graph, member: _Member) -> Box:
    ops = [graph.ops[i] for i in member.first]
    kinds = Counter(op.kind for op in ops)
    if len(ops) == 1 or len(ops) <= MAX_NAMED:
        title = " + ".join(map(op_title, ops))
    else:
        named = [f"{kind} ×{count}" if count > 1 else kind for kind, count in kinds.most_common(MAX_NAMED)]
        title = f"{len(ops)} operators: {', '.join(named)}{', …' if len(kinds) > MAX_NAMED else ''}"
    last = graph.ops[member.operators[-1]]
    numbers = f"operator {member.operators[0]}"
    if len(member.operators) > 1:
        numbers = f"operators {member.operators[0]} to {member.operators[-1]}"
    macs, params = (member.times * sum(getattr(op, name) for op in ops) for name in ("macs", "params"))
    return Box(
        title if member.times == 1 else f"{member.times} × ({title})",
        ", ".join(map(type_text, last.outputs)),
        group_of(max(ops, key=lambda op: op.macs)),
        f"{numbers}; {count_text(macs)} MACs, {count_text(params)} parameters",
        member.operators,
        member.times,
    )


def _ends(graph: Graph) -> list[Box]:
    values = graph.value_types
    return [Box("output", type_text(values[number]), "border", "") for number in graph.outputs]


def _edges(graph: Graph, place: Mapping[int, int], first_end: int) -> Iterator[tuple[int, int]]:
    """Yield which box feeds which, each pair once."""
    made_by = [*range(len(graph.inputs))]
    for i, op in enumerate(graph.ops):
        made_by += [place[i]] * len(op.outputs)
    pairs = [(made_by[source], place[i]) for i, sources in enumerate(graph.wiring) for source in sources]
    pairs += [(made_by[number], first_end + i) for i, number in enumerate(graph.outputs)]
    yield from dict.fromkeys(pair for pair in pairs if pair[0] != pair[1])
