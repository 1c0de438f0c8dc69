"""Sensitivity analysis: what a network is worth with one layer, or one coupled group, pruned to a level.

As Distiller does it ("Neural Network Distiller", Zmora et al., 2019): one change at a time, no fine-tuning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, final

from leti.compression.pruning.criteria import by_channel, importance
from leti.compression.pruning.elementwise import level_masks, masked
from leti.compression.pruning.removing import channel_axis, removed
from leti.compression.pruning.summaries import FILTERS
from leti.compression.scores import Progress, Score, Scores
from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.generator.compressing.groups import channel_groups
from leti.generator.importers import Imported

with needs("compression"):
    import numpy as np

Granularity = Literal["elements", "filters", "channels"]

LEVELS: Final = tuple(level / 20 for level in range(1, 20))
"""5 to 95 %, as Distiller's own analysis goes."""


@final
@dataclass(frozen=True, slots=True)
class Sensitivity:
    """Scores of a network with one change at a time.

    ``places`` are numbers of operators, or of channel groups where the granularity is ``"channels"``, and ``names``
    what they are called. ``scores[i][j]`` is that of place ``i`` pruned to ``levels[j]``; ``unchanged`` that of the
    network as it is.
    """

    granularity: Granularity
    places: tuple[int, ...]
    names: tuple[str, ...]
    levels: tuple[float, ...]
    unchanged: float
    scores: tuple[tuple[float, ...], ...]

    def table(self) -> str:
        """Return the scores as text, a line for each place."""
        width = max(map(len, (*self.names, "unchanged")))
        lines = [f"{'':{width}}" + "".join(f"{level:>9.0%}" for level in self.levels)]
        lines.append(f"{'unchanged':{width}}" + f"{self.unchanged:>9.4f}" * len(self.levels))
        for name, scores in zip(self.names, self.scores, strict=True):
            lines.append(f"{name:{width}}" + "".join(f"{score:>9.4f}" for score in scores))
        return "\n".join(lines)


def sensitivity(
    imported: Imported,
    evaluate: Score,
    granularity: Granularity = "filters",
    *,
    levels: Sequence[float] = LEVELS,
    places: Sequence[int] | None = None,
    cache: Path | None = None,
    evaluation: str = "",
    progress: Progress | None = None,
) -> Sensitivity:
    """Return the score of a network for each place and level, by one ``evaluate`` each and one for the network itself.

    ``"elements"`` makes the smallest weights of a layer zero, ``"filters"`` its filters of the smallest L1 norm with
    their biases, and ``"channels"`` removes a group's channels of the least L1 norm, at most all but one. ``places``
    are all that there are unless they are named. ``cache`` is a folder of scores; ``evaluation`` must then name what
    ``evaluate`` does, and on which data, as that cannot be told from outside. ``progress`` is told how many scores are
    there, and of how many. Raises :class:`InvalidInput` for places that are none, and levels outside 0 to 1.
    """
    if any(not 0 < level < 1 for level in levels) or not levels:
        raise InvalidInput("must be shares between 0 and 1", field="levels")
    change = CHANGES[granularity]
    known = change.places(imported)
    chosen = tuple(known if places is None else places)
    for place in chosen:
        if place not in known:
            raise InvalidInput(
                f"{place} has nothing to prune by {granularity}", field="places", remedy=f"{sorted(known)}"
            )
    total = 1 + len(chosen) * len(levels)
    scores = Scores(imported, evaluate, cache=cache, evaluation=evaluation, progress=progress, total=total)
    unchanged = scores.of(None, lambda: imported)
    found = tuple(
        tuple(scores.of([granularity, p, level], partial(change.made, imported, p, level)) for level in levels)
        for p in chosen
    )
    return Sensitivity(granularity, chosen, tuple(known[p] for p in chosen), tuple(levels), unchanged, found)


@final
@dataclass(frozen=True, slots=True)
class _Change:
    """A granularity: its places with their names, and the network with one of them pruned to a level."""

    places: Callable[[Imported], Mapping[int, str]]
    made: Callable[[Imported, int, float], Imported]


def _layers(imported: Imported) -> Mapping[int, str]:
    return {i: _named(imported, i) for i, op in enumerate(imported.graph.ops) if op.kind in FILTERS}


def _groups(imported: Imported) -> Mapping[int, str]:
    return {
        group.number: " + ".join(_named(imported, i) for i in group.producers)
        for group in channel_groups(imported.graph)
        if not group.fixed and group.channels > 1
    }


def _named(imported: Imported, operator: int) -> str:
    return imported.names[operator] or f"{imported.graph.ops[operator].kind} {operator}"


def _without_elements(imported: Imported, operator: int, level: float) -> Imported:
    return masked(imported, level_masks(imported, {operator: level}))


def _without_filters(imported: Imported, operator: int, level: float) -> Imported:
    weights = [list(arrays) for arrays in imported.loaded_weights()]
    op = imported.graph.ops[operator]
    norms = np.abs(by_channel(op, weights[operator][0])).sum(axis=1)
    gone = np.argsort(norms, kind="stable")[: round(level * len(norms))]
    for position, array in enumerate(weights[operator]):
        array = weights[operator][position] = array.copy()
        np.moveaxis(array, channel_axis(op), 0)[gone] = 0
    return replace(imported, weights=tuple(tuple(arrays) for arrays in weights))


def _without_channels(imported: Imported, number: int, level: float) -> Imported:
    group = channel_groups(imported.graph)[number]
    count = max(round((1 - level) * group.channels), 1)
    kept = np.sort(np.argsort(-importance(imported, group, "l1"), kind="stable")[:count])
    return removed(imported, {number: kept})


CHANGES: Final[Mapping[Granularity, _Change]] = MappingProxyType(
    {
        "elements": _Change(_layers, _without_elements),
        "filters": _Change(_layers, _without_filters),
        "channels": _Change(_groups, _without_channels),
    }
)
"""What each granularity prunes, and where."""
