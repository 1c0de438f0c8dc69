"""What names a computation: a digest that does not depend on the order of operators, nor on names.

A graph is cut into *segments* at the values through which everything flows; each segment has a digest of its own, and
the fingerprint is the SHA-256 of their sequence. A network is made of few kinds of segment, and most segments of one
network stand in others too, so that their digests are kept.

*Where it is cut.* In a graph in which every operator reaches an output and reads something, a cut stands after an
operator where just one value made so far is read or returned later. Where the cuts are does not depend on the order of
operators. Let ``v`` be the one value that crosses after position ``p``. Every operator up to ``p`` has readers, whose
chain leads to an output; it passes ``p`` at ``v`` alone, so the operator is the maker of ``v`` or an ancestor of it.
Every operator after ``p`` reads something, and going back from there leads to a graph input, which does not cross (or
is ``v``): it passes ``p`` at ``v``, so the operator descends from ``v``. Thus what stands before the cut is the maker
of ``v`` with its ancestors, what stands after it is what descends from ``v``, and nothing but ``v`` leads across. That
speaks of no order; and since every operator is on one of the two sides, in any other order all of the first stand
before all of the second, and ``v`` crosses there alone too. A graph with an operator that nothing reads, or one that
reads nothing, is one segment.

*What names a segment.* Operators are coloured by what they are, then by the colours of what they read (in order, except
for commutative operators), from the inputs to the outputs. Where that tells all of them apart it is an order of its
own, and the segment is written down in it, whole. Else colours take in the readers', and again what is read, until none
splits further: the Weisfeiler-Leman test in both directions. A branch computed once and read twice differs from the
same branch computed twice.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from itertools import accumulate
from typing import Final, NamedTuple, Protocol

VERSION: Final = b"leti.graph.2"
"""Stands at the head of what is hashed: fingerprints of other versions are of other graphs."""

REMEMBERED_OPS: Final = 64
"""Operators of the largest segment whose form is remembered."""

Wiring = Sequence[tuple[int, ...]]


class Operator(Protocol):
    """What a fingerprint looks at."""

    @property
    def signature(self) -> bytes:
        """What the operator is, wherever it stands."""

    @property
    def outputs(self) -> tuple[object, ...]:
        """Its outputs, of which only the number counts."""

    @property
    def is_commutative(self) -> bool:
        """Whether its inputs have no order."""


def fingerprint(inputs: Sequence[tuple[tuple[int, ...], str]], segments: bytes) -> str:
    """Return the fingerprint (64 hex digits) of a graph: shapes and data types of its inputs, segments' digests."""
    return hashlib.sha256(b"".join((VERSION, repr(list(inputs)).encode(), segments))).hexdigest()


class Segment(NamedTuple):
    """Operators ``start … end-1`` and their wiring: the ``entering`` values come first, then those that they make."""

    start: int
    end: int
    entering: int
    wiring: tuple[tuple[int, ...], ...]
    leaving: tuple[int, ...]

    def form(self, ops: Sequence[Operator]) -> bytes:
        """Return a digest (32 bytes) of how the operators are wired, numbered in the order of their signatures.

        Signatures begin with kind and attributes: the same wiring of other sizes has, as a rule, the same form.
        ``ops`` are all operators of the graph.
        """
        ops = ops[self.start : self.end]
        signatures = [op.signature for op in ops]
        kinds = dict(zip(signatures, ops, strict=True))
        order = sorted(kinds)
        number = {signature: i for i, signature in enumerate(order)}
        classes = tuple([number[signature] for signature in signatures])
        traits = tuple([(kinds[signature].is_commutative, len(kinds[signature].outputs)) for signature in order])
        form = _remembered_form if len(ops) <= REMEMBERED_OPS else _form
        return form(self.entering, classes, traits, self.wiring, self.leaving)

    def digest(self, form: bytes, ops: Sequence[Operator]) -> bytes:
        """Return the digest (32 bytes) of the segment of this form, ``ops`` being all operators of the graph."""
        signatures = sorted({op.signature for op in ops[self.start : self.end]})
        return hashlib.sha256(form + b"".join(signatures)).digest()


def cut(inputs: int, ops: Sequence[Operator], wiring: Wiring, outputs: Sequence[int]) -> tuple[Segment, ...]:
    """Return a graph's segments, in order; values are numbered as in :class:`~leti.core.graph.Graph`.

    They follow from the wiring and the operators' numbers of outputs. A part that reads one value and makes one, every
    operator of it on the way, has the segments that it has inside any graph.
    """
    if inputs == 1 and not ops and tuple(outputs) == (0,):
        return ()
    found = []
    start, entry, made = 0, -1, inputs  # the first operator, the value that enters, the number of its first output
    for end, leaving in _cuts(inputs, ops, wiring, outputs):
        found.append(_segment(inputs, start, end, wiring[start:end], (leaving,), entry, made))
        made += sum([len(op.outputs) for op in ops[start:end]])
        start, entry = end, leaving
    found.append(_segment(inputs, start, len(ops), wiring[start:], tuple(outputs), entry, made))
    return tuple(found)


def _cuts(inputs: int, ops: Sequence[Operator], wiring: Wiring, outputs: Sequence[int]) -> list[tuple[int, int]]:
    """Return the inner cuts: the number of operators before, and the value that crosses."""
    count = len(ops)
    last_read = [-1] * (inputs + sum([len(op.outputs) for op in ops]))
    for i, sources in enumerate(wiring):
        if not sources:
            return []
        for source in sources:
            last_read[source] = i
    for value in outputs:
        last_read[value] = count
    ending = [0] * (count + 2)  # the last for values that nothing reads
    for step in last_read:
        ending[step] += 1
    alive = inputs - last_read[:inputs].count(-1)
    value, found = inputs, []
    for i, op in enumerate(ops):
        end = value + len(op.outputs)
        read = end - value - last_read[value:end].count(-1)
        if not read:
            return []
        alive += read - ending[i]
        if alive == 1 and i + 1 < count:
            found.append((i + 1, next(v for v in range(value, end) if last_read[v] > i)))
        value = end
    return found


def _segment(
    inputs: int, start: int, end: int, wiring: Wiring, leaving: tuple[int, ...], entry: int, made: int
) -> Segment:
    """Return a segment that reads ``entry`` or, where that is negative, the graph's inputs; it makes ``made`` first."""
    if entry < 0:
        return Segment(start, end, inputs, tuple(wiring), leaving)
    shift = made - 1
    wiring = tuple([tuple([0 if s == entry else s - shift for s in sources]) for sources in wiring])
    return Segment(start, end, 1, wiring, tuple([0 if value == entry else value - shift for value in leaving]))


class _Colouring:
    """A segment of operators of numbered classes; ``traits`` says of a class whether it commutes, and its outputs."""

    def __init__(
        self, entering: int, classes: Sequence[int], traits: Sequence[tuple[bool, int]], wiring: Wiring
    ) -> None:
        self.entering = entering
        self.wiring = wiring
        self.commutes = [traits[kind][0] for kind in classes]
        self.widths = [traits[kind][1] for kind in classes]
        self.ports = max(self.widths, default=1)
        self.first = list(accumulate(self.widths, initial=entering))  # the number of each operator's first output
        self.by_depth: list[list[int]] = []
        depths = [-1] * entering
        for i, sources in enumerate(wiring):
            depth = 1 + (depths[sources[0]] if len(sources) == 1 else max([depths[s] for s in sources], default=-1))
            depths += [depth] * self.widths[i]
            if depth == len(self.by_depth):
                self.by_depth.append([i])
            else:
                self.by_depth[depth].append(i)

    def forward(self, colours: Sequence[int]) -> tuple[list[int], int]:
        """Return colours that take in everything that an operator reads, and how many there are."""
        entering, ports, names = self.entering, self.ports, [*range(self.first[-1])]
        wiring, commutes, first, single = self.wiring, self.commutes, self.first, self.ports == 1
        result, count = [0] * len(colours), 0
        for level in self.by_depth:
            if single and len(level) == 1:  # nothing that it could be equal to
                (i,) = level
                result[i], names[entering + i] = count, entering + count
                count += 1
                continue
            keys: dict[tuple[int, tuple[int, ...]], list[int]] = {}
            for i in level:
                read = [names[source] for source in wiring[i]]
                if commutes[i]:
                    read.sort()
                keys.setdefault((colours[i], tuple(read)), []).append(i)
            for key in sorted(keys) if len(keys) > 1 else keys:
                for i in keys[key]:
                    result[i] = count
                    if single:
                        names[entering + i] = entering + count
                    else:
                        names[first[i] : first[i + 1]] = range(
                            entering + count * ports, entering + count * ports + self.widths[i]
                        )
                count += 1
        return result, count

    def backward(self, colours: Sequence[int], leaving: Sequence[int]) -> tuple[list[int], int]:
        """Return colours that take in everything that reads an operator's outputs, and how many there are."""
        readers = self.readers(leaving)
        heights = [0] * len(colours)
        for i in range(len(colours) - 1, -1, -1):
            heights[i] = max([heights[reader] + 1 for reader, _, _ in readers[i] if reader >= 0], default=0)
        levels: list[list[int]] = [[] for _ in range(max(heights, default=-1) + 1)]
        for i, height in enumerate(heights):
            levels[height].append(i)
        result, count = [0] * len(colours), 0
        for level in levels:
            if len(level) == 1:
                result[level[0]] = count
                count += 1
                continue
            keys: dict[tuple[int, tuple[tuple[int, int, int], ...]], list[int]] = {}
            for i in level:
                keys.setdefault((colours[i], _seen(readers[i], result)), []).append(i)
            for key in sorted(keys) if len(keys) > 1 else keys:
                for i in keys[key]:
                    result[i] = count
                count += 1
        return result, count

    def readers(self, leaving: Sequence[int]) -> list[list[tuple[int, int, int]]]:
        """Return who reads an operator's outputs: (reader or -1 for what leaves the segment, output, place)."""
        makers = [(i, port) for i, width in enumerate(self.widths) for port in range(width)]
        readers: list[list[tuple[int, int, int]]] = [[] for _ in self.wiring]
        for place, value in enumerate(leaving):
            if value >= self.entering:
                maker, port = makers[value - self.entering]
                readers[maker].append((-1, port, place))
        for i, sources in enumerate(self.wiring):
            for place, source in enumerate(sources):
                if source >= self.entering:
                    maker, port = makers[source - self.entering]
                    readers[maker].append((i, port, 0 if self.commutes[i] else place))
        return readers

    def names(self, colours: Sequence[int]) -> list[int]:
        """Return the name of each value: that of its operator's colour and its place among the outputs."""
        if self.ports == 1:
            return [*range(self.entering), *[self.entering + colour for colour in colours]]
        made = [
            self.entering + colour * self.ports + port
            for colour, width in zip(colours, self.widths, strict=True)
            for port in range(width)
        ]
        return [*range(self.entering), *made]

    def read(self, op: int, names: Sequence[int]) -> tuple[int, ...]:
        """Return the names of the values that an operator reads."""
        read = [names[source] for source in self.wiring[op]]
        return tuple(sorted(read) if self.commutes[op] else read)


def _form(
    entering: int,
    classes: tuple[int, ...],
    traits: tuple[tuple[bool, int], ...],
    wiring: tuple[tuple[int, ...], ...],
    leaving: tuple[int, ...],
) -> bytes:
    """Return a digest of how operators of numbered classes are wired, equal for every order of them."""
    segment = _Colouring(entering, classes, traits, wiring)
    colours, found = segment.forward(classes)
    count, turns = 0, 0
    while (
        count < found < len(classes)
    ):  # a pass that splits nothing is the last: colours agree with what is read, and by whom
        count, turns = found, turns + 1
        colours, found = segment.backward(colours, leaving) if turns % 2 else segment.forward(colours)
    names = segment.names(colours)
    rows: list[tuple[object, ...]]
    if found == len(classes):  # every operator has a place of its own
        rows = [(-1,)] * found
        for i, colour in enumerate(colours):
            rows[colour] = (classes[i], segment.read(i, names))
    else:
        readers = segment.readers(leaving)
        rows = sorted(
            (classes[i], colours[i], segment.read(i, names), _seen(readers[i], colours)) for i in range(len(classes))
        )
    written = (entering, traits, rows, [names[value] for value in leaving])
    return hashlib.sha256(repr(written).encode()).digest()


_remembered_form = functools.lru_cache(maxsize=8_192)(_form)


def _seen(readers: Sequence[tuple[int, int, int]], colours: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """Return readers by their colours, sorted."""
    return tuple(sorted([(colours[i] if i >= 0 else -1, port, place) for i, port, place in readers]))
