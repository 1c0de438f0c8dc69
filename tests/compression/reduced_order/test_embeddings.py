"""Bases found in a stream: how much they capture, what they say they lose, and what they keep in memory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="the extra `compression` is not installed")

from leti.compression.reduced_order.embeddings import SKETCHES, FrequentDirections, SketchKind, sketch_for
from leti.core.errors import InvalidInput
from leti.generator.weights import Array


def decaying(samples: int, size: int, seed: int, decay: float = 0.8) -> Array:
    rng = np.random.default_rng(seed)
    count = min(samples, size)
    left = np.linalg.qr(rng.standard_normal((samples, count)))[0]
    right = np.linalg.qr(rng.standard_normal((size, count)))[0]
    return np.asarray(left * decay ** np.arange(count) @ right.T)


def lost(rows: Array, basis: Array) -> float:
    return float(np.sum((rows - rows @ basis @ basis.T) ** 2))


@pytest.mark.parametrize("kind", SKETCHES)
@given(
    samples=st.integers(1, 60),
    size=st.integers(1, 40),
    rank=st.integers(1, 12),
    chunk=st.integers(1, 25),
    seed=st.integers(0, 99),
)
def test_a_basis_is_orthonormal_and_its_tail_is_never_understated(
    kind: SketchKind, samples: int, size: int, rank: int, chunk: int, seed: int
) -> None:
    rows = decaying(samples, size, seed)
    sketch = sketch_for(size, rank, kind)
    for start in range(0, samples, chunk):
        sketch.add(rows[start : start + chunk])
    found = sketch.embedding()
    np.testing.assert_allclose(found.basis.T @ found.basis, np.eye(found.rank), atol=1e-9)
    assert found.rank <= min(rank, size, samples)
    assert lost(rows, found.basis) <= found.tail_energy + 1e-9
    best = float(np.sum(np.linalg.svd(rows, compute_uv=False)[rank:] ** 2))
    assert lost(rows, found.basis) <= 3 * best + 1e-9
    if kind == "truncated":
        assert found.tail_energy == pytest.approx(best, abs=1e-9)


def test_frequent_directions_keep_their_guarantee() -> None:
    rows = np.random.default_rng(0).standard_normal((500, 30)) @ np.diag(0.9 ** np.arange(30))
    sketch = FrequentDirections(30, 6)
    for chunk in np.array_split(rows, 9):
        sketch.add(chunk)
    found = sketch.embedding()
    singular = np.linalg.svd(rows, compute_uv=False)
    kept = sketch.length
    for k in range(kept):  # along each direction found, for every k at once
        missing = np.sum((rows @ found.basis) ** 2, axis=0) - found.captured
        assert (missing >= -1e-8).all()
        assert missing.max() <= np.sum(singular[k:] ** 2) / (kept - k) + 1e-8


def test_a_tail_decides_the_rank() -> None:
    rows = decaying(50, 30, 1, decay=0.5)
    sketch = sketch_for(30, 30, "truncated")
    sketch.add(rows)
    found = sketch.embedding().cut(1e-3)
    assert found.tail_energy <= 1e-3 * found.energy < found.tail_energy + found.captured[-1]


def test_rows_of_zeros_have_a_basis_too() -> None:
    for kind in SKETCHES:
        sketch = sketch_for(5, 3, kind)
        sketch.add(np.zeros((4, 5)))
        assert sketch.embedding().basis.shape == (5, 1)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidInput, match="rows of 5"):
        sketch_for(5, 2).add(np.zeros((3, 4)))
    with pytest.raises(InvalidInput, match="finite"):
        sketch_for(2, 2).add(np.array([[np.nan, 0.0]]))
    with pytest.raises(InvalidInput, match="no sketch"):
        sketch_for(5, 2, "other")  # type: ignore[arg-type]
