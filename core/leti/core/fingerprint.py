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
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Final, NamedTuple, Protocol

VERSION: Final = b"leti.graph.2"
"""Stands at the head of what is hashed: fingerprints of other versions are of other graphs."""

REMEMBERED_OPS: Final = 64
"""Operators of the largest segment whose form is remembered."""

REMEMBERED_SORTS: Final = 2_048
"""Sets of signatures whose order is remembered."""

FAMILY_BYTES: Final = 8
"""With so many bytes, which tell kinds with their attributes apart, a signature begins."""

Wiring = Sequence[tuple[int, ...]]
_Row = tuple[int, tuple[int, ...]]  # the class or colour of an operator, and the names of what it reads


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


class Form(NamedTuple):
    """How the operators of a segment are wired, numbered in the order of their signatures: a ``digest`` (32 bytes).

    ``order`` is where in the graph an operator of each signature stands, in that order. ``by_family`` says that kinds
    and attributes alone, which signatures begin with, tell the operators apart: the same ones of other sizes, each
    taking the place of its like, have this form and order too.
    """

    digest: bytes
    order: tuple[int, ...]
    by_family: bool

    def name(self, ops: Sequence[Operator]) -> bytes:
        """Return the digest (32 bytes) of the segment of this form, ``ops`` being all operators of the graph."""
        return hashlib.sha256(self.digest + b"".join([ops[i].signature for i in self.order])).digest()


class Segment(NamedTuple):
    """Operators ``start … end-1`` and their wiring: the ``entering`` values come first, then those that they make."""

    start: int
    end: int
    entering: int
    wiring: tuple[tuple[int, ...], ...]
    leaving: tuple[int, ...]

    def form(self, ops: Sequence[Operator]) -> Form:
        """Return how the operators are wired, ``ops`` being all operators of the graph."""
        signatures = [op.signature for op in ops[self.start : self.end]]
        places = dict(zip(signatures, range(self.start, self.end), strict=True))
        sorts = _sorted(places, ops)
        number = sorts.number
        digested = _remembered_form if len(signatures) <= REMEMBERED_OPS else _form
        classes = tuple([number[signature] for signature in signatures])
        digest = digested(self.entering, classes, sorts.traits, self.wiring, self.leaving)
        return Form(digest, tuple([places[signature] for signature in number]), sorts.by_family)


class _Sorts(NamedTuple):
    """Signatures by their ``number`` in order, whether each commutes and its outputs, and :attr:`Form.by_family`."""

    number: dict[bytes, int]
    traits: tuple[tuple[bool, int], ...]
    by_family: bool


def _sorted(places: Mapping[bytes, int], ops: Sequence[Operator]) -> _Sorts:
    """Return the signatures of operators that stand in these places of a graph, sorted; few sets of them are common."""
    key = frozenset(places)
    found = _SORTS.get(key)
    if found is None:
        if len(_SORTS) >= REMEMBERED_SORTS:
            _SORTS.clear()
        order = sorted(key)
        number = dict(zip(order, range(len(order)), strict=True))
        traits = [(ops[places[signature]].is_commutative, len(ops[places[signature]].outputs)) for signature in order]
        by_family = len({signature[:FAMILY_BYTES] for signature in order}) == len(order)
        found = _SORTS[key] = _Sorts(number, tuple(traits), by_family)
    return found


_SORTS: Final[dict[frozenset[bytes], _Sorts]] = {}


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
        self.ports = max([width for _, width in traits], default=1)
        self.widths = [traits[kind][1] for kind in classes] if self.ports > 1 else [1] * len(classes)
        self.by_depth = by_depth = list[list[int]]()
        depths = [0] * entering
        for i, sources in enumerate(wiring):
            if len(sources) == 1:
                depth = depths[sources[0]]
            else:
                depth = 0
                for source in sources:
                    if depths[source] > depth:
                        depth = depths[source]
            if self.ports == 1:
                depths.append(depth + 1)
            else:
                depths += [depth + 1] * self.widths[i]
            if depth == len(by_depth):
                by_depth.append([i])
            else:
                by_depth[depth].append(i)

    def forward(self, colours: Sequence[int]) -> tuple[list[int], list[_Row]]:
        """Return colours that take in everything that an operator reads, and what each of them stands for."""
        wiring, commutes, entering, single = self.wiring, self.commutes, self.entering, self.ports == 1
        first = [] if single else list(accumulate(self.widths, initial=entering))
        names, result, rows = self.names(range(len(colours))), [0] * len(colours), list[_Row]()
        for level in self.by_depth:
            keys: list[tuple[_Row, int]] = []
            for i in level:
                sources = wiring[i]
                if len(sources) == 1:
                    keys.append(((colours[i], (names[sources[0]],)), i))
                else:
                    read = [names[source] for source in sources]
                    if commutes[i]:
                        read.sort()
                    keys.append(((colours[i], tuple(read)), i))
            if len(keys) > 1:
                keys.sort()
            before = None
            for row, i in keys:
                if row != before:
                    rows.append(row)
                    before = row
                result[i] = colour = len(rows) - 1
                if single:
                    names[entering + i] = entering + colour
                else:
                    name = entering + colour * self.ports
                    names[first[i] : first[i + 1]] = range(name, name + self.widths[i])
        return result, rows

    def backward(self, colours: Sequence[int], leaving: Sequence[int]) -> tuple[list[int], int]:
        """Return colours that take in everything that reads an operator's outputs, and how many there are."""
        makers = self.makers()
        heights = [0] * len(colours)
        levels: list[list[int]] = []
        for i in range(len(colours) - 1, -1, -1):
            height = heights[i]
            if height == len(levels):
                levels.append([i])
            else:
                levels[height].append(i)
            for source in self.wiring[i]:
                maker = makers[source][0]
                if maker >= 0 and heights[maker] <= height:
                    heights[maker] = height + 1
        readers = self.readers(leaving)
        result, count = [0] * len(colours), 0
        for level in levels:
            if len(level) == 1:
                result[level[0]] = count
            else:
                keys = sorted([((colours[i], _seen(readers[i], result)), i) for i in level])
                before = keys[0][0]
                for key, i in keys:
                    if key != before:
                        before = key
                        count += 1
                    result[i] = count
            count += 1
        return result, count

    def readers(self, leaving: Sequence[int]) -> list[list[tuple[int, int, int]]]:
        """Return who reads an operator's outputs: (reader or -1 for what leaves the segment, output, place)."""
        makers, commutes = self.makers(), self.commutes
        readers: list[list[tuple[int, int, int]]] = [[] for _ in range(len(self.wiring) + 1)]  # the last of what enters
        for place, value in enumerate(leaving):
            maker, port = makers[value]
            readers[maker].append((-1, port, place))
        for i, sources in enumerate(self.wiring):
            if len(sources) == 1:
                maker, port = makers[sources[0]]
                readers[maker].append((i, port, 0))
            else:
                for place, source in enumerate(sources):
                    maker, port = makers[source]
                    readers[maker].append((i, port, 0 if commutes[i] else place))
        return readers[:-1]

    def makers(self) -> list[tuple[int, int]]:
        """Return what makes each value: (operator or -1 for what enters, output)."""
        made = [(i, port) for i, width in enumerate(self.widths) for port in range(width)]
        return [(-1, 0)] * self.entering + made

    def names(self, colours: Sequence[int]) -> list[int]:
        """Return the name of each value: that of its operator's colour and its place among the outputs."""
        entering, ports = self.entering, self.ports
        if ports == 1:
            return [*range(entering), *[entering + colour for colour in colours]]
        return [
            *range(entering),
            *[
                entering + colour * ports + port
                for colour, width in zip(colours, self.widths, strict=True)
                for port in range(width)
            ],
        ]

    def read(self, names: Sequence[int]) -> list[tuple[int, ...]]:
        """Return the names of the values that each operator reads."""
        reads = [[names[source] for source in sources] for sources in self.wiring]
        return [tuple(sorted(read) if commutes else read) for read, commutes in zip(reads, self.commutes, strict=True)]


def _form(
    entering: int,
    classes: tuple[int, ...],
    traits: tuple[tuple[bool, int], ...],
    wiring: tuple[tuple[int, ...], ...],
    leaving: tuple[int, ...],
) -> bytes:
    """Return a digest of how operators of numbered classes are wired, equal for every order of them."""
    segment = _Colouring(entering, classes, traits, wiring)
    colours, rows = segment.forward(classes)
    told_apart: Sequence[object] = rows
    if len(rows) < len(classes):
        colours, told_apart = _refined(segment, classes, colours, len(rows), leaving)
    names = segment.names(colours)
    written = (entering, traits, told_apart, [names[value] for value in leaving])
    return hashlib.sha256(repr(written).encode()).digest()


def _refined(
    segment: _Colouring, classes: Sequence[int], colours: list[int], found: int, leaving: Sequence[int]
) -> tuple[list[int], Sequence[object]]:
    """Return the colours that none splits further, of ``found`` colours, and what stands for each or for each operator.

    Each operator stands for itself where colours do not tell all of them apart.
    """
    count, turns = 0, 0
    while (
        count < found < len(classes)
    ):  # a pass that splits nothing is the last: colours agree with what is read, and by whom
        count, turns = found, turns + 1
        if turns % 2:
            colours, found = segment.backward(colours, leaving)
        else:
            colours, rows = segment.forward(colours)
            found = len(rows)
    reads = segment.read(segment.names(colours))
    if found == len(classes):
        return colours, [row for _, row in sorted(zip(colours, zip(classes, reads, strict=True), strict=True))]
    readers = segment.readers(leaving)
    seen = [_seen(read_by, colours) for read_by in readers]
    return colours, sorted(zip(classes, colours, reads, seen, strict=True))


_remembered_form = functools.lru_cache(maxsize=8_192)(_form)


def _seen(readers: Sequence[tuple[int, int, int]], colours: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """Return readers by their colours, sorted."""
    return tuple(sorted([(colours[i] if i >= 0 else -1, port, place) for i, port, place in readers]))
