"""The interval of a median: how often it holds what it is to hold, by the coin that decides it."""

import math

import numpy as np
import pytest

from leti.compression.measuring.medians import median_interval, quotient_interval


def enclosing(count: int) -> tuple[int, int]:
    """Return which of ``count`` ordered values are the ends."""
    low, high = median_interval(list(range(count)))
    return int(low), int(high)


@pytest.mark.parametrize("count", [5, 8, 11, 12, 13, 48, 2000])
def test_it_is_the_narrowest_pair_of_order_statistics_that_is_wide_enough(count: int) -> None:
    low, high = enclosing(count)
    assert low + high == count - 1
    missed = [2 * sum(math.comb(count, k) for k in range(below)) / 2**count for below in (low + 1, low + 2)]
    assert missed[0] <= 0.1 < missed[1]


def test_too_few_values_give_their_range() -> None:
    assert [enclosing(count) for count in (1, 2, 3, 4)] == [(0, 0), (0, 1), (0, 2), (0, 3)]


def test_whatever_the_values_are_distributed_like_it_holds_their_median_nine_times_of_ten() -> None:
    drawn = np.random.default_rng(0).exponential(size=(4000, 12))
    held = [low <= math.log(2) <= high for low, high in map(median_interval, drawn.tolist())]
    assert 0.93 < np.mean(held) < 0.985  # 0.961 by the coin


def test_order_and_a_coverage_of_ones_own() -> None:
    assert median_interval([3.0, 1.0, 2.0, 5.0, 4.0, 6.0, 7.0], coverage=0.5) == (3.0, 5.0)


def test_a_quotient_of_medians_is_held_nine_times_of_ten() -> None:
    drawn = np.random.default_rng(1)
    held = []
    for _ in range(150):
        pairs = [(drawn.normal(0.5, 0.02, 12) * drift, drawn.normal(1.0, 0.04, 12) * drift) for drift in (1.0, 2.0)]
        low, high = quotient_interval(pairs)
        held.append(low <= 0.5 <= high)
    assert 0.84 < np.mean(held) < 0.99
    assert quotient_interval([([3.0], [2.0])]) == (1.5, 1.5)
