"""Ranks of a kernel: from the noise in its weights, from a budget of parameters, from latencies.

Where the published code of MUSCO and its text differ, this is the text. A mode with a rank under 21 is left alone: the
code's default leaves 21 alone as well and lifts lower results to it, and its classes pass 8 or 2 instead. Weakening is
between 0.5 and 0.9. Where EVBMF finds no signal, the full rank stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, final

from leti.compression.low_rank.decompositions import Ranks, decompose
from leti.compression.low_rank.evbmf import extreme_rank
from leti.compression.low_rank.tensors import Array, leading_vectors, relative_error, times, unfolding
from leti.core.errors import InvalidInput
from leti.core.extras import needs

with needs("compression"):
    import numpy as np

Form = Literal["tucker2", "svd", "cp"]
"""What a kernel becomes; a kernel whose window is one element becomes an SVD."""

LEAST_RANK: Final = 21
"""Ranks under it are left alone."""

WEAKENINGS: Final = (0.5, 0.9)
"""Least and most of the way to the extreme rank that a step goes."""


def form_of(shape: Sequence[int], ranks: Ranks) -> Form:
    """Return what ranks make of a kernel ``(out, *window, in)``."""
    if math.prod(shape[1:-1]) == 1:
        return "svd"
    return "tucker2" if len(ranks) == 2 else "cp"


def full_ranks(shape: Sequence[int], form: Form) -> Ranks:
    """Return the largest ranks of a kernel ``(out, *window, in)``; of CP, that beyond which it is exact."""
    if form == "tucker2":
        return shape[-1], shape[0]
    return (min(shape[0], shape[-1]),) if form == "svd" else (math.prod(shape) // max(shape),)


def parameters_of(shape: Sequence[int], ranks: Ranks, form: Form) -> int:
    """Return the number of weights of the factors of a kernel ``(out, *window, in)``; the bias is not counted."""
    out, *window, channels = shape
    if form == "tucker2":
        rank_in, rank_out = ranks
        return channels * rank_in + math.prod(window) * rank_in * rank_out + rank_out * out
    return ranks[0] * (out + channels + (sum(window) if form == "cp" else 0))


# --- from the noise ---------------------------------------------------------------------------------------------------


def extreme_ranks(core: Array) -> Ranks:
    """Return EVBMF's ranks of a kernel, or of a core between orthonormal bases; 0 where a mode may be all noise.

    ``core`` is ``(out, *window, in)``: a matrix has one rank, a window those of the unfoldings ``(in, window × out)``
    and ``(out, window × in)``. What was compressed before goes in as its core: in the full kernel, the singular values
    beyond the old rank are 0, so that the old rank is what would be found there again, at every stage.
    """
    if math.prod(core.shape[1:-1]) == 1:
        return (extreme_rank(core.reshape(len(core), -1)),)
    return extreme_rank(unfolding(core, core.ndim - 1)), extreme_rank(unfolding(core, 0))


def weakened(initial: Ranks, extreme: Ranks, weakening: float) -> Ranks:
    """Return ``R_init − w (R_init − R_extr)`` of each rank, rounded down, ``w`` the weakening.

    Each rank is between the two; one under :data:`LEAST_RANK`, and one whose extreme is 0, stays. Raises
    :class:`~leti.core.errors.InvalidInput` for a weakening beyond :data:`WEAKENINGS`, or extremes over the ranks.
    """
    if not WEAKENINGS[0] <= weakening <= WEAKENINGS[1]:
        raise InvalidInput(f"is {weakening}", field="weakening", remedy=f"{WEAKENINGS[0]} to {WEAKENINGS[1]}")
    if len(initial) != len(extreme) or any(b > a for a, b in zip(initial, extreme, strict=False)):
        raise InvalidInput(f"{list(extreme)} are no extremes of {list(initial)}", field="extreme")
    return tuple(
        rank if rank < LEAST_RANK or not least else math.floor(rank - weakening * (rank - least) + 1e-9)
        for rank, least in zip(initial, extreme, strict=True)
    )


# --- from parameters --------------------------------------------------------------------------------------------------


def ranks_within(shape: Sequence[int], parameters: float, form: Form, *, most: Ranks = ()) -> Ranks:
    """Return the largest ranks of a kernel ``(out, *window, in)`` whose factors have so many parameters at most.

    Tucker-2's two ranks go in steps along the line from nothing to ``most``, which is the full ranks where it is not
    given. Raises :class:`~leti.core.errors.InvalidInput` where ranks of 1 have more.
    """
    most = most or full_ranks(shape, form)
    low, high = 0, max(most)
    while low < high:
        step = (low + high + 1) // 2
        if parameters_of(shape, rank_step(most, step), form) <= parameters:
            low = step
        else:
            high = step - 1
    if not low:
        least = parameters_of(shape, (1,) * len(most), form)
        raise InvalidInput(f"{parameters:g} are too few", field="parameters", remedy=f"at least {least}")
    return rank_step(most, low)


def rank_step(most: Ranks, step: int) -> Ranks:
    """Return the ranks at a step from 0 to ``max(most)``, each its share of ``most`` and 1 at least."""
    return tuple(max(1, rank * step // max(most)) for rank in most)


def reduced_ranks(shape: Sequence[int], factor: float, form: Form, *, current: Ranks = ()) -> Ranks:
    """Return the ranks that leave at most one ``factor``-th of the parameters of a kernel ``(out, *window, in)``.

    What has ``current`` ranks already is reduced from those on. The ranks one step up would leave more. Raises
    :class:`~leti.core.errors.InvalidInput` for a factor under 1, and one that ranks of 1 do not reach.
    """
    if not factor >= 1:
        raise InvalidInput(f"{factor:g} is no reduction", field="factor", remedy="1 or more")
    parameters = parameters_of(shape, current, form) if current else math.prod(shape)
    return ranks_within(shape, parameters / factor, form, most=current)


# --- from latencies ---------------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Candidate:
    """A kernel of these ranks, none for dense: its latency in ms, and its distance from the kernel, relative."""

    ranks: Ranks
    latency_ms: float
    error: float


Latencies = Callable[[Sequence[Ranks]], Sequence[float | None] | Array] | Sequence[float | None] | Array
"""Latencies in ms of some ranks, ``(ranks,)``, or what knows them."""


def candidates(kernel: Array, ranks: Sequence[Ranks], latencies_ms: Latencies) -> tuple[Candidate, ...]:
    """Return what each of some ranks of a kernel ``(out, *window, in)`` costs and misses; ``()`` stands for dense.

    Latencies are numbers beside the ranks (those of a slab, say), or a function of them, asked once. What has no
    price, ``None`` or not a number, is left out. Raises :class:`~leti.core.errors.InvalidInput` for latencies that are
    not as many, not positive, or infinite.
    """
    latencies = np.asarray(latencies_ms(ranks) if callable(latencies_ms) else latencies_ms, np.float64)
    if latencies.shape != (len(ranks),):
        raise InvalidInput(f"have the shape {latencies.shape} for {len(ranks)} ranks", field="latencies_ms")
    if (np.isinf(latencies) | (latencies <= 0)).any():
        raise InvalidInput("must be finite and positive", field="latencies_ms")
    priced = ~np.isnan(latencies)
    ranks = [each for each, has_price in zip(ranks, priced, strict=True) if has_price]
    rows = zip(ranks, latencies[priced], truncation_errors(kernel, ranks), strict=True)
    return tuple(Candidate(tuple(rank), float(latency), float(error)) for rank, latency, error in rows)


def truncation_errors(kernel: Array, ranks: Sequence[Ranks]) -> Array:
    """Return the relative errors ``(ranks,)`` of a kernel ``(out, *window, in)`` of each of some ranks.

    Those of Tucker-2 are HOSVD's, which its iteration betters a little: they are all read from one core. ``()`` misses
    nothing; CP is decomposed for every rank.
    """
    kernel = np.asarray(kernel, np.float64)
    total = float((kernel**2).sum())
    last = leading_vectors(unfolding(kernel, 0), len(kernel))
    first = leading_vectors(unfolding(kernel, kernel.ndim - 1), kernel.shape[-1])
    core = times(times(kernel, last.T, 0), first.T, -1)
    squares = (core**2).reshape(len(core), -1, core.shape[-1]).sum(axis=1)
    captured = squares.cumsum(axis=0).cumsum(axis=1)

    def error(chosen: Ranks) -> float:
        if not chosen or not total:
            return 0.0
        form = form_of(kernel.shape, chosen)
        if form == "cp":
            return relative_error(kernel, decompose(kernel, chosen).kernel())
        rank_in, rank_out = (chosen[0], chosen[0]) if form == "svd" else chosen
        missed = 1 - float(captured[rank_out - 1, rank_in - 1]) / total
        return math.sqrt(max(missed, 0.0))

    return np.array([error(tuple(chosen)) for chosen in ranks])


def staircase(found: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Return the candidates that no other is as fast as and as close as, the fastest first.

    Latency is a staircase and not monotone in the ranks: of all ranks on one step, the closest remains, and what is
    slower than something closer goes, whatever it saves.
    """
    kept: list[Candidate] = []
    for candidate in sorted(found, key=lambda each: (each.latency_ms, each.error)):
        if not kept or candidate.error < kept[-1].error:
            kept.append(candidate)
    return tuple(kept)


def best_within(found: Sequence[Candidate], latency_ms: float) -> Candidate:
    """Return the closest candidate of that latency at most, the faster one of those as close.

    Raises :class:`~leti.core.errors.InvalidInput`, saying the least that is reached, where all are slower.
    """
    within = [candidate for candidate in found if candidate.latency_ms <= latency_ms]
    if not within:
        least = min((candidate.latency_ms for candidate in found), default=float("inf"))
        raise InvalidInput(
            f"{latency_ms:g} ms is not reached", field="latency_ms", remedy=f"at least {least:g}", least_ms=least
        )
    return min(within, key=lambda each: (each.error, each.latency_ms))
