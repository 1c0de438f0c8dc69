"""Ranks: planted ones found, weakened ones between, those of budgets as large as they may be."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

scipy_optimize = pytest.importorskip("scipy.optimize", reason="the extra `compression` is not installed")

from hypothesis import given
from hypothesis import strategies as st

from leti.compression.low_rank import evbmf
from leti.compression.low_rank.decompositions import decompose, svd, tucker2
from leti.compression.low_rank.evbmf import extreme_rank
from leti.compression.low_rank.ranks import (
    LEAST_RANK,
    best_within,
    candidates,
    extreme_ranks,
    form_of,
    full_ranks,
    parameters_of,
    rank_step,
    ranks_within,
    reduced_ranks,
    staircase,
    truncation_errors,
    weakened,
)
from leti.compression.low_rank.tensors import relative_error
from leti.core.errors import InvalidInput


def planted(shape: tuple[int, int], rank: int, deviation: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    signal = rng.standard_normal((shape[0], rank)) @ rng.standard_normal((rank, shape[1]))
    return signal + deviation * rng.standard_normal(shape)


@pytest.mark.parametrize("shape", [(128, 576), (576, 128), (100, 100)])
@pytest.mark.parametrize("rank", [5, 20, 40])
def test_planted_ranks_are_found_exactly(shape, rank):
    for seed, deviation in itertools.product(range(3), (0.1, 0.3, 0.5)):
        assert extreme_rank(planted(shape, rank, deviation, seed)) == rank


def test_noise_has_no_rank_and_exact_ranks_are_found():
    for shape in [(64, 64), (30, 400), (400, 30)]:
        assert extreme_rank(planted(shape, 0, 1.0)) == 0
    for dtype in (np.float32, np.float64):  # rounding is no signal
        assert extreme_rank(planted((128, 300), 7, 0.0).astype(dtype)) == 7
    assert extreme_rank(np.zeros((4, 9))) == 0
    assert extreme_rank(np.ones((40, 90))) == 1
    assert extreme_rank(1e-20 * planted((128, 300), 7, 0.1)) == 7
    for bad in (np.ones(3), np.ones((0, 3)), np.full((3, 3), np.nan)):
        with pytest.raises(InvalidInput) as caught:
            extreme_rank(bad)
        assert caught.value.field == "matrix"


def test_the_estimated_noise_is_that_of_the_free_energy_written_out():
    """The variational solution of each singular value, as the paper has it: no threshold, no constants left out."""
    matrix = planted((60, 150), 12, 0.4, seed=5)
    fewer, more = matrix.shape
    ratio, gammas = fewer / more, np.linalg.svd(matrix, compute_uv=False)

    def free_energy(variance: float) -> float:
        total = 0.0
        for gamma in gammas:
            x = gamma**2 / (more * variance)
            total += x - math.log(x)
            if x > (1 + math.sqrt(ratio)) ** 2:
                tau = (x - (1 + ratio) + math.sqrt((x - (1 + ratio)) ** 2 - 4 * ratio)) / 2
                total += min(math.log(tau + 1) + ratio * math.log(tau / ratio + 1) - tau, 0)
        return total

    grid = np.geomspace(1e-3, 10, 4001)
    best = grid[np.argmin([free_energy(variance) for variance in grid])]
    threshold = evbmf._threshold(ratio)
    found = evbmf._noise_variance(gammas**2 / more, ratio, threshold, 0.0)
    assert found == pytest.approx(best, rel=5e-3)
    assert found == pytest.approx(0.4**2, rel=0.1)
    tau = scipy_optimize.brentq(
        lambda t: math.log(t + 1) / t + ratio * math.log(t / ratio + 1) / t - 1, 1e-6, 10, xtol=1e-14
    )
    assert threshold == pytest.approx((1 + tau) * (1 + ratio / tau))
    assert evbmf._threshold(1.0) == pytest.approx((1 + 2.5129) * (1 + 1 / 2.5129), rel=1e-4)


def test_a_compressed_kernel_shows_its_ranks_in_the_core_and_not_in_full():
    rng = np.random.default_rng(0)
    signal = tucker2(rng.standard_normal((64, 3, 3, 48)), (12, 16)).kernel()
    kernel = signal + 0.02 * signal.std() * rng.standard_normal(signal.shape)
    assert extreme_ranks(kernel) == (12, 16)
    once = tucker2(kernel, weakened((48, 64), (12, 16), 0.5))
    assert once.ranks == (30, 40)
    assert extreme_ranks(once.kernel()) == once.ranks  # where a loop would stand still
    assert extreme_ranks(once.core()) == (12, 16)


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), min_size=1, max_size=2), st.floats(0.5, 0.9))
def test_weakened_ranks_are_between_the_first_and_the_extreme(pairs, weakening):
    initial = tuple(max(pair) for pair in pairs)
    extreme = tuple(min(pair) for pair in pairs)
    for rank, least, found in zip(initial, extreme, weakened(initial, extreme, weakening), strict=True):
        if rank < LEAST_RANK or least == 0:
            assert found == rank
        else:
            assert least <= found <= rank
            assert found < rank or least == rank  # a step is a step
            assert found == pytest.approx(rank - weakening * (rank - least), abs=1)


def test_ranks_under_21_stay_and_weakenings_beyond_are_refused():
    assert weakened((20, 21), (2, 2), 0.9) == (20, 3)
    assert weakened((100,), (0,), 0.5) == (100,)
    assert weakened((100,), (30,), 0.7) == (51,)  # 51 in numbers, though not in floats
    for weakening in (0.49, 0.91, math.nan):
        with pytest.raises(InvalidInput) as caught:
            weakened((100,), (30,), weakening)
        assert caught.value.field == "weakening"
    with pytest.raises(InvalidInput):
        weakened((30,), (31,), 0.5)


SHAPES = st.one_of(
    st.tuples(st.integers(8, 200), st.integers(8, 200)),
    st.tuples(st.integers(8, 200), st.sampled_from([3, 5]), st.sampled_from([3, 5]), st.integers(8, 200)),
)


@given(SHAPES, st.sampled_from([1, 2]), st.floats(1.2, 4))
def test_the_reduction_is_within_one_step_of_what_is_asked(shape, count, factor):
    form = form_of(shape, (1,) * count)
    first = reduced_ranks(shape, factor, form)
    second = reduced_ranks(shape, 1.2, form, current=first) if max(first) > 8 else ()
    before, most = math.prod(shape), full_ranks(shape, form)
    for asked, ranks in ((factor, first), (1.2, second)):
        if ranks:
            assert parameters_of(shape, ranks, form) <= before / asked
            steps = [step for step in range(1, max(most) + 1) if rank_step(most, step) == ranks]
            above = rank_step(most, steps[-1] + 1) if steps[-1] < max(most) else None
            assert above is None or parameters_of(shape, above, form) > before / asked
            before, most = parameters_of(shape, ranks, form), ranks


@pytest.mark.parametrize(("shape", "ranks"), [((9, 7), (3,)), ((9, 3, 5, 7), (3, 4)), ((9, 3, 5, 7), (3,))])
def test_parameters_are_those_of_the_factors(shape, ranks):
    kernel = np.random.default_rng(0).standard_normal(shape)
    found = decompose(kernel, ranks)
    assert sum(weight.size for weight in found.weights) == parameters_of(shape, ranks, form_of(shape, ranks))


def test_what_no_rank_reaches_is_refused():
    with pytest.raises(InvalidInput) as caught:
        ranks_within((8, 3, 3, 8), 24, "tucker2")
    assert caught.value.remedy == "at least 25"
    with pytest.raises(InvalidInput):
        reduced_ranks((8, 8), 0.5, "svd")


def test_errors_of_all_ranks_are_those_of_truncations():
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((12, 3, 3, 10))
    ranks = [(), (4,), *itertools.product((1, 5, 10), (1, 6, 12))]
    for chosen, error in zip(ranks[2:], truncation_errors(kernel, ranks)[2:], strict=True):
        iterated = relative_error(kernel, tucker2(kernel, chosen).kernel())
        assert iterated - 1e-9 <= error <= iterated * 1.05 + 1e-7
    assert truncation_errors(kernel, ranks)[0] == 0
    matrix = kernel[:, 0, 0]
    for chosen, error in zip([(1,), (5,)], truncation_errors(matrix, [(1,), (5,)]), strict=True):
        assert error == pytest.approx(relative_error(matrix, svd(matrix, chosen).kernel()))


def test_ranks_are_taken_from_the_staircase_of_a_device():
    kernel = np.random.default_rng(0).standard_normal((64, 3, 3, 64))
    ranks = [(), *((rank, rank) for rank in range(8, 65, 8))]

    def latencies_ms(asked):
        """Tiles of 32 channels; 40 are slower than 48, and from 56 on, three operators are slower than one."""
        return [
            1.0 if not each else {8: 0.3, 40: 0.9, 48: 0.8}.get(each[0], math.ceil(each[0] / 32) * 0.6)
            for each in asked
        ]

    found = candidates(kernel, ranks, latencies_ms)
    assert [each.ranks for each in staircase(found)] == [(8, 8), (32, 32), (48, 48), ()]
    assert candidates(kernel, ranks, latencies_ms(ranks)) == found
    unpriced = [None, *latencies_ms(ranks)[1:]]
    assert candidates(kernel, ranks, unpriced) == found[1:]
    assert best_within(found, 0.7).ranks == (32, 32)
    assert best_within(found, 0.85).ranks == (48, 48)
    assert best_within(found, 5.0).ranks == ()  # nothing is as close as what there was
    with pytest.raises(InvalidInput) as caught:
        best_within(found, 0.2)
    assert caught.value.details["least_ms"] == pytest.approx(0.3)
    for bad in ([1.0], [math.inf] * len(ranks), [0.0] * len(ranks)):
        with pytest.raises(InvalidInput) as caught:
            candidates(kernel, ranks, bad)
        assert caught.value.field == "latencies_ms"
