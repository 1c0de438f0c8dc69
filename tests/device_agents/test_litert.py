"""What is special about LiteRT."""

import numpy as np
import pytest

from leti.core.errors import InvalidInput, MeasurementFailed

pytest.importorskip("psutil", reason="the agent extra is not installed")
pytest.importorskip("ai_edge_litert", reason="the agent extra is not installed")
litert = pytest.importorskip("leti.device_agents.desktop.litert", reason="the agent extra is not installed")

from leti.device_agents.desktop.inputs import random_input


def test_the_network_really_runs(models: dict[str, bytes]) -> None:
    session = litert.LiteRTBackend().load(models["large"])
    (logits,) = session.outputs()
    assert logits.shape[0] == 1
    assert np.isfinite(logits).all()
    assert logits.std() > 0


def test_inputs_stay_what_they_were(models: dict[str, bytes]) -> None:
    session = litert.LiteRTBackend().load(models["large"])
    first = session.outputs()[0].copy()
    for _ in range(5):
        session.invoke()
    np.testing.assert_array_equal(session.outputs()[0], first)


def test_xnnpack_takes_the_network(models: dict[str, bytes]) -> None:
    """The platform says "xnnpack": then the operators must have gone there, all into one partition."""
    session = litert.LiteRTBackend().load(models["large"])
    names = [op["op_name"] for op in session._interpreter._get_ops_details()]
    assert names.count("DELEGATE") == 1


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8", "int32", "int64"])
@pytest.mark.parametrize("shape", [(1, 8, 8, 3), (4,), ()])
def test_random_inputs_fill_exactly_their_tensor(dtype: str, shape: tuple[int, ...]) -> None:
    values = random_input(shape, np.dtype(dtype), np.random.default_rng(0))
    assert values.dtype == np.dtype(dtype)
    assert values.shape == shape
    assert values.nbytes == int(np.prod(shape)) * np.dtype(dtype).itemsize
    assert np.isfinite(values).all()


def test_unknown_input_types_are_refused() -> None:
    with pytest.raises(MeasurementFailed, match="not known"):
        random_input((1,), np.dtype("U3"), np.random.default_rng(0))


def test_no_threads_is_refused() -> None:
    with pytest.raises(InvalidInput):
        litert.LiteRTBackend(threads=0)


def test_the_error_is_one_line() -> None:
    with pytest.raises(MeasurementFailed) as caught:
        litert.LiteRTBackend().load(b"x" * 100)
    assert "\n" not in str(caught.value)
