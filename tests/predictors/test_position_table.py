"""Tables of latencies by position: what is a sum is found to be one."""

import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs the extra `boosting`")

from leti.core.errors import InvalidInput
from leti.predictors.position_table import fit_positions

COUNTS = (3, 2, 4)
COSTS = ((0.0, 0.5, 2.0), (1.0, 0.25), (0.0, 0.0, 3.0, 0.75))
CONSTANT = 1.5


def drawn(count, seed=0):
    rng = np.random.default_rng(seed)
    choices = np.column_stack([rng.integers(0, options, count) for options in COUNTS])
    latencies = CONSTANT + sum(np.asarray(of)[choices[:, place]] for place, of in enumerate(COSTS))
    return choices, latencies


def fitted(choices, latencies):
    return fit_positions(choices, COUNTS, latencies, [str(row) for row in choices], seed=0)


def test_what_is_a_sum_is_found():
    table = fitted(*drawn(200))
    choices, latencies = drawn(50, seed=1)
    assert table.sums_ms(choices) == pytest.approx(latencies, rel=1e-3)
    for found, costs in zip(table.options_ms, COSTS, strict=True):
        assert found == pytest.approx(np.asarray(costs) - min(costs), abs=5e-3)
        assert found.min() == 0.0  # the cheapest of each place
    assert table.constant_ms == pytest.approx(CONSTANT + sum(map(min, COSTS)), abs=5e-3)


def test_an_option_that_no_network_had_has_no_entry():
    choices, latencies = drawn(200)
    kept = choices[:, 2] != 2
    table = fitted(choices[kept], latencies[kept])
    assert np.isnan(table.options_ms[2]).tolist() == [False, False, True, False]
    assert np.isnan(table.sums_ms(np.array([[0, 0, 2], [0, 0, 1]]))).tolist() == [True, False]


def test_strays_do_not_bend_the_table():
    choices, latencies = drawn(200)
    latencies[:6] *= 3
    table = fitted(choices, latencies)
    assert table.sums_ms(choices[6:]) == pytest.approx(latencies[6:], rel=0.01)


def test_shapes_that_do_not_fit_are_refused():
    choices, latencies = drawn(10)
    with pytest.raises(InvalidInput, match="choices"):
        fit_positions(choices[:, :2], COUNTS, latencies, ["a"] * 10, seed=0)
    with pytest.raises(InvalidInput, match="choices"):
        fit_positions(choices[:0], COUNTS, latencies[:0], [], seed=0)
