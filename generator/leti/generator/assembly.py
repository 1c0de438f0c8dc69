"""Assembly: modules that follow each other become a graph, by adding up what is known of each.

The graph is the one that placing operator after operator makes. What reaches across a border between two modules is
looked at there: a constant that folds into the convolution that ends the module before, and an activation that runs in
that one's kernel. All that a module needs to know of those before it is a :class:`Standing`, of which there are few; so
what it adds, a :class:`Step`, is found once and remembered. The operators in a row, with their wiring and kernels, are
laid out when somebody asks for them: a prediction does not, as a rule.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, final

from leti.core.graph import Encoding, Graph, LaidOut, Op, TensorType, Totals
from leti.core.parts import UNDIVIDED, Part, Parts
from leti.generator.modules import REMEMBERED, Link, Module, Stencil

Placed = tuple[Module, Link, int]
"""A module, how it stands and runs, and how many times in succession."""

_NOTHING: Final = Totals(0, 0, 0, 0)


@final
@dataclass(slots=True, eq=False)  # a value, but frozen it takes three times as long to make, for every new cell
class Standing:
    """What a module needs to know of those before it; equal ones are one object, as long as it is remembered.

    ``maker`` is an operator of the kind that stands last, ``None`` where there is but the input; bytes are what is
    alive before its kernel (``held``) and while that runs (``pending``).
    """

    output_type: TensorType
    maker: Op | None
    held: int
    pending: int


def start(input_type: TensorType) -> Standing:
    """Return how a graph stands that is nothing but its input."""
    return _standing(input_type, None, 0, input_type.size_bytes)


class Step(NamedTuple):
    """What modules add to those before them, and how it stands ``after`` them.

    As parts, that is what is taken into the last part before them (``lead``), and ``parts`` of their own, each standing
    ``times`` in succession; the last may still take in what follows. ``peak_bytes`` is the most that is alive while the
    modules run, the last kernel apart. ``divides`` says that each module's digests are its own.
    """

    after: Standing
    lead: tuple[Op, ...]
    parts: tuple[Part, ...]
    times: tuple[int, ...]
    peak_bytes: int
    operators: int
    divides: bool
    segments: bytes
    totals: Totals
    placed: tuple[Placed, ...]


def nothing(before: Standing) -> Step:
    """Return the step that adds nothing."""
    return Step(before, (), (), (), 0, 0, True, b"", _NOTHING, ())


def step(before: Standing, module: Module, times: int) -> Step | None:
    """Return what a module adds that stands so many times, nothing where it is unclear how it runs there."""
    ops, plan, unit = module.ops, module.plan, module.unit_bytes
    if not ops:
        return nothing(before)
    link = plan.after(before.maker)
    next_link = link if times == 1 else plan.after(ops[-1])  # from the second on, a module follows its like
    if link is None or next_link is None:
        return None
    placed: tuple[Placed, ...] = ((module, link, times),)
    if next_link is not link:
        placed = (module, link, 1), (module, next_link, times - 1)
    held, pending, peak = before.held, before.pending, 0
    for _, link, count in placed:
        for _ in range(min(count, 2)):  # the others run as the second does
            if link.entry:  # nothing of the modules before is alive but the input
                pending = held + link.first * unit
            if link.others:
                peak = max(peak, pending, link.inner * unit)
                held, pending = link.held * unit, link.last * unit
    return Step(
        _standing(module.output_type, ops[-1], held, pending),
        *_divided(placed),
        peak,
        len(ops) * times,
        plan.may_be_cut,
        module.segments * times,
        module.totals if times == 1 else _times(module.totals, times),
        placed,
    )


def joined(steps: Sequence[Step]) -> Step:
    """Return steps, one or more, as one."""
    if len(steps) == 1:
        return steps[0]
    placed = tuple([placed for one in steps for placed in one.placed])
    return Step(
        steps[-1].after,
        *_divided(placed),
        max([one.peak_bytes for one in steps]),
        sum([one.operators for one in steps]),
        all(one.divides for one in steps),
        b"".join([one.segments for one in steps]),
        _summed(steps),
        placed,
    )


def _divided(placed: Sequence[Placed]) -> tuple[tuple[Op, ...], tuple[Part, ...], tuple[int, ...]]:
    """Return modules as a step's lead, parts and times."""
    if len(placed) == 1 and not placed[0][1].entry:
        module, link, count = placed[0]
        return (), (_part(module, link.stencil, False, ()),), (count,)
    lead: tuple[Op, ...] = ()
    parts: list[Part] = []
    times: list[int] = []
    for i, (module, link, count) in enumerate(placed):
        entry = module.ops[: len(link.entry)]
        joining = entry if link.others else entry * count
        if parts:
            _take_in(parts, times, reversed(placed[:i]), joining)
        else:
            lead += joining
        if link.others:
            entered = bool(entry)
            if count > 1:
                _put(parts, times, _part(module, link.stencil, entered, entry), count - 1)
            _put(parts, times, _part(module, link.stencil, entered, ()), 1)
    return lead, tuple(parts), tuple(times)


def _take_in(parts: list[Part], times: list[int], before: Iterable[Placed], joining: tuple[Op, ...]) -> None:
    """Have the last part take in what runs in its last kernel; ``before`` is what was placed, from the last on."""
    if not joining:
        return
    for module, link, count in before:
        entry = module.ops[: len(link.entry)]
        if link.others:
            times[-1] -= 1
            if not times[-1]:
                parts.pop(), times.pop()
            _put(parts, times, _part(module, link.stencil, bool(entry), joining), 1)
            return
        joining = entry * count + joining  # which that part has taken in already


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
    for i, step in enumerate(steps):
        if not step.divides:
            return UNDIVIDED
        if step.lead:
            before = (placed for earlier in reversed(steps[:i]) for placed in reversed(earlier.placed))
            _take_in(parts, times, before, step.lead)
        found = step.parts
        if not found:
            continue
        if parts and parts[-1] is found[0]:
            times[-1] += step.times[0]
            parts += found[1:]
            times += step.times[1:]
        else:
            parts += found
            times += step.times
    return tuple(parts), tuple(times)


def _put(parts: list[Part], times: list[int], part: Part, count: int) -> None:
    if parts and parts[-1] is part:
        times[-1] += count
    else:
        parts.append(part)
        times.append(count)


def _part(module: Module, stencil: Stencil, entered: bool, tail: tuple[Op, ...]) -> Part:
    """Return a module as a part: without its first operator where that ``entered`` the one before, and with a tail."""
    if entered or tail:
        return _joined_part(module, stencil, entered, tail)
    part = module.part
    if part is None:
        part = module.part = Part((module.input_type,), module.ops, *stencil.of_part(False, 0))
    return part


@functools.lru_cache(maxsize=REMEMBERED)
def _joined_part(module: Module, stencil: Stencil, entered: bool, tail: tuple[Op, ...]) -> Part:
    ops = module.ops[1:] if entered else module.ops
    read = module.ops[0].outputs[0] if entered else module.input_type
    return Part((read,), ops + tail, *stencil.of_part(entered, len(tail)))


def _times(totals: Totals, times: int) -> Totals:
    return Totals(totals[0] * times, totals[1] * times, totals[2] * times, totals[3] * times)


def _standing(output_type: TensorType, maker: Op | None, held: int, pending: int) -> Standing:
    # What is looked up lives as long as it can be found, so that types can be told by where they are in memory.
    key = id(output_type), None if maker is None else maker.kind, held, pending
    found = _STANDINGS.get(key)
    if found is None:
        if len(_STANDINGS) >= REMEMBERED:
            _STANDINGS.clear()
        found = _STANDINGS[key] = Standing(output_type, maker, held, pending)
    return found


_STANDINGS: Final[dict[tuple[int, str | None, int, int], Standing]] = {}
