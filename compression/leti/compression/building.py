"""Building: the weights of a network that a patch changed, so that what was predicted can be trained and exported.

Channels go by a criterion of importance, then operators are taken apart; with samples, what reads the channels that are
left, and the last factor of what was taken apart, is fitted to what the network made before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from leti.compression.low_rank.applying import decomposed
from leti.compression.pruning.criteria import NOTHING_SEEN, Evidence, importance
from leti.compression.pruning.removing import removed
from leti.compression.reconstructing import Reference, reconstructed
from leti.core.extras import needs
from leti.core.patches import Patch
from leti.generator.compressing.groups import kept_positions
from leti.generator.compressing.patching import Patching
from leti.generator.importers import Imported

with needs("compression"):
    import numpy as np


def built(
    imported: Imported,
    patch: Patch,
    *,
    criterion: str = "l1",
    observed: Evidence = NOTHING_SEEN,
    seed: int = 0,
    reference: Reference | None = None,
) -> Imported:
    """Return the network with weights that a patch makes of another, its precision aside.

    The graph is that of :func:`~leti.generator.compressing.patching.patched`. A group keeps its most important channels
    by a ``criterion`` of :data:`~leti.compression.pruning.criteria.CRITERIA`, which may need what was ``observed`` of
    the network on data. A ``reference``, which is what the network computes on some samples, is what the new one is
    fitted to, layer by layer. Raises :class:`~leti.core.errors.InvalidInput`, naming a place in ``patch``, where the
    patch does not fit, and for a network without weights.
    """
    patching = Patching(imported.graph)
    kept = _kept(imported, patching, patch.widths, criterion, observed, seed)
    made = removed(imported, kept) if kept else imported
    if patch.ranks:
        made = decomposed(made, patch.ranks)
    if reference is None or made is imported:
        return made
    whole = patching.patched(replace(patch, precision=""))
    channels = patching.channels
    sizes = [group.channels for group in channels.groups]
    firsts = imported.graph.first_values()
    last = {base: i for i, (base, _) in enumerate(whole.origins)}
    positions = {
        i: np.asarray(kept_positions(channels.axes[firsts[base]], sizes, kept), np.intp)
        for base, i in last.items()
        if whole.graph.ops[i].outputs
    }
    return reconstructed(made, reference, {base: (i, positions[i]) for base, i in last.items() if i in positions})


def _kept(
    imported: Imported, patching: Patching, widths: Mapping[int, int], criterion: str, observed: Evidence, seed: int
) -> dict[int, list[int]]:
    """Return the channels that groups keep, ascending, by the groups' numbers; of those alone that lose some."""
    kept: dict[int, list[int]] = {}
    for group, width in zip(patching.channels.groups, patching.widths(widths), strict=True):
        if width < group.channels:
            scores = importance(imported, group, criterion, evidence=observed, seed=seed)
            kept[group.number] = np.sort(np.argsort(-scores, kind="stable")[:width]).tolist()
    return kept
