"""Decompositions of kernels: against tensorly, against the full kernel when compressed again, and when degenerate."""

from __future__ import annotations

import numpy as np
import pytest

tensorly = pytest.importorskip("tensorly", reason="the extra `dev` is not installed")

from hypothesis import given, settings
from hypothesis import strategies as st

from leti.compression.low_rank.decompositions import Tucker2, cp, decompose, svd, tucker2
from leti.compression.low_rank.polyadic import MAX_CANCELLATION, Polyadic, polyadic
from leti.compression.low_rank.tensors import orthonormal, relative_error
from leti.core.errors import InvalidInput


def kernel_of(*shape: int, seed: int = 0) -> np.ndarray:
    """A kernel whose singular values fall, as those of trained ones do."""
    rng = np.random.default_rng(seed)
    out, *_, channels = shape
    scales_out, scales_in = 0.9 ** np.arange(out), 0.9 ** np.arange(channels)
    core = rng.standard_normal(shape) * scales_out.reshape(-1, *(1 for _ in shape[1:])) * scales_in
    mixed = np.tensordot(np.linalg.qr(rng.standard_normal((out, out)))[0], core, axes=1)
    return (mixed @ np.linalg.qr(rng.standard_normal((channels, channels)))[0]).astype(np.float32)


def composed(weights: tuple[np.ndarray, ...]) -> np.ndarray:
    """What kernels of operators one after the other multiply to, written out with einsum."""
    if len(weights) == 2:
        return np.einsum("o...r,r...i->o...i", *weights)
    if len(weights) == 3:
        return np.einsum("oabr,rhws,sabi->ohwi", weights[2], weights[1], weights[0])
    return np.einsum("oabr,dhbr,eawr,rabi->ohwi", weights[3], weights[1], weights[2], weights[0])


@pytest.mark.parametrize("shape", [(24, 3, 3, 16), (16, 5, 1, 24), (8, 3, 3, 40)])
def test_tucker2_is_as_close_as_tensorlys_and_no_worse_than_truncation(shape):
    kernel = kernel_of(*shape)
    for ranks in [(4, 6), (8, 3), (shape[-1], shape[0])]:
        found = tucker2(kernel, ranks)
        core, (out_factor, in_factor) = tensorly.decomposition.partial_tucker(
            np.asarray(kernel, np.float64), rank=[ranks[1], ranks[0]], modes=[0, 3], init="svd", tol=1e-12
        )[0]
        theirs = tensorly.tenalg.multi_mode_dot(core, [out_factor, in_factor], modes=[0, 3])
        assert relative_error(kernel, found.kernel()) <= relative_error(kernel, theirs) + 1e-4
        np.testing.assert_allclose(composed(found.weights), found.kernel(), atol=1e-6)
    assert relative_error(kernel, found.kernel()) < 1e-6  # full ranks


@pytest.mark.parametrize("shape", [(24, 16), (16, 1, 1, 24)])
def test_an_svd_misses_what_the_singular_values_left_out_say(shape):
    kernel = kernel_of(*shape)
    values = np.linalg.svd(kernel.reshape(shape[0], -1), compute_uv=False)
    found = svd(kernel, (5,))
    assert np.linalg.norm(kernel - found.kernel()) == pytest.approx(np.linalg.norm(values[5:]), rel=1e-5)
    first, last = found.weights
    assert first.shape[0] == last.shape[-1] == 5
    np.testing.assert_allclose(composed((last, first)), found.kernel(), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(first), np.linalg.norm(last), rtol=1e-5)  # alike, for training


@pytest.mark.parametrize("merged", [False, True])
def test_cp_finds_planted_components_and_is_as_close_as_tensorlys(merged):
    rng = np.random.default_rng(3)
    planted = Polyadic(tuple(rng.standard_normal((size, 4)) for size in (12, 3, 3, 10)))
    assert relative_error(planted.tensor(), cp(planted.tensor(), (4,), merged=merged).kernel()) < 1e-4
    kernel = kernel_of(12, 3, 3, 10).astype(np.float64)
    tensor = kernel.reshape(12, 9, 10) if merged else kernel
    found = cp(kernel, (8,), merged=merged)
    theirs = tensorly.cp_to_tensor(
        tensorly.decomposition.parafac(tensor, 8, n_iter_max=200, init="random", random_state=0)
    )
    assert relative_error(kernel, found.kernel()) <= relative_error(tensor, theirs) + 0.02
    if not merged:
        np.testing.assert_allclose(composed(found.weights), found.kernel(), atol=1e-5)


def test_the_sensitivity_of_cp_is_the_error_that_noise_on_the_factors_makes():
    rng = np.random.default_rng(0)
    found = Polyadic(tuple(rng.standard_normal((size, 3)) for size in (6, 5, 4)))
    deviation, errors = 1e-3, []
    for _ in range(2000):
        moved = tuple(f + deviation * rng.standard_normal(f.shape) for f in found.factors)
        errors.append(((Polyadic(moved).tensor() - found.tensor()) ** 2).sum() / deviation**2)
    assert found.sensitivity == pytest.approx(np.mean(errors), rel=0.05)
    assert found.norm == pytest.approx(np.linalg.norm(found.tensor()))


def test_a_tensor_without_a_best_approximation_does_not_degenerate():
    rng = np.random.default_rng(1)
    a, b, c = (np.linalg.qr(rng.standard_normal((6, 2)))[0].T for _ in range(3))
    terms = [(a[0], b[0], c[1]), (a[0], b[1], c[0]), (a[1], b[0], c[0])]  # of rank 3; as close as one likes to rank 2
    tensor = sum(weight * np.einsum("i,j,k->ijk", *term) for weight, term in zip((1.0, 0.9, 0.8), terms, strict=True))
    norm = float(np.linalg.norm(tensor))
    theirs = tensorly.decomposition.parafac(tensor, 2, n_iter_max=3000, init="random", random_state=0, tol=0)
    free = Polyadic(tuple(f * (theirs.weights if i == 0 else 1) for i, f in enumerate(theirs.factors)))
    assert free.cancellation(norm) > MAX_CANCELLATION  # which is what happens without a guard
    found = polyadic(tensor, 2, passes=2000)
    assert found.ridge > 0
    assert found.cancellation(norm) <= MAX_CANCELLATION
    assert relative_error(tensor, found.tensor()) < 0.35
    assert found.sensitivity < free.sensitivity


@settings(max_examples=25)
@given(
    st.tuples(st.integers(4, 20), st.sampled_from([1, 3]), st.sampled_from([1, 3]), st.integers(4, 20)),
    st.data(),
)
def test_compressing_the_core_is_compressing_the_full_kernel(shape, data):
    kernel = kernel_of(*shape, seed=data.draw(st.integers(0, 99)))
    out, height, width, channels = shape
    is_matrix = height == width == 1
    sizes = (min(out, channels),) if is_matrix else (channels, out)
    before = tuple(data.draw(st.integers(2, size)) for size in sizes)
    after = tuple(data.draw(st.integers(1, rank)) for rank in before)
    if not is_matrix:  # what is more cannot be told from nothing
        after = (min(after[0], after[1] * height * width), min(after[1], after[0] * height * width))
    found = decompose(kernel, before)
    rng = np.random.default_rng(0)
    if isinstance(found, Tucker2):  # as after fine-tuning: no base is orthonormal
        tuned = Tucker2(*(f + 0.05 * rng.standard_normal(f.shape) for f in (found.first, found.middle, found.last)))
        np.testing.assert_allclose(np.linalg.norm(tuned.core()), np.linalg.norm(tuned.kernel()), rtol=1e-9)
        before_again, (again, error), full = tuned, tuned.again(after), tucker2(tuned.kernel(), after)
    else:
        before_again, (again, error), full = found, found.again(after), decompose(found.kernel(), after)
    assert again.ranks == after
    assert error == pytest.approx(relative_error(before_again.kernel(), again.kernel()), abs=1e-7)
    assert relative_error(full.kernel(), again.kernel()) < 1e-6


@pytest.mark.parametrize("merged", [False, True])
def test_compressing_cp_by_its_core_is_compressing_the_full_kernel(merged):
    found = cp(kernel_of(20, 3, 3, 30), (9,), merged=merged)
    assert found.core().shape == (9, 3, 3, 9)
    again, error = found.again((5,))
    assert again.ranks == (5,)
    start = found.found.largest(5)
    by_core = polyadic(found.core().reshape(9, *((9,) if merged else (3, 3)), 9), 5, start=_in_bases(found, start))
    full = polyadic(found.found.tensor(), 5, start=start)
    missed = relative_error(found.found.tensor(), full.tensor())
    assert relative_error(found.core().reshape(by_core.tensor().shape), by_core.tensor()) == pytest.approx(missed)
    assert error == pytest.approx(relative_error(found.kernel(), again.kernel()))
    assert error <= missed * 1.0001


def _in_bases(found, start):
    """Factors of the kernel as factors of its core."""
    last, *_, first = found.found.factors
    return (orthonormal(last)[0].T @ start[0], *start[1:-1], orthonormal(first)[0].T @ start[-1])


def test_bases_are_made_orthonormal_only_where_that_makes_them_smaller():
    wide, tall = np.ones((2, 5)), np.arange(10.0).reshape(5, 2)
    assert orthonormal(wide)[1] is wide
    q, r = orthonormal(tall)
    assert r.shape == (2, 2)
    np.testing.assert_allclose(q @ r, tall, atol=1e-12)


def test_ranks_that_a_kernel_cannot_have_are_refused():
    for kernel, ranks in [((4, 3, 3, 5), (6, 4)), ((4, 3, 3, 5), (0, 4)), ((4, 5), (5,)), ((4, 5), (1, 2))]:
        with pytest.raises(InvalidInput) as caught:
            decompose(kernel_of(*kernel), ranks)
        assert caught.value.field == "ranks"
    with pytest.raises(InvalidInput, match="no matrix"):
        svd(kernel_of(4, 3, 3, 5), (2,))
