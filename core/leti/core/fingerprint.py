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
from typing import Final, Protocol

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
    """Return the fingerprint (64 hex digits) of a graph with inputs of these shapes and data types."""
    return hashlib.sha256(b"".join((VERSION, repr(list(inputs)).encode(), segments))).hexdigest()


def segment_digests(inputs: int, ops: Sequence[Operator], wiring: Wiring, outputs: Sequence[int]) -> bytes:
    """Return the digests of a graph's segments, 32 bytes each, in order.

    Values are numbered as in :class:`~leti.core.graph.Graph`. A part that reads one value and makes one, every operator
    of it on the way, has the digests that it has inside any graph.
    """
    if inputs == 1 and not ops and tuple(outputs) == (0,):
        return b""
    digests = []
    start, entry, made = 0, -1, inputs  # the first operator, the value that enters, the number of its first output
    for end, leaving in _cuts(inputs, ops, wiring, outputs):
        digests.append(_digest(1 if entry >= 0 else inputs, ops[start:end], wiring[start:end], entry, made, (leaving,)))
        made += sum(len(op.outputs) for op in ops[start:end])
        start, entry = end, leaving
    digests.append(_digest(1 if entry >= 0 else inputs, ops[start:], wiring[start:], entry, made, tuple(outputs)))
    return b"".join(digests)


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
    ending = [0] * (count + 1)
    for step in last_read:
        ending[step] += step >= 0
    alive = sum([step >= 0 for step in last_read[:inputs]])
    value, found = inputs, []
    for i, op in enumerate(ops):
        read = [v for v in range(value, value + len(op.outputs)) if last_read[v] >= 0]
        if not read:
            return []
        value += len(op.outputs)
        alive += len(read) - ending[i]
        if alive == 1 and i + 1 < count:
            found.append((i + 1, next(v for v in read if last_read[v] > i)))
    return found


def _digest(
    entering: int, ops: Sequence[Operator], wiring: Wiring, entry: int, made: int, leaving: tuple[int, ...]
) -> bytes:
    """Return the digest of a segment that reads ``entry`` or, where that is negative, the graph's inputs."""
    if entry >= 0:  # number values anew: the one that enters, then those that the segment makes
        shift = made - 1
        wiring = [tuple([0 if s == entry else s - shift for s in sources]) for sources in wiring]
        leaving = tuple([0 if value == entry else value - shift for value in leaving])
    signatures = [op.signature for op in ops]
    kinds = dict(zip(signatures, ops, strict=True))
    order = sorted(kinds)  # by kind and attributes first, so that the same wiring of other sizes has the same form
    number = {signature: i for i, signature in enumerate(order)}
    classes = tuple([number[signature] for signature in signatures])
    traits = tuple([(kinds[signature].is_commutative, len(kinds[signature].outputs)) for signature in order])
    form = _remembered_form if len(ops) <= REMEMBERED_OPS else _form
    return hashlib.sha256(form(entering, classes, traits, tuple(wiring), leaving) + b"".join(order)).digest()


class _Segment:
    """A segment of operators of numbered classes; ``traits`` says of a class whether it commutes, and its outputs."""

    def __init__(
        self, entering: int, classes: Sequence[int], traits: Sequence[tuple[bool, int]], wiring: Wiring
    ) -> None:
        self.entering = entering
        self.ports = max([outputs for _, outputs in traits], default=1)
        self.wiring = wiring
        self.commutes = [traits[kind][0] for kind in classes]
        self.makers = [(-1, j) for j in range(entering)]  # value -> (operator that makes it, which of its outputs)
        for i, kind in enumerate(classes):
            self.makers.extend([(i, port) for port in range(traits[kind][1])])
        depths: list[int] = []
        for sources in wiring:
            depths.append(max([depths[m] + 1 for m, _ in map(self.makers.__getitem__, sources) if m >= 0], default=0))
        self.by_depth = _grouped(depths)

    def named(self, op: int, names: Sequence[int]) -> tuple[int, ...]:
        """Return the names of the values that an operator reads."""
        read = [names[source] for source in self.wiring[op]]
        return tuple(sorted(read) if self.commutes[op] else read)

    def names(self, colours: Sequence[int]) -> list[int]:
        """Return the name of each value: that of its operator's colour and its place among the outputs."""
        return [
            port if maker < 0 else self.entering + colours[maker] * self.ports + port for maker, port in self.makers
        ]

    def forward(self, colours: Sequence[int]) -> tuple[list[int], int]:
        """Return colours that take in everything that an operator reads, and how many there are."""
        first = self._first_outputs
        names = list(range(self.entering)) + [0] * (len(self.makers) - self.entering)
        result, count = [0] * len(colours), 0
        for level in self.by_depth:
            keys = [(colours[i], self.named(i, names)) for i in level]
            count = _ranked(level, keys, result, count)
            for i in level:
                for value in range(first[i], first[i + 1]):
                    names[value] = self.entering + result[i] * self.ports + value - first[i]
        return result, count

    def backward(self, colours: Sequence[int], leaving: Sequence[int]) -> tuple[list[int], int]:
        """Return colours that take in everything that reads an operator's outputs, and how many there are."""
        result, count = [0] * len(colours), 0
        readers = self.readers(leaving)
        for level in self._by_height:
            keys = [(colours[i], _seen(readers[i], result)) for i in level]
            count = _ranked(level, keys, result, count)
        return result, count

    def readers(self, leaving: Sequence[int]) -> list[list[tuple[int, int, int]]]:
        """Return who reads an operator's outputs: (reader or -1 for what leaves the segment, output, place)."""
        readers: list[list[tuple[int, int, int]]] = [[] for _ in self.wiring]
        for place, value in enumerate(leaving):
            maker, port = self.makers[value]
            if maker >= 0:
                readers[maker].append((-1, port, place))
        for i, sources in enumerate(self.wiring):
            for place, source in enumerate(sources):
                maker, port = self.makers[source]
                if maker >= 0:
                    readers[maker].append((i, port, 0 if self.commutes[i] else place))
        return readers

    @functools.cached_property
    def _first_outputs(self) -> list[int]:
        first = [value for value, (maker, port) in enumerate(self.makers) if maker >= 0 and port == 0]
        return [*first, len(self.makers)]

    @functools.cached_property
    def _by_height(self) -> list[list[int]]:
        heights = [0] * len(self.wiring)
        for i in range(len(self.wiring) - 1, -1, -1):
            for source in self.wiring[i]:
                maker, _ = self.makers[source]
                if maker >= 0:
                    heights[maker] = max(heights[maker], heights[i] + 1)
        return _grouped(heights)


def _form(
    entering: int,
    classes: tuple[int, ...],
    traits: tuple[tuple[bool, int], ...],
    wiring: tuple[tuple[int, ...], ...],
    leaving: tuple[int, ...],
) -> bytes:
    """Return a digest of how operators of numbered classes are wired, equal for every order of them."""
    segment = _Segment(entering, classes, traits, wiring)
    colours: Sequence[int] = classes
    rows: list[tuple[object, ...]]
    found = 0
    while True:
        colours, count = segment.forward(colours)
        if count == len(classes):  # every operator has a place of its own
            names = segment.names(colours)
            rows = [(-1,)] * count
            for i, colour in enumerate(colours):
                rows[colour] = (classes[i], segment.named(i, names))
            break
        colours, count = segment.backward(colours, leaving)
        if count == found:
            names, readers = segment.names(colours), segment.readers(leaving)
            rows = sorted(
                (classes[i], colours[i], segment.named(i, names), _seen(readers[i], colours))
                for i in range(len(classes))
            )
            break
        found = count
    written = (entering, traits, rows, [names[value] for value in leaving])
    return hashlib.sha256(repr(written).encode()).digest()


_remembered_form = functools.lru_cache(maxsize=8_192)(_form)


def _grouped(levels: Sequence[int]) -> list[list[int]]:
    """Return the operators of each level, levels rising."""
    groups: list[list[int]] = [[] for _ in range(max(levels, default=-1) + 1)]
    for i, level in enumerate(levels):
        groups[level].append(i)
    return groups


def _ranked(level: Sequence[int], keys: Sequence[tuple[int, tuple[object, ...]]], result: list[int], count: int) -> int:
    """Number the operators of a level from ``count`` on in the order of their keys; return the next number."""
    ranks = {key: count + rank for rank, key in enumerate(sorted(set(keys)))}
    for i, key in zip(level, keys, strict=True):
        result[i] = ranks[key]
    return count + len(ranks)


def _seen(readers: Sequence[tuple[int, int, int]], colours: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """Return readers by their colours, sorted."""
    return tuple(sorted([(colours[i] if i >= 0 else -1, port, place) for i, port, place in readers]))
