"""LiteRT (formerly TensorFlow Lite) on the processor, through its XNNPACK delegate or in its own kernels.

Files of every precision run with both. What XNNPACK does not take (pooling and ReLU in int8, say) runs in LiteRT's own
kernels there too. XNNPACK computes float32 networks in float16 where it is told to, which LiteRT's interpreter cannot
and its newer interface can (:mod:`leti.device_agents.desktop.litert_half`); processors without such arithmetic convert
back and forth and are slower for it.
"""

from __future__ import annotations

import logging
from importlib import metadata
from typing import Any, Final, final

from typing_extensions import override

from leti.core.device import Precision
from leti.core.errors import MeasurementFailed, VersionMismatch
from leti.core.extras import needs
from leti.core.measurement import OperatorTime
from leti.device_agents.backend import Backend, Offer, Session
from leti.device_agents.desktop.inputs import random_inputs
from leti.device_agents.desktop.litert_refusals import LITERT_ERRORS, refusal
from leti.device_agents.desktop.sessions import closed, first_line, timed_ms
from leti.device_agents.offers import choose

with needs("agent"):
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter, OpResolverType
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

RESOLVERS: Final[dict[str, Any]] = {
    "xnnpack": OpResolverType.AUTO,
    "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
}
"""Where each delegate's operators come from."""


@final
class LiteRTBackend(Backend):
    """LiteRT with ``threads`` threads."""

    model_format = "tflite"

    @classmethod
    @override
    def offers(cls) -> tuple[Offer, ...]:
        return (Offer("xnnpack", ("fp32", "fp16")), Offer("builtin"))

    def __init__(self, *, delegate: str = "", threads: int = 1, precision: Precision = "fp32") -> None:
        self.delegate = choose(self.offers(), delegate=delegate, threads=threads, precision=precision).delegate
        self.runtime = "litert"
        self.runtime_version = metadata.version("ai-edge-litert")
        self.threads = threads
        self.precision = precision

    @override
    def load(self, model: bytes) -> Session:
        try:
            if self.precision == "fp16":
                from leti.device_agents.desktop.litert_half import HalfSession

                return HalfSession(model, threads=self.threads)
            return LiteRTSession(model, RESOLVERS[self.delegate], threads=self.threads)
        except LITERT_ERRORS as error:
            raise refusal(error) from error

    @override
    def profile(self, model: bytes, *, runs: int = 10) -> tuple[OperatorTime, ...]:
        from leti.device_agents.desktop.litert_profile import profile

        try:
            return profile(model, delegate=self.delegate, precision=self.precision, threads=self.threads, runs=runs)
        except VersionMismatch as mismatch:
            log.warning("operators are not timed: %s", mismatch)
            return ()


@final
class LiteRTSession(Session):
    """One interpreter with its inputs set. Inputs stay as they are from run to run."""

    def __init__(self, model: bytes, resolver: Any, *, threads: int) -> None:
        if not model:
            raise ValueError("the file is empty")
        self._interpreter: Any
        self._interpreter, self.init_ms = timed_ms(lambda: _prepared(model, resolver, threads))
        details = self._interpreter.get_input_details()
        inputs = random_inputs((tuple(map(int, t["shape"])), np.dtype(t["dtype"]).name) for t in details)
        for tensor, values in zip(details, inputs, strict=True):
            self._interpreter.set_tensor(tensor["index"], values)
        _, self.first_inference_ms = timed_ms(self._interpreter.invoke)

    @override
    def invoke(self) -> None:
        if self._interpreter is None:
            raise closed()
        try:
            self._interpreter.invoke()
        except LITERT_ERRORS as error:
            raise MeasurementFailed(f"LiteRT stopped: {first_line(error)}", failure="crashed") from error

    @override
    def close(self) -> None:
        self._interpreter = None

    def outputs(self) -> tuple[NDArray[Any], ...]:
        """Return a copy of each output of the last run."""
        details = self._interpreter.get_output_details()
        return tuple(self._interpreter.get_tensor(tensor["index"]) for tensor in details)


def _prepared(model: bytes, resolver: Any, threads: int) -> Any:
    interpreter = Interpreter(model_content=model, num_threads=threads, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    return interpreter
