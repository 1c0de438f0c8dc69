"""Rules: which ranks the next stage gives a layer. Nothing, or what it has, leaves it alone.

Layers of fewer than 21 channels on either side are left alone: the stem, as a rule. With weak ranks, three
operators can cost more than the one that they stand for. Where a step saves no multiply-accumulates, the rules by noise
and by reduction go as many steps at once as it takes to save some.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

from leti.compression.low_rank.applying import Layer
from leti.compression.low_rank.decompositions import Ranks
from leti.compression.low_rank.ranks import (
    LEAST_RANK,
    Form,
    Latencies,
    best_within,
    candidates,
    extreme_ranks,
    form_of,
    full_ranks,
    parameters_of,
    rank_step,
    ranks_within,
    weakened,
)
from leti.core.errors import InvalidInput

Rule = Callable[[Layer], Ranks]

LayerLatencies = Callable[[Layer, Sequence[Ranks]], Latencies]
"""Latencies in ms of a layer with some ranks, ``(ranks,)``; ``()`` stands for the dense layer."""


def by_noise(weakening: float = 0.7) -> Rule:
    """Return the rule of weakened extreme ranks: Tucker-2 for windows, SVD for the others (MUSCO, Gusak et al. 2019).

    What a CP decomposition has been made of is left alone: its core has no unfoldings of the rank.
    """

    def rule(layer: Layer) -> Ranks:
        if _is_narrow(layer) or _form(layer, "tucker2") == "cp":
            return ()
        now = layer.ranks or full_ranks(layer.shape, _form(layer, "tucker2"))
        extreme = tuple(map(min, extreme_ranks(layer.core()), now))
        while (found := weakened(now, extreme, weakening)) != now:
            if layer.macs_of(found) < layer.macs:
                return found
            now = found
        return ()

    return rule


def by_reduction(factor: float, windows: Literal["tucker2", "cp"] = "tucker2") -> Rule:
    """Return the rule that leaves each layer one ``factor``-th of its parameters at a stage; ``windows`` become that.

    Layers that no rank reduces so far are left alone. Raises :class:`~leti.core.errors.InvalidInput` for a factor that
    is not over 1.
    """
    if not factor > 1:
        raise InvalidInput(f"{factor:g} is no reduction", field="factor", remedy="more than 1")

    def rule(layer: Layer) -> Ranks:
        if _is_narrow(layer):
            return ()
        form = _form(layer, windows)
        now = parameters_of(layer.shape, layer.ranks, form) if layer.ranks else math.prod(layer.shape)
        least = parameters_of(layer.shape, (1,) * len(full_ranks(layer.shape, form)), form)
        left = now / factor
        while left >= least:
            found = ranks_within(layer.shape, left, form, most=layer.ranks)
            if layer.macs_of(found) < layer.macs:
                return found
            left /= factor
        return ()

    return rule


def by_latency(factor: float, latencies_ms: LayerLatencies, *, steps: int = 32) -> Rule:
    """Return the rule of the closest ranks that take a layer at most one ``factor``-th of its latency.

    The ranks of ``steps`` steps up to those that it has are asked for at once, after those that it has; Tucker-2 for
    windows, SVD for the others. Layers that no ranks make so much faster are left alone, though multiply-accumulates
    may be saved, and so are those that have no price. Raises :class:`~leti.core.errors.InvalidInput` for a factor that
    is not over 1.
    """
    if not factor > 1:
        raise InvalidInput(f"{factor:g} is no speed-up", field="factor", remedy="more than 1")

    def rule(layer: Layer) -> Ranks:
        if _is_narrow(layer):
            return ()
        most = layer.ranks or full_ranks(layer.shape, _form(layer, "tucker2"))
        count = min(steps, max(most))
        every = dict.fromkeys(rank_step(most, max(most) * step // count) for step in range(1, count + 1))
        asked = [layer.ranks, *(ranks for ranks in every if ranks != layer.ranks)]
        known = [(), *asked[1:]]  # what it has is as close as it gets
        latencies = latencies_ms(layer, asked)
        found = candidates(layer.core(), known, latencies(asked) if callable(latencies) else latencies)
        now = [candidate.latency_ms for candidate in found if not candidate.ranks]
        faster = [each for each in found if now and each.latency_ms <= now[0] / factor]
        return best_within(faster, now[0]).ranks if faster else ()

    return rule


def _form(layer: Layer, windows: Literal["tucker2", "cp"]) -> Form:
    """Return what a layer is, or would become."""
    if layer.ranks:
        return form_of(layer.shape, layer.ranks)
    if math.prod(layer.shape[1:-1]) == 1:
        return "svd"
    return windows if 1 not in layer.shape[1:-1] else "tucker2"


def _is_narrow(layer: Layer) -> bool:
    return min(layer.shape[0], layer.shape[-1]) < LEAST_RANK
