"""LiteRT with XNNPACK forced to float16: by LiteRT's ``CompiledModel``, which hands flags on to the delegate.

The interpreter has no way to say so. Weights of a float32 file are converted once; inputs and outputs in each run.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, Final, final

from typing_extensions import override

from leti.core.errors import MeasurementFailed
from leti.core.extras import needs
from leti.device_agents.backend import Session
from leti.device_agents.desktop.inputs import TensorType, random_inputs
from leti.device_agents.desktop.litert_refusals import LITERT_ERRORS
from leti.device_agents.desktop.sessions import closed, first_line, timed_ms

with needs("agent"):
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.cpu_options import CpuOptions
    from ai_edge_litert.environment import Environment
    from ai_edge_litert.options import Options
    from numpy.typing import NDArray

HALF_FLAGS: Final = 0x1 | 0x2 | 0x4 | 0x8
"""XNNPACK's own defaults (signed and unsigned 8-bit, dynamic fully connected) and float16 (xnnpack_delegate.h)."""


@final
class HalfSession(Session):
    """One compiled model with its buffers. Inputs stay as they are from run to run."""

    def __init__(self, model: bytes, *, threads: int) -> None:
        environment = _environment()  # made with the first model, and no part of its initialisation
        self._model: Any
        self._model, self.init_ms = timed_ms(lambda: _compiled(model, threads, environment))
        signature = next(iter(self._model.get_signature_list()))
        self._outputs_types = _types(self._model.get_output_tensor_details(signature))
        self._inputs: Any = self._model.create_input_buffers(0)
        self._outputs: Any = self._model.create_output_buffers(0)
        drawn = random_inputs(_types(self._model.get_input_tensor_details(signature)))
        for buffer, values in zip(self._inputs, drawn, strict=True):
            buffer.write(values)
        _, self.first_inference_ms = timed_ms(lambda: self._model.run_by_index(0, self._inputs, self._outputs))

    @override
    def invoke(self) -> None:
        if self._model is None:
            raise closed()
        try:
            self._model.run_by_index(0, self._inputs, self._outputs)
        except LITERT_ERRORS as error:
            raise MeasurementFailed(f"LiteRT stopped: {first_line(error)}", failure="crashed") from error

    @override
    def close(self) -> None:
        if self._model is not None:
            for buffer in (*self._inputs, *self._outputs):
                buffer.destroy()
            self._model.close()
        self._model, self._inputs, self._outputs = None, (), ()

    def outputs(self) -> tuple[NDArray[Any], ...]:
        """Return a copy of each output of the last run."""
        return tuple(
            buffer.read(math.prod(shape), dtype).reshape(shape)
            for buffer, (shape, dtype) in zip(self._outputs, self._outputs_types, strict=True)
        )


@cache
def _environment() -> Any:
    """Return what the models of this process share."""
    return Environment.create()


def _compiled(model: bytes, threads: int, environment: Any) -> Any:
    options = Options(cpu_options=CpuOptions(num_threads=threads, xnnpack_flags=HALF_FLAGS))
    return CompiledModel.from_buffer(model, environment=environment, options=options)


def _types(details: dict[str, dict[str, Any]]) -> list[TensorType]:
    return [(tuple(map(int, tensor["shape"])), str(tensor["dtype"])) for tensor in details.values()]
