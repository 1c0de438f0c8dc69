"""What the generator's tests share."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from leti.core.spec import NetworkConfig


@pytest.fixture(scope="session")
def small() -> NetworkConfig:
    """One cell a stack: the same operators as the full network, sooner."""
    return NetworkConfig(modules_per_stack=1)


@pytest.fixture(scope="session")
def run_model() -> Callable[..., np.ndarray]:
    """Run a model file in LiteRT on an input drawn by seed; return its output."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")

    def run(data: bytes, seed: int = 0) -> np.ndarray:
        model = interpreter.Interpreter(model_content=data, num_threads=1)
        model.allocate_tensors()
        (given,), (made,) = model.get_input_details(), model.get_output_details()
        values = np.random.default_rng(seed).standard_normal(given["shape"], dtype=np.float32)
        model.set_tensor(given["index"], values)
        model.invoke()
        return model.get_tensor(made["index"])

    return run


@pytest.fixture(scope="session")
def converter() -> ModuleType:
    """Both spaces in TensorFlow, converted by its converter: ``converter_reference.py``, which imports tensorflow."""
    _skip_without_tensorflow()
    import converter_reference

    return converter_reference


@pytest.fixture(scope="session")
def converter_blocks() -> ModuleType:
    """Networks like those that people have, in TensorFlow: ``converter_blocks.py``."""
    _skip_without_tensorflow()
    import converter_blocks

    return converter_blocks


def _skip_without_tensorflow() -> None:
    if importlib.util.find_spec("tensorflow") is None:  # which warns when it is imported
        pytest.skip("tensorflow, the reference of the TFLite writer, is not installed")
