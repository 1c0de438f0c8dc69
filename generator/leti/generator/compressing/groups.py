"""Channel groups: which channels of a network can only be removed together.

Channels are the last dimension of a tensor. A convolution or fully connected layer reads some and makes others; every
other operator passes on what it reads, couples what it reads element by element, puts channels side by side, or needs
them as they are. :data:`RULES` says which; a kind that it does not know holds what it reads and makes fixed. The
coupling is that of DepGraph ("Towards Any Structural Pruning", Fang et al., 2023), found by union-find.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from leti.core.graph import Graph, Op
from leti.generator.cost import ELEMENTWISE, REDUCTIONS


@dataclass(frozen=True, slots=True)
class ChannelGroup:
    """Channels that are kept or removed together; ``channels`` is how many there are.

    ``members`` are all operators whose output consists of them alone, by any of which a patch may name the group, and
    ``producers`` those whose filters make them. What an operator makes may also be of several groups, as where it is
    added to a concatenation. ``fixed`` is the reason why the channels cannot be removed, empty where they can.
    """

    number: int
    channels: int
    producers: tuple[int, ...]
    members: tuple[int, ...]
    fixed: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    """Channels of groups side by side, and all of that ``times`` in succession, as a flattened image has them."""

    groups: tuple[int, ...]
    times: int = 1


Axis = tuple[Block, ...]
"""What the last dimension of a value consists of, in order; empty for a scalar."""


@dataclass(frozen=True, slots=True)
class Channels:
    """The channel groups of a graph, and what the last dimension of each of its values consists of."""

    groups: tuple[ChannelGroup, ...]
    axes: tuple[Axis, ...]

    def group_of(self, axis: Axis) -> int | None:
        """Return the number of the group that an axis consists of, ``None`` where it is none, or more than one."""
        return axis[0].groups[0] if len(axis) == 1 and len(axis[0].groups) == axis[0].times == 1 else None


def axis_size(axis: Axis, widths: Sequence[int]) -> int:
    """Return the size of a dimension where group ``g`` has ``widths[g]`` channels."""
    return sum([block.times * sum([widths[group] for group in block.groups]) for block in axis])


def kept_positions(axis: Axis, channels: Sequence[int], kept: Mapping[int, Sequence[int]]) -> list[int]:
    """Return the positions of a dimension that stay where group ``g`` keeps the channels ``kept[g]``, in order.

    ``channels[g]`` is how many group ``g`` has; a group that ``kept`` does not name keeps them all.
    """
    positions: list[int] = []
    offset = 0
    for block in axis:
        for _ in range(block.times):
            for group in block.groups:
                positions += [offset + int(channel) for channel in kept.get(group, range(channels[group]))]
                offset += channels[group]
    return positions


def channel_groups(graph: Graph) -> tuple[ChannelGroup, ...]:
    """Return the channel groups of a graph, in the order in which their first channels are made."""
    return find_channels(graph).groups


def find_channels(graph: Graph) -> Channels:
    """Return the channel groups of a graph, and how its values consist of them."""
    walk = _Walk(graph)
    for number, (op, sources) in enumerate(zip(graph.ops, graph.wiring, strict=True)):
        rule = RULES.get(op.kind, _hold)
        walk.axes += rule(walk, number, op, [walk.axes[source] for source in sources])
    for output in graph.outputs:
        walk.fix([walk.axes[output]], "the network returns them")
    return walk.channels()


@final
class _Walk:
    """Channels found so far: runs of channels, numbered, of which some are tied to others, and some divided."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._parents: list[int] = []
        self._sizes: list[int] = []
        self._reasons: dict[int, str] = {}
        self._divided: dict[int, tuple[int, int]] = {}  # runs that were cut in two
        self.axes: list[Axis] = []
        for tensor_type in graph.inputs:
            self.axes.append(self.fresh(tensor_type.shape, "the network is given them"))

    def fresh(self, shape: Sequence[int], fixed: str = "") -> Axis:
        """Return an axis of channels that stand for themselves; none for a scalar."""
        if not shape:
            return ()
        run = len(self._parents)
        self._parents.append(run)
        self._sizes.append(shape[-1])
        if fixed or len(shape) == 1:
            self._reasons[run] = fixed or "they are a batch"
        return (Block((run,)),)

    def fix(self, axes: Sequence[Axis], reason: str) -> None:
        """Have channels stay as they are; the first reason is kept."""
        for axis in axes:
            for block in axis:
                for run in self._leaves(block.groups):
                    self._reasons.setdefault(run, reason)

    def couple(self, first: Axis, second: Axis, reason: str) -> None:
        """Tie two axes channel by channel; fix both, for that ``reason``, where they do not repeat alike.

        Runs are divided where those of the other axis end, as where a sum adds a convolution to a concatenation.
        """
        if first == second:
            return
        if self._repeats(first) != self._repeats(second):
            self.fix((first, second), reason)
            return
        for mine, other in zip(first, second, strict=True):
            tied = 0
            while tied < len(pairs := list(zip(self._leaves(mine.groups), self._leaves(other.groups), strict=False))):
                one, two = sorted(pairs[tied], key=lambda run: self._sizes[run])
                if self._sizes[one] == self._sizes[two]:
                    self._tie(one, two)
                    tied += 1
                else:
                    self._divide(two, self._sizes[one])
                    tied = 0  # the same run may stand before, too

    def channels(self) -> Channels:
        numbers: dict[int, int] = {}
        for axis in self.axes:
            for block in axis:
                for run in self._leaves(block.groups):
                    numbers.setdefault(run, len(numbers))
        axes = tuple([self._numbered(axis, numbers) for axis in self.axes])
        producers: list[list[int]] = [[] for _ in numbers]
        members: list[list[int]] = [[] for _ in numbers]
        for number, value in enumerate(self._graph.first_values()):
            op = self._graph.ops[number]
            group = Channels((), ()).group_of(axes[value]) if op.outputs else None
            if group is not None:
                members[group].append(number)
                if op.kind in PRODUCERS:
                    producers[group].append(number)
        groups = [
            ChannelGroup(i, self._sizes[run], tuple(producers[i]), tuple(members[i]), self._reason(run, members[i]))
            for run, i in numbers.items()
        ]
        return Channels(tuple(groups), axes)

    def _numbered(self, axis: Axis, numbers: Mapping[int, int]) -> Axis:
        return tuple([Block(tuple([numbers[r] for r in self._leaves(block.groups)]), block.times) for block in axis])

    def _reason(self, run: int, members: Sequence[int]) -> str:
        return self._reasons.get(run, "" if members else "no operator makes them alone")

    def _repeats(self, axis: Axis) -> list[tuple[int, int]]:
        return [(block.times, sum([self._sizes[run] for run in block.groups])) for block in axis]

    def _leaves(self, runs: Sequence[int]) -> list[int]:
        """Return what runs consist of: one of those that are tied together stands for all, and none is divided."""
        found: list[int] = []
        for run in map(self._root, runs):
            found += self._leaves(self._divided[run]) if run in self._divided else [run]
        return found

    def _divide(self, run: int, size: int) -> None:
        parts = len(self._parents), len(self._parents) + 1
        self._parents += parts
        self._sizes += (size, self._sizes[run] - size)
        self._divided[run] = parts
        if run in self._reasons:
            self._reasons.update(dict.fromkeys(parts, self._reasons.pop(run)))

    def _root(self, run: int) -> int:
        parents = self._parents
        while parents[run] != run:
            parents[run] = run = parents[parents[run]]
        return run

    def _tie(self, first: int, second: int) -> None:
        first, second = sorted((self._root(first), self._root(second)))
        if first == second:
            return
        self._parents[second] = first
        reason = self._reasons.pop(second, "")
        if reason:
            self._reasons.setdefault(first, reason)


Rule = Callable[[_Walk, int, Op, Sequence[Axis]], Sequence[Axis]]
"""Takes an operator, its number and the axes that it reads, and returns those that it makes."""


def _hold(walk: _Walk, number: int, op: Op, axes: Sequence[Axis]) -> Sequence[Axis]:
    """Channels are needed as they are."""
    reason = f"operator {number}, {op.kind}, needs them as they are"
    walk.fix(axes, reason)
    return [walk.fresh(t.shape, reason) for t in op.outputs]


def _make(walk: _Walk, number: int, op: Op, axes: Sequence[Axis]) -> Sequence[Axis]:
    """All channels are read, and others are made."""
    if op.get("groups", 1) != 1:
        return _hold(walk, number, op, axes)
    return [walk.fresh(op.outputs[0].shape)]


def _pass(_walk: _Walk, _number: int, op: Op, axes: Sequence[Axis]) -> Sequence[Axis]:
    """Each channel is worked on for itself; all outputs have the channels of the one input."""
    return [axes[0]] * len(op.outputs)


def _each(walk: _Walk, number: int, op: Op, axes: Sequence[Axis]) -> Sequence[Axis]:
    """A depthwise convolution: one filter a channel passes them on, several do not."""
    same = op.inputs[0].shape[-1] == op.outputs[0].shape[-1]
    return (_pass if same else _hold)(walk, number, op, axes)


def _couple(walk: _Walk, number: int, op: Op, axes: Sequence[Axis]) -> Sequence[Axis]:
    """Operands are joined element by element; one that is broadcast over channels has none to remove."""
    reason = f"operator {number}, {op.kind}, joins channels that repeat differently"
    shape = op.outputs[0].shape
    whole = [axis for axis, t in zip(axes, op.inputs, strict=True) if t.shape and t.shape[-1:] == shape[-1:]]
    if not whole:
        return _hold(walk, number, op, axes)
    walk.fix([axis for axis in axes if axis not in whole], f"operator {number}, {op.kind}, broadcasts them")
    for axis in whole[1:]:
        walk.couple(whole[0], axis, reason)
    return [whole[0]] * len(op.outputs)


def _concat(walk: _Walk, number: int, op: Op, axes: Sequence[Axis]) -> Sequence[Axis]:
    """Channels lie side by side, or they are coupled where another dimension is joined."""
    if op["axis"] != len(op.inputs[0].shape) - 1:
        return _couple(walk, number, op, axes)
    return [_merged([block for axis in axes for block in axis])]


def _stack(walk: _Walk, number: int, op: Op, axes: Sequence[Axis]) -> Sequence[Axis]:
    return (_hold if op["axis"] == len(op.outputs[0].shape) - 1 else _couple)(walk, number, op, axes)


def _apart(walk: _Walk, number: int, op: Op, axes: Sequence[Axis]) -> Sequence[Axis]:
    """Operators along one axis, ``axis``: where it is that of the channels, these are needed as they are."""
    return (_hold if op["axis"] == len(op.inputs[0].shape) - 1 else _pass)(walk, number, op, axes)


def _across(walk: _Walk, number: int, op: Op, axes: Sequence[Axis]) -> Sequence[Axis]:
    """Operators over several ``axes``, such as a mean over height and width."""
    return (_hold if len(op.inputs[0].shape) - 1 in op.integers("axes") else _pass)(walk, number, op, axes)


def _keep_last(walk: _Walk, number: int, op: Op, axes: Sequence[Axis]) -> Sequence[Axis]:
    """Operators that may take some of any dimension, or more: all channels are passed on, or they are fixed."""
    kept = op.inputs[0].shape[-1:] == op.outputs[0].shape[-1:]
    return (_pass if kept else _hold)(walk, number, op, axes)


def _slice(walk: _Walk, number: int, op: Op, axes: Sequence[Axis]) -> Sequence[Axis]:
    backwards = op.integers("strides", ())[-1:] == (-1,)
    return (_hold if backwards else _keep_last)(walk, number, op, axes)


def _transpose(walk: _Walk, number: int, op: Op, axes: Sequence[Axis]) -> Sequence[Axis]:
    perm = op.integers("perm")
    return (_pass if perm[-1:] == (len(perm) - 1,) else _hold)(walk, number, op, axes)


def _reshape(walk: _Walk, number: int, op: Op, axes: Sequence[Axis]) -> Sequence[Axis]:
    """Channels last: a new last dimension holds so many whole rows of channels, one after the other."""
    before, after = op.inputs[0].shape, op.outputs[0].shape
    if len(before) < 2 or len(after) < 2 or after[-1] % before[-1]:
        return _hold(walk, number, op, axes)
    times, axis = after[-1] // before[-1], axes[0]
    if len(axis) == 1:
        return [(Block(axis[0].groups, axis[0].times * times),)]
    return [axis * times]


def _merged(blocks: Sequence[Block]) -> Axis:
    merged: list[Block] = []
    for block in blocks:
        if merged and merged[-1].times == block.times == 1:
            merged[-1] = Block(merged[-1].groups + block.groups)
        else:
            merged.append(block)
    return tuple(merged)


PRODUCERS: Final = frozenset({"conv1d", "conv2d", "conv3d", "transpose_conv2d", "fully_connected", "embedding"})
"""Kinds whose filters make channels."""

_NORMS: Final = ("batch_norm", "normalization", "layer_norm", "instance_norm", "rms_norm", "local_response_norm")
_POOLS: Final = tuple(f"{kind}_pool{rank}d" for kind in ("avg", "max") for rank in (1, 2, 3))

RULES: Final[Mapping[str, Rule]] = {
    **dict.fromkeys(PRODUCERS, _make),
    "depthwise_conv2d": _each,
    **dict.fromkeys(ELEMENTWISE, _couple),
    **dict.fromkeys(("leaky_relu", "elu", "gelu", "clip", "scale", "shift", "prelu", *_NORMS, *_POOLS), _pass),
    **dict.fromkeys((*REDUCTIONS, "reverse", "roll", "l2_normalize"), _across),
    **dict.fromkeys(("split", "unstack", "softmax", "log_softmax", "cumsum"), _apart),
    **dict.fromkeys(("pad", "resize", "broadcast_to"), _keep_last),
    "slice": _slice,
    "concat": _concat,
    "stack": _stack,
    "transpose": _transpose,
    "reshape": _reshape,
}
"""What each kind of operator does with channels; one that is not here holds them fixed."""
