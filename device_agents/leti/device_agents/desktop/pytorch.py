"""PyTorch, operator by operator, as networks run in it unless they are compiled: on the processor, or by CUDA.

Compiling (``torch.compile``) takes tens of seconds a network, longer than measuring it: it is not offered. On CUDA,
float32 stays float32: TF32, which PyTorch allows convolutions, is turned off, and each run waits for the device.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final, final

from typing_extensions import override

from leti.core.device import Precision
from leti.core.errors import MeasurementFailed
from leti.core.extras import needs
from leti.core.measurement import OperatorTime
from leti.device_agents.backend import Backend, Offer, Session
from leti.device_agents.desktop.inputs import random_inputs
from leti.device_agents.desktop.pt2 import read_program
from leti.device_agents.desktop.sessions import closed, first_line, timed_ms
from leti.device_agents.offers import choose

with needs("pytorch"):
    import torch
    from numpy.typing import NDArray
    from torch import fx

PYTORCH_ERRORS: Final = (RuntimeError, ValueError, TypeError, LookupError, AssertionError, MemoryError)
"""What PyTorch's operators raise; ``NotImplementedError`` and CUDA's errors are ``RuntimeError`` as well."""

_FAILURES: Final[Mapping[str, tuple[str, ...]]] = {
    "out-of-memory": ("can't allocate memory", "out of memory", "bad_alloc"),
    "unsupported": ("not implemented for", "Could not run", "not supported"),
}
"""Kinds of failure by what PyTorch says; all else is a bad model."""

_WARM_UP: Final = 3


@final
class PyTorchBackend(Backend):
    """PyTorch's own operators with ``threads`` threads, which are the process's: the last one loaded says how many."""

    model_format = "pt2"

    @classmethod
    @override
    def offers(cls) -> tuple[Offer, ...]:
        missing = "" if torch.cuda.is_available() else "PyTorch finds no CUDA here"
        return (Offer("cpu"), Offer("cuda", reason=missing))

    def __init__(self, *, delegate: str = "", threads: int = 1, precision: Precision = "fp32") -> None:
        self.delegate = choose(self.offers(), delegate=delegate, threads=threads, precision=precision).delegate
        self.runtime = "pytorch"
        self.runtime_version = str(torch.__version__)
        self.threads = threads
        self.precision = precision

    @override
    def load(self, model: bytes) -> Session:
        return self._session(model)

    @override
    def profile(self, model: bytes, *, runs: int = 10) -> tuple[OperatorTime, ...]:
        """Return the times of the operators that a program calls.

        On the processor each has ended when its call returns, so that a clock tells as much as PyTorch's profiler, and
        disturbs less.
        """
        if self.delegate != "cpu":
            return ()  # handing over to the device is what would be timed
        session = self._session(model)
        for _ in range(_WARM_UP):
            session.invoke()
        timed = [session.times() for _ in range(runs)]
        session.close()
        return tuple(
            OperatorTime(name, "builtin", tuple(each[i][1] for each in timed)) for i, (name, _) in enumerate(timed[0])
        )

    def _session(self, model: bytes) -> PyTorchSession:
        torch.set_num_threads(self.threads)
        if self.delegate == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = False
            torch.backends.cudnn.allow_tf32 = False
        try:
            return PyTorchSession(model, self.delegate)
        except PYTORCH_ERRORS as error:
            said = f"{type(error).__name__}: {error}"
            failures = (kind for kind, sayings in _FAILURES.items() if any(saying in said for saying in sayings))
            raise MeasurementFailed(
                f"PyTorch cannot run the model: {first_line(error)}",
                field="model",
                failure=next(failures, "bad-model"),
            ) from error


@final
class PyTorchSession(Session):
    """One network with its inputs on its device. Inputs stay as they are from run to run."""

    def __init__(self, model: bytes, device: str) -> None:
        program, self.init_ms = timed_ms(lambda: read_program(model, device))
        self._module: Any = program.module
        self._waits = device == "cuda"
        self._outputs: tuple[torch.Tensor, ...] = ()
        with torch.inference_mode():
            self._inputs = [torch.from_numpy(values).to(device) for values in random_inputs(program.inputs)]
        _, self.first_inference_ms = timed_ms(self._run)

    def _run(self) -> None:
        with torch.inference_mode():
            self._outputs = self._module(*self._inputs)
        if self._waits:
            torch.cuda.synchronize()

    @override
    def invoke(self) -> None:
        if self._module is None:
            raise closed()
        try:
            self._run()
        except PYTORCH_ERRORS as error:
            raise MeasurementFailed(f"PyTorch stopped: {first_line(error)}", failure="crashed") from error

    @override
    def close(self) -> None:
        self._module = None
        self._inputs = []
        self._outputs = ()

    def times(self) -> list[tuple[str, float]]:
        """Run once; return name and microseconds of every operator that is called, in order."""
        stopwatch = _Stopwatch(self._module)
        with torch.inference_mode():
            stopwatch.run(*self._inputs)
        return stopwatch.times

    def outputs(self) -> tuple[NDArray[Any], ...]:
        """Return a copy of each output of the last run."""
        return tuple(output.cpu().numpy().copy() for output in self._outputs)


@final
class _Stopwatch(fx.Interpreter):
    """Runs a program call by call, and keeps the operator and the microseconds of each."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.times: list[tuple[str, float]] = []

    @override
    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        start_ns = time.perf_counter_ns()
        made = target(*args, **kwargs)
        spent_ns = time.perf_counter_ns() - start_ns
        if isinstance(target, torch._ops.OpOverload):  # the others take one of several tensors
            self.times.append((target._schema.name, spent_ns / 1e3))
        return made
