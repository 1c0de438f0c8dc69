"""Proposals: what may become of each coupled group of channels, and which groups cost something together.

A group keeps some of its channels, or what makes them is taken apart, or both. Widths lie on the tiles of kernels and
between them, as latency is a staircase of its own on each device. Ranks are anchored where EVBMF finds the noise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from leti.compression.low_rank.applying import Layer, LowRank
from leti.compression.low_rank.decompositions import Ranks
from leti.compression.low_rank.ranks import LEAST_RANK, extreme_ranks
from leti.compression.low_rank.rules import Rule, by_noise, by_reduction
from leti.compression.searching.candidates import Candidates
from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.core.graph import Op
from leti.core.patches import Patch
from leti.generator.compressing.factors import factors, most_ranks
from leti.generator.compressing.groups import Axis
from leti.generator.compressing.patching import Patching, narrowed, resized
from leti.generator.importers import Imported

with needs("compression"):
    import numpy as np

METHODS: Final = frozenset({"prune", "low_rank"})
"""What changes a group; anything else that a compression does is none of its candidates."""

TILES: Final = ((64, 8), (16, 4), (0, 1))
"""Multiples that the eighths of a group's channels are rounded to, from so many channels on."""

OFF_TILE: Final = (1 / 3, 0.45, 0.6, 0.7)
"""Shares of a group's channels that are not rounded to a tile."""

REDUCTIONS: Final = (2.0, 3.2, 5.0)
"""Of what makes a group, one of so many parameters is left."""

WEAKENING: Final = 0.7
"""Of the way to EVBMF's ranks, what the other anchor goes; the first goes all of it."""

TOGETHER: Final = tuple((share, factor) for share in (0.75, 0.5) for factor in REDUCTIONS[:2])
"""Shares of the channels, and reductions of what makes those, that go together."""


@final
@dataclass(frozen=True, slots=True)
class Place:
    """A coupled group of channels, or an operator that makes some of several groups, and what may become of it.

    ``group`` is ``None`` of such an operator, ``operators`` are those that make the channels. Of each patch, the first
    of which changes nothing, ``kept`` is the share of channels that it keeps; where none are removed, that of ranks.
    """

    group: int | None
    operators: tuple[int, ...]
    channels: int
    patches: tuple[Patch, ...]
    kept: tuple[float, ...]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Proposals:
    """All places of a network, and which of them, by their indices, cost something together."""

    patching: Patching
    places: tuple[Place, ...]
    neighbours: tuple[tuple[int, int], ...]

    def candidates(self, harms: Sequence[Sequence[float]]) -> tuple[Candidates, ...]:
        """Return the candidates of each place, with what each harms alone."""
        return tuple(
            Candidates(place.patches, tuple(rises), place.kept)
            for place, rises in zip(self.places, harms, strict=True)
        )  # fmt: skip

    def fit(self, patch: Patch) -> Patch:
        """Return a patch that fits: see :func:`fitted`."""
        return fitted(self.patching, patch)


def proposals(
    imported: Imported,
    methods: Iterable[str] = METHODS,
    *,
    widths: Mapping[int, Sequence[int]] | None = None,
    ranks: Mapping[int, Sequence[Ranks]] | None = None,
    protected: Iterable[int] = (),
) -> Proposals:
    """Return what ``"prune"`` and ``"low_rank"`` may make of each place of a network with weights.

    ``widths`` are those of groups by any operator that makes them, such as a platform's useful ones, and ``ranks``
    those of operators; they take the place of the usual ones. Layers of fewer than 21 channels on a side are not taken
    apart, nor those that it saves no multiply-accumulates. What ``protected`` operators make stays. Raises
    :class:`~leti.core.errors.InvalidInput` for widths of what makes no channels of one group, and ranks of what is not
    taken apart.
    """
    chosen, kept = METHODS.intersection(methods), frozenset(protected)
    search = _Search(imported, chosen, dict(widths or {}), dict(ranks or {}))
    places = [place for place in search.places() if not kept.intersection(place.operators) and len(place.patches) > 1]
    return Proposals(search.patching, tuple(places), tuple(_neighbours(search.patching, places)))


def fitted(patching: Patching, patch: Patch) -> Patch:
    """Return a patch without ranks that its own widths do not allow: the largest that they do, or none.

    An operator is not taken apart where that would save no multiply-accumulates any more.
    """
    if not (patch.ranks and patch.widths):
        return patch
    widths = patching.widths(patch.widths)
    found = {
        number: ranks for number, asked in patch.ranks.items()
        if (ranks := _clipped(_narrow(patching, number, widths), asked))
    }  # fmt: skip
    return Patch(patch.widths, found, patch.precision)


def _narrow(patching: Patching, number: int, widths: Sequence[int]) -> Op:
    """Return an operator of the base where groups keep so many channels."""
    graph, axes = patching.graph, patching.channels.axes
    op, made = graph.ops[number], graph.first_values()[number]
    inputs = [resized(t, axes[v], widths) for t, v in zip(op.inputs, graph.wiring[number], strict=True)]
    outputs = [resized(t, axes[made + i], widths) for i, t in enumerate(op.outputs)]
    return narrowed(op, tuple(inputs), tuple(outputs))


def _clipped(op: Op, asked: Ranks) -> Ranks:
    """Return the ranks that an operator can have of those that are asked for, none where they save nothing."""
    most = _most(op, asked)
    if not most:
        return asked  # of another form: who builds it says so
    ranks = tuple(map(min, asked, most))
    return ranks if sum(factor.macs for _, factor in factors(op, ranks, "ranks")) < op.macs else ()


def _most(op: Op, ranks: Ranks) -> Ranks:
    """Return the largest ranks that an operator can have in the form that these are of, none where it has not that."""
    return next((limit for limit in most_ranks(op) if len(limit) == len(ranks)), ())


@final
class _Search:
    """A network whose places are looked for."""

    def __init__(
        self,
        imported: Imported,
        methods: frozenset[str],
        widths: dict[int, Sequence[int]],
        ranks: dict[int, Sequence[Ranks]],
    ) -> None:
        self.patching = Patching(imported.graph)
        self._methods, self._ranks = methods, ranks
        groups = self.patching.channels.groups
        self._free = [tuple(group.channels for group in groups)]
        self._layers = {layer.number: layer for layer in LowRank.of(imported).layers()}
        of = {member: group.number for group in groups for member in group.members}
        self._widths: dict[int, set[int]] = {}
        for number, wanted in widths.items():
            if number not in of:
                raise InvalidInput("makes no channels of one group", field=f"widths[{number}]")
            self._widths.setdefault(of[number], set()).update(wanted)
        for number in ranks:
            if number not in self._layers:
                raise InvalidInput("is not taken apart", field=f"ranks[{number}]")

    def places(self) -> Iterator[Place]:
        """Yield the places in the order of what makes them, those that nothing may become of, too."""
        in_groups: set[int] = set()
        for group in self.patching.channels.groups:
            in_groups.update(group.producers)
            if group.producers:
                narrow = "prune" in self._methods and not group.fixed
                widths = self._widths_of(group.number, group.channels) if narrow else []
                yield self._place(group.number, group.producers, group.channels, widths)
        for number, layer in self._layers.items():
            if number not in in_groups:
                yield self._place(None, (number,), layer.shape[0], [])

    def _place(self, group: int | None, operators: tuple[int, ...], channels: int, widths: Sequence[int]) -> Place:
        name = operators[0]
        found = [(Patch(), 1.0), *((Patch({name: width}), width / channels) for width in widths)]
        if "low_rank" in self._methods:
            layers = [self._layers[number] for number in operators if number in self._layers]
            for ranks in self._low_ranks(layers):
                found.append((Patch(ranks=ranks), 1.0 if "prune" in self._methods else self._share(ranks)))
            for width, factor in self._together(channels, widths):
                ranks = self._narrow_ranks(operators, name, width, factor)
                if ranks:
                    found.append((Patch({name: width}, ranks), width / channels))
        different = [each for i, each in enumerate(found) if each not in found[:i]]
        patches, kept = zip(*different, strict=True)
        return Place(group, operators, channels, patches, kept)

    def _widths_of(self, group: int, channels: int) -> list[int]:
        """Return the widths of a group, ascending, the unchanged one not among them."""
        if group in self._widths:
            return sorted(width for width in self._widths[group] if 1 <= width < channels)
        tile = next(tile for least, tile in TILES if channels >= least)
        on = {max(tile, round(channels * i / 8 / tile) * tile) for i in range(1, 8)}
        off = {max(1, round(channels * share)) for share in OFF_TILE}
        return sorted(width for width in on | off if width < channels)

    def _low_ranks(self, layers: Sequence[Layer]) -> Iterator[dict[int, Ranks]]:
        """Yield ranks of all layers of a place that may be taken apart, a level each time."""
        given = [[(layer.number, tuple(r)) for r in self._ranks.get(layer.number, ())] for layer in layers]
        for level in zip(*(level for level in given if level), strict=False):
            yield dict(level)
        rules: tuple[Rule, ...] = (_at_extreme, by_noise(WEAKENING), *map(by_reduction, REDUCTIONS))
        for rule in rules:
            ranks = {layer.number: rule(layer) for layer in layers if layer.number not in self._ranks}
            ranks = {number: found for number, found in ranks.items() if found}
            if ranks:
                yield ranks

    def _share(self, ranks: Mapping[int, Ranks]) -> float:
        """Return the mean share of the largest ranks."""
        most = {number: _most(self._layers[number].op, found) for number, found in ranks.items()}
        return float(
            np.mean([r / m for number, found in ranks.items() for r, m in zip(found, most[number], strict=True)])
        )

    def _together(self, channels: int, widths: Sequence[int]) -> Iterator[tuple[int, float]]:
        """Yield widths nearest the shares that go with a reduction, and the reduction."""
        for share, factor in TOGETHER if widths else ():
            yield min(widths, key=lambda width: abs(width - share * channels)), factor

    def _narrow_ranks(self, operators: Sequence[int], name: int, width: int, factor: float) -> dict[int, Ranks]:
        """Return the ranks that leave one ``factor``-th of the parameters of a place of fewer channels."""
        widths, found = self.patching.widths({name: width}), {}
        for number in operators:
            if number in self._layers and number not in self._ranks:
                op = _narrow(self.patching, number, widths)
                kernel = np.asarray(self._layers[number].kernel)[: op.outputs[0].shape[-1]]
                ranks = by_reduction(factor)(Layer(number, op, kernel))
                if ranks:
                    found[number] = ranks
        return found


def _at_extreme(layer: Layer) -> Ranks:
    """Return EVBMF's ranks of a layer; the full one where all may be noise, and none where that saves nothing."""
    if min(layer.shape[0], layer.shape[-1]) < LEAST_RANK:
        return ()
    full = most_ranks(layer.op)[0]
    ranks = tuple(min(most, rank) or most for most, rank in zip(full, extreme_ranks(layer.core()), strict=True))
    return ranks if layer.macs_of(ranks) < layer.macs else ()


def _neighbours(patching: Patching, places: Sequence[Place]) -> list[tuple[int, int]]:
    """Return the places of which one makes what what makes the other reads, and those that share what is made."""
    axes, graph = patching.channels.axes, patching.graph
    firsts = graph.first_values()
    by_group = {place.group: i for i, place in enumerate(places) if place.group is not None}
    by_operator = {number: i for i, place in enumerate(places) for number in place.operators}

    def of(axis: Axis) -> set[int]:
        return {by_group[group] for block in axis for group in block.groups if group in by_group}

    found: set[tuple[int, int]] = set()
    for number in range(len(graph.ops)):
        if most_ranks(graph.ops[number]) or number in by_operator:
            made = of(axes[firsts[number]]) | ({by_operator[number]} if number in by_operator else set())
            read = set().union(*(of(axes[value]) for value in graph.wiring[number]))
            found.update((min(a, b), max(a, b)) for a in made for b in made | read if a != b)
    return sorted(found)
