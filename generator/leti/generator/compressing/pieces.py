"""Pieces: patched graphs of one base put together of what they share, so that a search may ask for thousands a second.

A base is cut where one value alone leads from what stands before to what stands after, and no kernel reaches across
(:mod:`leti.core.fingerprint` says where that is). What a patch makes of a piece follows from the channels of the groups
that the piece reads or makes, and from the ranks of its own operators: each such piece is made once. A graph of them is
the one that :class:`~leti.generator.compressing.patching.Patching` makes, with the same kernels, peak memory and
fingerprint; its operators are laid out when somebody asks for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from leti.core.fingerprint import Segment, cut
from leti.core.graph import Graph, LaidOut, Op, Totals
from leti.core.parts import Part
from leti.core.patches import Patch
from leti.generator.compressing.factors import factors
from leti.generator.compressing.groups import ChannelGroup
from leti.generator.compressing.patching import Patching, narrowed, resized
from leti.generator.cost import peak_memory_bytes
from leti.generator.fusion import find_kernels

REMEMBERED: Final = 16_384
"""Pieces that are remembered of a base; then it is begun anew."""

Ranks = tuple[tuple[int, tuple[int, ...]], ...]

_Form = tuple[tuple[tuple[int, ...], ...], tuple[Segment, ...]]
"""Kernels and segments."""


@final
@dataclass(frozen=True, slots=True)
class _Place:
    """Where a piece stands in the base: its operators, the value that it reads, the groups that make it what it is."""

    start: int
    end: int
    entering: int
    groups: tuple[int, ...]


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """A run of operators with the digests of its segments, what they cost, and the most that is alive meanwhile."""

    part: Part
    segments: bytes
    totals: Totals
    peak_bytes: int


@final
class Pieces:
    """The graphs of patches of one base; threads may share it."""

    def __init__(self, graph: Graph) -> None:
        self._patching = Patching(graph)
        self._places = _places(self._patching)
        self._place_of = {i: n for n, place in enumerate(self._places) for i in range(place.start, place.end)}
        self._places_of: dict[int, list[int]] = {}
        for number, place in enumerate(self._places):
            for group in place.groups:
                self._places_of.setdefault(group, []).append(number)
        self._made: dict[tuple[int, tuple[int, ...], Ranks], _Piece] = {}
        self._parts: dict[tuple[object, ...], _Piece] = {}
        self._forms: dict[tuple[object, ...], _Form] = {}
        self._widths = tuple([group.channels for group in self._patching.channels.groups])
        self._base = [self._make(number, self._widths, {}) for number in range(len(self._places))]

    @property
    def graph(self) -> Graph:
        """The base."""
        return self._patching.graph

    def group_of(self, operator: int) -> ChannelGroup | None:
        """Return the channel group that an operator's output consists of, ``None`` where it is no single one."""
        return next((group for group in self._patching.channels.groups if operator in group.members), None)

    def patched(self, patch: Patch, where: str = "patch") -> Graph:
        """Return the graph that a patch makes.

        Raises :class:`~leti.core.errors.InvalidInput` where the patch does not fit, naming the place below ``where``.
        """
        if not self._places or patch.precision or any(operator not in self._place_of for operator in patch.ranks):
            return self._patching.patched(patch, where).graph
        widths = self._patching.widths(patch.widths, where)
        if not patch.ranks and widths == self._widths:
            return self.graph
        pieces = list(self._base)
        for number in self._changed(widths, patch):
            pieces[number] = self._piece(number, widths, patch, where)
        return _joined(self.graph, pieces)

    def _changed(self, widths: Sequence[int], patch: Patch) -> set[int]:
        found = {self._place_of[operator] for operator in patch.ranks}
        for group, (width, own) in enumerate(zip(widths, self._widths, strict=True)):
            if width != own:
                found.update(self._places_of.get(group, ()))
        return found

    def _piece(self, number: int, widths: Sequence[int], patch: Patch, where: str) -> _Piece:
        place = self._places[number]
        ranks = {i: rank for i, rank in patch.ranks.items() if place.start <= i < place.end}
        key = number, tuple([widths[group] for group in place.groups]), tuple(sorted(ranks.items()))
        found = self._made.get(key)
        if found is None:
            if len(self._made) >= REMEMBERED:
                self._made, self._parts = {}, {}
            found = self._made[key] = self._make(number, widths, ranks, where)
        return found

    def _make(
        self, number: int, widths: Sequence[int], ranks: Mapping[int, tuple[int, ...]], where: str = ""
    ) -> _Piece:
        """Return what becomes of a piece; each operator of a base that is cut makes one value."""
        place, graph, axes = self._places[number], self.graph, self._patching.channels.axes
        inputs = len(graph.inputs)
        read = graph.inputs[0] if place.entering < inputs else graph.ops[place.entering - inputs].outputs[0]
        types = {place.entering: resized(read, axes[place.entering], widths)}
        values = {place.entering: 0}
        ops: list[Op] = []
        wiring: list[tuple[int, ...]] = []
        for i in range(place.start, place.end):
            base, sources, made = graph.ops[i], graph.wiring[i], i + inputs
            types[made] = resized(base.outputs[0], axes[made], widths)
            op = narrowed(base, tuple([types[source] for source in sources]), (types[made],))
            reads = tuple([values[source] for source in sources])
            for _, factor in factors(op, ranks[i], f"{where}.ranks[{i}]") if i in ranks else (("same", op),):
                ops.append(factor)
                wiring.append(reads)
                reads = (len(ops),)
            values[made] = len(ops)
        return self._shared(Part((types[place.entering],), tuple(ops), tuple(wiring), ()))

    def _shared(self, bare: Part) -> _Piece:
        """Return the one piece of a part without kernels: what stands in several places is one object."""
        key = bare.inputs, bare.ops, bare.wiring
        found = self._parts.get(key)
        if found is None:
            leaving = (len(bare.ops),)
            kernels, segments = self._form(bare, leaving)
            found = self._parts[key] = _Piece(
                Part(bare.inputs, bare.ops, bare.wiring, kernels),
                b"".join([segment.form(bare.ops).name(bare.ops) for segment in segments]),
                Totals.of(bare.ops),
                peak_memory_bytes(bare.inputs, bare.ops, bare.wiring, leaving, kernels),
            )
        return found

    def _form(self, bare: Part, leaving: tuple[int, ...]) -> _Form:
        """Return the kernels and segments of a part, which follow from the kinds of its operators and their wiring."""
        key = tuple([op.kind for op in bare.ops]), bare.wiring
        found = self._forms.get(key)
        if found is None:
            kernels = find_kernels(bare.ops, bare.wiring, leaving)
            found = self._forms[key] = kernels, cut(1, bare.ops, bare.wiring, leaving)
        return found


@final
class _Row:
    """The layout of a graph that is a row of pieces."""

    __slots__ = ("_pieces",)

    def __init__(self, pieces: Sequence[_Piece]) -> None:
        self._pieces = pieces

    def totals(self) -> Totals:
        return Totals(*[sum(column) for column in zip(*[piece.totals for piece in self._pieces], strict=True)])

    def segments(self) -> bytes:
        return b"".join([piece.segments for piece in self._pieces])

    def lay_out(self) -> LaidOut:
        ops: list[Op] = []
        wiring: list[tuple[int, ...]] = []
        kernels: list[tuple[int, ...]] = []
        for piece in self._pieces:
            part, offset = piece.part, len(ops)
            wiring += [tuple([source + offset for source in sources]) for sources in part.wiring]
            kernels += [tuple([i + offset for i in kernel]) for kernel in part.kernels]
            ops += part.ops
        return tuple(ops), tuple(wiring), tuple(kernels)


def _joined(base: Graph, pieces: Sequence[_Piece]) -> Graph:
    parts: list[Part] = []
    times: list[int] = []
    for piece in pieces:
        if parts and parts[-1] is piece.part:
            times[-1] += 1
        else:
            parts.append(piece.part)
            times.append(1)
    operators = sum([len(piece.part.ops) for piece in pieces])
    peak = max([piece.peak_bytes for piece in pieces])
    return Graph.stacked(base.inputs, operators, peak, None, (tuple(parts), tuple(times)), _Row(pieces))


def _places(patching: Patching) -> tuple[_Place, ...]:
    """Return where the pieces of a base stand; none where it is not a row of them."""
    graph, axes = patching.graph, patching.channels.axes
    count = len(graph.ops)
    if len(graph.inputs) != 1 or graph.outputs != (count,) or any(len(op.outputs) != 1 for op in graph.ops):
        return ()
    kernels = find_kernels(graph.ops, graph.wiring, graph.outputs)
    inside = {i for kernel in kernels for i in range(kernel[0] + 1, kernel[-1] + 1)}
    places: list[_Place] = []
    start = 0
    for segment in cut(1, graph.ops, graph.wiring, graph.outputs):
        end = segment.end
        if end in inside:
            continue
        reading = {source for sources in graph.wiring[start:end] for source in sources}
        if not all(start <= source <= end for source in reading):
            return ()  # something leads past
        groups = {group for value in range(start, end + 1) for block in axes[value] for group in block.groups}
        places.append(_Place(start, end, start, tuple(sorted(groups))))
        start = end
    return tuple(places) if len(places) > 1 else ()  # one segment may hold what reads nothing, or what nothing reads
