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

from leti.core.device import ModelPrecision
from leti.core.errors import InvalidGraph, InvalidInput
from leti.core.fingerprint import Segment, cut
from leti.core.graph import Graph, LaidOut, Op, Totals
from leti.core.parts import Part
from leti.core.patches import Patch
from leti.generator.compressing.factors import factors
from leti.generator.compressing.groups import Axis, ChannelGroup
from leti.generator.compressing.patching import Patching, narrowed, resized
from leti.generator.cost import peak_memory_bytes
from leti.generator.fusion import find_kernels
from leti.generator.precision import Quantized, quantized, stored

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
    """The graphs of patches of one base, in any precision; threads may share it."""

    def __init__(self, graph: Graph) -> None:
        self._patching = Patching(graph)
        self._precisions: dict[ModelPrecision, _Precision | None] = {}

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
        precision = patch.precision or "float32"
        if precision not in self._precisions:
            self._precisions[precision] = _Precision.of(self._patching, precision)
        row = self._precisions[precision]
        if row is None or not row.holds(patch.ranks):
            return self._patching.patched(patch, where).graph
        return row.patched(self._patching.widths(patch.widths, where), patch.ranks, where)


@final
class _Precision:
    """The pieces of a base in one precision.

    Which operators stand in its file follows from kinds and wiring, which patches leave as they are; what each becomes
    follows from itself. Only tables that are embedded are stored so or so by their size.
    """

    def __init__(self, patching: Patching, form: Quantized, precision: ModelPrecision) -> None:
        self._floats, self._precision = patching.graph, precision
        self._graph, self._origins = form.graph, form.origins
        self._float_axes = patching.channels.axes
        self._axes = _axes(patching, form)
        self._places = _places(self._graph, self._axes)
        self._place_of = {
            self._origins[i]: number
            for number, place in enumerate(self._places)
            for i in range(place.start, place.end)
            if self._origins[i] >= 0
        }
        self._places_of: dict[int, list[int]] = {}
        for number, place in enumerate(self._places):
            for group in place.groups:
                self._places_of.setdefault(group, []).append(number)
        self._made: dict[tuple[int, tuple[int, ...], Ranks], _Piece] = {}
        self._parts: dict[tuple[object, ...], _Piece] = {}
        self._forms: dict[tuple[object, ...], _Form] = {}
        self._widths = tuple([group.channels for group in patching.channels.groups])
        self._base = [self._make(number, self._widths, {}) for number in range(len(self._places))]

    @classmethod
    def of(cls, patching: Patching, precision: ModelPrecision) -> _Precision | None:
        """Return the pieces of a base, ``None`` where it is not to be had in a precision, or is no row of pieces."""
        graph = patching.graph
        if len(graph.inputs) != 1 or any(len(op.outputs) != 1 for op in graph.ops):
            return None
        if precision == "dynamic_range" and any(op.kind == "embedding" for op in graph.ops):
            return None
        try:
            made = cls(patching, quantized(patching.graph, precision), precision)
        except (InvalidInput, InvalidGraph):
            return None
        return made if made._places else None

    def holds(self, ranks: Mapping[int, tuple[int, ...]]) -> bool:
        """Return whether operators that are taken apart stand in pieces."""
        return all(operator in self._place_of for operator in ranks)

    def patched(self, widths: tuple[int, ...], ranks: Mapping[int, tuple[int, ...]], where: str) -> Graph:
        """Return the graph in which group ``g`` has ``widths[g]`` channels, and operators are taken apart."""
        if not ranks and widths == self._widths:
            return self._graph
        pieces = list(self._base)
        for number in self._changed(widths, ranks):
            pieces[number] = self._piece(number, widths, ranks, where)
        return _joined(self._graph, pieces)

    def _changed(self, widths: Sequence[int], ranks: Mapping[int, tuple[int, ...]]) -> set[int]:
        found = {self._place_of[operator] for operator in ranks}
        for group, (width, own) in enumerate(zip(widths, self._widths, strict=True)):
            if width != own:
                found.update(self._places_of.get(group, ()))
        return found

    def _piece(self, number: int, widths: Sequence[int], asked: Mapping[int, tuple[int, ...]], where: str) -> _Piece:
        place = self._places[number]
        ranks = {i: rank for i, rank in asked.items() if self._place_of[i] == number}
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
        place, graph, inputs = self._places[number], self._graph, len(self._graph.inputs)
        read = graph.inputs[0] if place.entering < inputs else graph.ops[place.entering - inputs].outputs[0]
        entering = resized(read, self._axes[place.entering], widths)
        values = {place.entering: 0}
        ops: list[Op] = []
        wiring: list[tuple[int, ...]] = []
        for i in range(place.start, place.end):
            reads = tuple([values[source] for source in graph.wiring[i]])
            for op in self._operators(i, widths, ranks, where):
                ops.append(op)
                wiring.append(reads)
                reads = (len(ops),)
            values[i + inputs] = len(ops)
        return self._shared(Part((entering,), tuple(ops), tuple(wiring), ()))

    def _operators(
        self, number: int, widths: Sequence[int], ranks: Mapping[int, tuple[int, ...]], where: str
    ) -> Sequence[Op]:
        """Return what becomes of an operator of the file: itself on other channels, or its factors."""
        origin = self._origins[number]
        if origin < 0 or self._graph.ops[number].kind == "constant":
            return (_resized(self._graph, number, self._axes, widths),)
        floats = _resized(self._floats, origin, self._float_axes, widths)
        every = [floats]
        if origin in ranks:
            every = [factor for _, factor in factors(floats, ranks[origin], f"{where}.ranks[{origin}]")]
        return [stored(op, self._precision) for op in every]

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


def _resized(graph: Graph, number: int, axes: Sequence[Axis], widths: Sequence[int]) -> Op:
    """Return an operator of a graph, each of which makes one value, on the channels that its groups keep."""
    op, made = graph.ops[number], number + len(graph.inputs)
    inputs = [resized(t, axes[source], widths) for t, source in zip(op.inputs, graph.wiring[number], strict=True)]
    return narrowed(op, tuple(inputs), (resized(op.outputs[0], axes[made], widths),))


def _axes(patching: Patching, form: Quantized) -> tuple[Axis, ...]:
    """Return what the last dimension of each value in a precision consists of: what it does in float32."""
    axes, inputs = list(patching.channels.axes[: len(form.graph.inputs)]), len(form.graph.inputs)
    for origin, sources in zip(form.origins, form.graph.wiring, strict=True):
        axes.append(patching.channels.axes[origin + inputs] if origin >= 0 else axes[sources[0]])
    return tuple(axes)


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


def _places(graph: Graph, axes: Sequence[Axis]) -> tuple[_Place, ...]:
    """Return where the pieces of a base stand; none where it is not a row of them."""
    count = len(graph.ops)
    if graph.outputs != (count,):
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
