"""Assembly: modules that follow each other become a graph, by adding up what is known of each.

The graph is the one that placing operator after operator makes. What reaches across a border between two modules is
looked at there: a constant that folds into the convolution that ends the module before, and an activation that runs in
that one's kernel. All that a module needs to know of those before it is a :class:`Standing`, of which there are few; so
what it adds, a :class:`Step`, is found once and remembered. The operators in a row, with their wiring and kernels, are
laid out when somebody asks for them: a prediction does not, as a rule.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, final

from leti.core.graph import Encoding, Graph, LaidOut, Op, TensorType, Totals
from leti.core.parts import UNDIVIDED, Part, Parts
from leti.generator.modules import REMEMBERED, Link, Module, Stencil

_NOTHING: Final = Totals(0, 0, 0, 0)


@final
@dataclass(slots=True, eq=False)  # a value, but frozen it takes three times as long to make, for every new cell
class Standing:
    """What a module needs to know of those before it; equal ones are one object, as long as it is remembered.

    ``maker`` is the last operator, ``None`` where there is but the input; bytes are what is alive before its kernel
    (``held``) and while that runs (``pending``). The module that stands last is still ``begun`` as a part: it takes the
    ``tail`` of what runs in its last kernel.
    """

    output_type: TensorType
    maker: Op | None
    held: int
    pending: int
    begun: tuple[Module, Stencil, bool] | None
    tail: tuple[Op, ...]

    def last_part(self) -> Part | None:
        """Return the part that the last module makes where nothing follows."""
        return None if self.begun is None else _part(*self.begun, self.tail)


def start(input_type: TensorType) -> Standing:
    """Return how a graph stands that is nothing but its input."""
    return _standing(input_type, None, 0, input_type.size_bytes, None, ())


class Step(NamedTuple):
    """What modules add to those before them, and how it stands ``after`` them.

    ``parts`` are those that are complete now, each standing ``times`` in succession. ``peak_bytes`` is the most that is
    alive while the modules run, the last kernel apart. ``divides`` says that each module's digests are its own.
    """

    after: Standing
    parts: tuple[Part, ...]
    times: tuple[int, ...]
    peak_bytes: int
    operators: int
    divides: bool
    segments: bytes
    totals: Totals
    placed: tuple[tuple[Module, Link, int], ...]


def nothing(before: Standing) -> Step:
    """Return the step that adds nothing."""
    return Step(before, (), (), 0, 0, True, b"", _NOTHING, ())


def step(before: Standing, module: Module, times: int) -> Step | None:
    """Return what a module adds that stands so many times, nothing where it is unclear how it runs there."""
    ops, plan, unit = module.ops, module.plan, module.unit_bytes
    if not ops:
        return nothing(before)
    maker, held, pending, begun, tail = before.maker, before.held, before.pending, before.begun, before.tail
    parts: list[Part] = []
    counts: list[int] = []
    placed: list[tuple[Module, Link, int]] = []
    peak = 0
    for count in (1, times - 1) if times > 1 else (1,):  # from the second on, a module follows its like
        link = plan.after(maker)
        if link is None:
            return None
        entry = ops[: len(link.entry)]
        if entry:  # nothing of the modules before is alive but the input
            pending = held + link.first * unit
        if link.others:
            peak = max(peak, pending, link.inner * unit)
            held, pending = link.held * unit, link.last * unit
            if begun is not None:
                _put(parts, counts, _part(*begun, tail + entry), 1)
                tail = ()
            begun = module, link.stencil, bool(entry)
            if count > 1:
                _put(parts, counts, _part(*begun, entry), count - 1)
        else:  # all of it runs in the kernel of the module before, and goes to its part
            tail += entry * count
        maker = ops[-1]
        placed.append((module, link, count))
    return Step(
        _standing(module.output_type, maker, held, pending, begun, tail),
        tuple(parts),
        tuple(counts),
        peak,
        len(ops) * times,
        plan.may_be_cut,
        module.segments * times,
        module.totals if times == 1 else _times(module.totals, times),
        tuple(placed),
    )


def joined(steps: Sequence[Step]) -> Step:
    """Return steps, one or more, as one."""
    if len(steps) == 1:
        return steps[0]
    parts: list[Part] = []
    counts: list[int] = []
    for one in steps:
        for part, count in zip(one.parts, one.times, strict=True):
            _put(parts, counts, part, count)
    return Step(
        steps[-1].after,
        tuple(parts),
        tuple(counts),
        max([one.peak_bytes for one in steps]),
        sum([one.operators for one in steps]),
        all(one.divides for one in steps),
        b"".join([one.segments for one in steps]),
        _summed(steps),
        tuple([placed for one in steps for placed in one.placed]),
    )


def _summed(steps: Sequence[Step]) -> Totals:
    return Totals(*[sum(column) for column in zip(*[one.totals for one in steps], strict=True)])


@final
class _Stack:
    """The layout of a graph that is a chain of steps."""

    __slots__ = ("_steps",)

    def __init__(self, steps: tuple[Step, ...]) -> None:
        self._steps = steps

    def totals(self) -> Totals:
        return _summed(self._steps)

    def segments(self) -> bytes:
        steps = self._steps
        return b"".join([step.segments for step in steps]) if all(step.divides for step in steps) else b""

    def lay_out(self) -> LaidOut:
        ops: list[Op] = []
        wiring: list[tuple[int, ...]] = []
        kernels: list[tuple[int, ...]] = []
        for step in self._steps:
            for module, link, times in step.placed:
                for _ in range(times):
                    offset = len(ops)
                    if link.entry:
                        kernels.append(kernels.pop() + tuple([i + offset for i in link.entry]))
                    placed = link.stencil.at(offset)
                    wiring += placed[0]
                    kernels += placed[1]
                    ops += module.ops
        return tuple(ops), tuple(wiring), tuple(kernels)


def assembled(input_type: TensorType, steps: Sequence[Step], encoding: Encoding | None) -> Graph:
    """Return the graph of one step or more, each from where the one before led, the first from :func:`start`."""
    peak = max(input_type.size_bytes, steps[-1].after.pending, *[step.peak_bytes for step in steps])
    operators = sum([step.operators for step in steps])
    return Graph.stacked((input_type,), operators, peak, encoding, _parts(steps), _Stack(tuple(steps)))


def _parts(steps: Sequence[Step]) -> Parts:
    parts: list[Part] = []
    times: list[int] = []
    last = None
    for step in steps:
        if not step.divides:
            return UNDIVIDED
        found = step.parts
        if found:
            if found[0] is last:
                times[-1] += step.times[0]
                parts += found[1:]
                times += step.times[1:]
            else:
                parts += found
                times += step.times
            last = found[-1]
    part = steps[-1].after.last_part()
    if part is not None:
        _put(parts, times, part, 1)
    return tuple(parts), tuple(times)


def _put(parts: list[Part], times: list[int], part: Part, count: int) -> None:
    if parts and parts[-1] is part:
        times[-1] += count
    else:
        parts.append(part)
        times.append(count)


@functools.lru_cache(maxsize=2 * REMEMBERED)
def _part(module: Module, stencil: Stencil, begun: bool, tail: tuple[Op, ...]) -> Part:
    """Return a module as a part: without its first operator where it has ``begun`` before, and with a ``tail``."""
    wiring, kernels = stencil.at(0)
    ops = module.ops[1:] if begun else module.ops
    if begun:
        wiring = [tuple([source - 1 for source in sources]) for sources in wiring[1:]]
        kernels = [tuple([i - 1 for i in kernel]) for kernel in kernels]
    added = range(len(ops), len(ops) + len(tail))
    return Part(
        (module.ops[0].outputs[0] if begun else module.input_type,),
        ops + tail,
        (*wiring, *[(i,) for i in added]),
        (*kernels[:-1], (*kernels[-1], *added)),
    )


def _times(totals: Totals, times: int) -> Totals:
    return Totals(totals[0] * times, totals[1] * times, totals[2] * times, totals[3] * times)


def _standing(
    output_type: TensorType,
    maker: Op | None,
    held: int,
    pending: int,
    begun: tuple[Module, Stencil, bool] | None,
    tail: tuple[Op, ...],
) -> Standing:
    # What is looked up lives as long as it can be found, so that its parts can be told by where they are in memory.
    module, stencil, entered = begun or (None, None, False)
    key = (id(output_type), id(maker), held, pending, id(module), id(stencil), entered, *map(id, tail))
    found = _STANDINGS.get(key)
    if found is None:
        if len(_STANDINGS) >= 2 * REMEMBERED:
            _STANDINGS.clear()
        found = _STANDINGS[key] = Standing(output_type, maker, held, pending, begun, tail)
    return found


_STANDINGS: Final[dict[tuple[int, ...], Standing]] = {}
