"""A backend: LiteRT in its own kernels, without the XNNPACK delegate. On one machine, another platform."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Any, final

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from typing_extensions import override

from leti.core.errors import InvalidInput, MeasurementFailed
from leti.device_agents.backend import Backend, Session
from leti.device_agents.desktop.litert import LITERT_ERRORS, random_input


@final
class BuiltinKernelsBackend(Backend):
    """LiteRT's interpreter with ``threads`` threads and no delegate."""

    def __init__(self, *, threads: int = 1) -> None:
        if threads < 1:
            raise InvalidInput(f"must be 1 or more, not {threads}", field="threads")
        self.runtime = "litert"
        self.runtime_version = version("ai-edge-litert")
        self.delegate = "none"
        self.threads = threads

    @override
    def load(self, model: bytes) -> Session:
        try:
            return BuiltinKernelsSession(model, self.threads)
        except LITERT_ERRORS as error:
            raise MeasurementFailed(f"LiteRT cannot run it: {error}", field="model", failure="bad-model") from error


@final
class BuiltinKernelsSession(Session):
    """One interpreter with its inputs set."""

    def __init__(self, model: bytes, threads: int) -> None:
        start_ns = time.perf_counter_ns()
        resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        self._interpreter: Any = Interpreter(
            model_content=model, num_threads=threads, experimental_op_resolver_type=resolver
        )
        self._interpreter.allocate_tensors()
        self.init_ms = (time.perf_counter_ns() - start_ns) / 1e6
        chance = np.random.default_rng(0)
        for tensor in self._interpreter.get_input_details():
            shape = tuple(int(size) for size in tensor["shape"])
            self._interpreter.set_tensor(tensor["index"], random_input(shape, np.dtype(tensor["dtype"]), chance))
        start_ns = time.perf_counter_ns()
        self._interpreter.invoke()
        self.first_inference_ms = (time.perf_counter_ns() - start_ns) / 1e6

    @override
    def invoke(self) -> None:
        if self._interpreter is None:
            raise MeasurementFailed("the session is closed", failure="crashed")
        try:
            self._interpreter.invoke()
        except LITERT_ERRORS as error:
            raise MeasurementFailed(f"LiteRT stopped: {error}", failure="crashed") from error

    @override
    def close(self) -> None:
        self._interpreter = None
