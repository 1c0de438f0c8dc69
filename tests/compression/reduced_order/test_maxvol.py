"""Selected rows: their coefficients are bounded, and they are those that teneva selects."""

import numpy as np
import pytest
import teneva
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="the extra `compression` is not installed")

from leti.compression.reduced_order.maxvol import maxvol, rectangular_maxvol
from leti.core.errors import InvalidInput
from leti.generator.weights import Array


def random_matrix(rows: int, columns: int, seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal((rows, columns))


sizes = {"columns": st.integers(1, 12), "more": st.integers(1, 60), "seed": st.integers(0, 9999)}


@given(**sizes)
def test_no_coefficient_is_over_the_tolerance(columns: int, more: int, seed: int) -> None:
    matrix = random_matrix(columns + more, columns, seed)
    found = maxvol(matrix, 1.02)
    assert len(set(found.rows)) == columns
    np.testing.assert_allclose(found.coefficients, matrix @ np.linalg.inv(matrix[found.rows]), atol=1e-6)
    assert np.abs(found.coefficients).max() <= 1.02
    expected, _ = teneva.maxvol(matrix, e=1.02, k=1000)
    assert sorted(found.rows) == sorted(expected)


@given(**sizes, extra=st.integers(0, 10))
def test_more_rows_make_coefficients_smaller(columns: int, more: int, seed: int, extra: int) -> None:
    matrix = random_matrix(columns + more, columns, seed)
    found = rectangular_maxvol(matrix, columns + extra)
    chosen = matrix[found.rows]
    assert len(set(found.rows)) == len(found.rows) <= columns + extra
    np.testing.assert_allclose(found.coefficients, matrix @ np.linalg.pinv(chosen), atol=1e-6)
    square = maxvol(matrix)
    assert np.linalg.norm(found.coefficients, 2) <= np.linalg.norm(square.coefficients, 2) + 1e-9
    if len(found.rows) < min(columns + extra, len(matrix)):
        others = np.delete(found.coefficients, found.rows, axis=0)
        assert np.linalg.norm(others, axis=1).max(initial=0) <= 1 + 1e-9
    expected, _ = teneva.maxvol_rect(matrix, e=1.0, dr_min=0, dr_max=min(extra, more), e0=1.05, k0=1000)
    assert sorted(found.rows) == sorted(expected)


def test_what_has_no_such_rows_is_refused() -> None:
    with pytest.raises(InvalidInput, match="column rank"):
        maxvol(np.ones((5, 2)))
    with pytest.raises(InvalidInput, match="as many rows"):
        maxvol(np.ones((2, 5)))
    with pytest.raises(InvalidInput, match="at least the 3"):
        rectangular_maxvol(random_matrix(9, 3, 0), 2)
    with pytest.raises(InvalidInput, match="finite"):
        maxvol(np.full((3, 1), np.nan))
