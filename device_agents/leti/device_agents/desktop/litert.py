"""LiteRT (formerly TensorFlow Lite) on the processor, through its XNNPACK delegate."""

from __future__ import annotations

import math
import time
from importlib import metadata
from typing import Any, Final, final

from typing_extensions import override

from leti.core.device import Precision
from leti.core.errors import InvalidInput, MeasurementFailed
from leti.core.extras import needs
from leti.device_agents.backend import Backend, Offer, Session

with needs("agent"):
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter
    from numpy.typing import NDArray

LITERT_ERRORS: Final = (ValueError, RuntimeError, TypeError)
"""What LiteRT's interpreter raises: ``ValueError`` for files that are no models, ``RuntimeError`` for the rest."""


@final
class LiteRTBackend(Backend):
    """LiteRT's interpreter with ``threads`` threads; what XNNPACK does not take runs in LiteRT's own kernels."""

    model_format = "tflite"

    @classmethod
    @override
    def offers(cls) -> tuple[Offer, ...]:
        return (Offer("xnnpack"),)

    def __init__(self, *, delegate: str = "", threads: int = 1, precision: Precision = "fp32", seed: int = 0) -> None:
        if threads < 1:
            raise InvalidInput(f"must be 1 or more, not {threads}", field="threads")
        self.runtime = "litert"
        self.runtime_version = metadata.version("ai-edge-litert")
        self.delegate = "xnnpack"
        self.threads = threads
        self.precision = precision
        self._seed = seed

    @override
    def load(self, model: bytes) -> Session:
        try:
            return LiteRTSession(model, threads=self.threads, random=np.random.default_rng(self._seed))
        except LITERT_ERRORS as error:
            raise MeasurementFailed(
                f"LiteRT cannot load or run the model: {_first_line(error)}", field="model", failure="bad-model"
            ) from error


@final
class LiteRTSession(Session):
    """One interpreter with its inputs set. Inputs stay as they are from run to run."""

    def __init__(self, model: bytes, *, threads: int, random: np.random.Generator) -> None:
        if not model:
            raise ValueError("the file is empty")
        start_ns = time.perf_counter_ns()
        interpreter: Any = Interpreter(model_content=model, num_threads=threads)
        interpreter.allocate_tensors()
        self.init_ms = (time.perf_counter_ns() - start_ns) / 1e6
        for tensor in interpreter.get_input_details():
            shape = tuple(int(size) for size in tensor["shape"])
            interpreter.set_tensor(tensor["index"], random_input(shape, np.dtype(tensor["dtype"]), random))
        start_ns = time.perf_counter_ns()
        interpreter.invoke()
        self.first_inference_ms = (time.perf_counter_ns() - start_ns) / 1e6
        self._interpreter: Any = interpreter

    @override
    def invoke(self) -> None:
        try:
            self._interpreter.invoke()
        except (*LITERT_ERRORS, AttributeError) as error:
            raise MeasurementFailed(f"LiteRT stopped: {_first_line(error)}", failure="crashed") from error

    @override
    def close(self) -> None:
        self._interpreter = None

    def outputs(self) -> tuple[NDArray[Any], ...]:
        """Return a copy of each output of the last run."""
        details = self._interpreter.get_output_details()
        return tuple(self._interpreter.get_tensor(tensor["index"]) for tensor in details)


def random_input(shape: tuple[int, ...], dtype: np.dtype[Any], random: np.random.Generator) -> NDArray[Any]:
    """Return numbers of ``shape`` that are normal to compute with: in [0, 1) for floats, the whole range for bytes.

    Raises :class:`ValueError` for types that no image network takes.
    """
    if dtype.kind == "f":
        values = random.random(shape).astype(dtype)
    elif dtype.kind in "iu":
        limits = np.iinfo(dtype) if dtype.itemsize == 1 else np.iinfo(np.int8)
        values = random.integers(0 if dtype.kind == "u" else limits.min, limits.max, shape, endpoint=True).astype(dtype)
    else:
        raise ValueError(f"inputs of type {dtype} are not known")
    # An array whose buffer is not exactly this long would be read as garbage without a word.
    if values.nbytes != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"an input of {values.nbytes} bytes does not fit shape {shape} of {dtype}")
    return values


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
