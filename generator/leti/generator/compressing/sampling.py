"""Sampling: compressed forms of a network as searches ask for them, so that predictors have met such forms."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from leti.core.errors import InvalidInput
from leti.core.graph import Graph
from leti.core.patches import Patch
from leti.generator.compressing.factors import most_ranks
from leti.generator.compressing.patching import Patching

LEAST_SHARE: Final = 0.1
"""Of the channels of a group, and of the largest ranks, that are kept at the least."""

MOST_RANK: Final = 0.7
"""Of the largest ranks, that are kept at the most: beyond, the operators do more than the one that they are."""

TILE: Final = 8
"""Channels that kernels like to have: half of the networks keep multiples of it, as half of the searches do."""

Draw = Callable[[Patching, random.Random], Patch]


def compressed(graph: Graph, count: int, seed: int) -> tuple[Patch, ...]:
    """Return ``count`` patches of a base drawn by ``seed``; see :func:`compressed_forms`."""
    return tuple([patch for patch, _ in compressed_forms(graph, count, seed)])


def compressed_forms(graph: Graph, count: int, seed: int) -> tuple[tuple[Patch, Graph], ...]:
    """Return ``count`` patches of a base drawn by ``seed`` with their graphs, all different, none the base's own.

    A third have fewer channels, a third operators of low rank, a third both; the precision is the base's. Widths are
    of one share for the whole network that groups vary about, or of a share a group, on :data:`TILE` or off it; ranks
    are Tucker's, an SVD's, and now and then CP's. Raises :class:`InvalidInput`, saying how many there are, where 20
    draws a network do not find enough.
    """
    rng = random.Random(seed)  # noqa: S311 - a reproducible draw, no secret
    patching = Patching(graph)
    found: dict[str, tuple[Patch, Graph]] = {}
    own = graph.fingerprint()
    for attempt in range(20 * count + 100):
        if len(found) == count:
            break
        patch = _DRAWS[attempt % len(_DRAWS)](patching, rng)
        form = patching.patched(patch).graph
        if form.fingerprint() != own:
            found.setdefault(form.fingerprint(), (patch, form))
    if len(found) < count:
        raise InvalidInput(
            f"{count} compressed forms of the network were not found",
            field="count",
            remedy=f"ask for at most {len(found)}" if found else "give a network with channels that may be removed",
            available=len(found),
        )
    return tuple(found.values())


def _narrow(patching: Patching, rng: random.Random) -> Patch:
    """Draw the channels that each group keeps; a group in four keeps all of them."""
    tile, common = rng.choice((1, TILE)), rng.uniform(LEAST_SHARE, 1)
    together = rng.random() < 0.5
    widths: dict[int, int] = {}
    for group in patching.channels.groups:
        if group.fixed or rng.random() < 0.25:
            continue
        share = common * rng.uniform(0.8, 1.25) if together else rng.uniform(LEAST_SHARE, 1)
        width = max(round(share * group.channels / tile) * tile, 1)
        if width < group.channels:
            widths[group.members[0]] = width
    return Patch(widths)


def _low_rank(patching: Patching, rng: random.Random) -> Patch:
    return Patch(ranks=_ranks(patching.graph, rng))


def _both(patching: Patching, rng: random.Random) -> Patch:
    widths = _narrow(patching, rng).widths
    return Patch(widths, _ranks(patching.patched(Patch(widths)).graph, rng))


def _ranks(graph: Graph, rng: random.Random) -> dict[int, tuple[int, ...]]:
    """Draw which operators are taken apart, any share of them, and their ranks."""
    taken = rng.uniform(LEAST_SHARE, 1)
    ranks: dict[int, tuple[int, ...]] = {}
    for number, op in enumerate(graph.ops):
        most = most_ranks(op)
        if not most or rng.random() > taken:
            continue
        if len(most) > 1 and rng.random() < 0.1:  # CP's rank is as Tucker's: its limit is far beyond what is asked
            ranks[number] = (_rank(min(most[0]), rng),)
        else:
            ranks[number] = tuple([_rank(limit, rng) for limit in most[0]])
    return ranks


def _rank(limit: int, rng: random.Random) -> int:
    return max(round(limit * rng.uniform(LEAST_SHARE, MOST_RANK)), 1)


_DRAWS: Final[tuple[Draw, ...]] = (_narrow, _low_rank, _both)
