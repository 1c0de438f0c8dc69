"""ONNX Runtime: its own processor kernels, CUDA, and TensorRT, each of them an *execution provider*.

Threads do not spin between operators: on a machine that does other work too, spinning threads cost more than they give.
Inputs are bound to memory of the provider, so that a run copies nothing and ends when the provider has ended. On CUDA
and TensorRT a network must run there as a whole: where operators fall back to the processor, it is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, final

from typing_extensions import override

from leti.core.device import Precision
from leti.core.errors import MeasurementFailed
from leti.core.extras import needs
from leti.core.measurement import OperatorTime
from leti.device_agents.backend import Backend, Offer, Session
from leti.device_agents.desktop.inputs import random_inputs
from leti.device_agents.desktop.sessions import closed, first_line, timed_ms
from leti.device_agents.offers import choose

with needs("onnxruntime"):
    import onnxruntime
    from numpy.typing import NDArray
    from onnxruntime.capi import onnxruntime_pybind11_state as states


@dataclass(frozen=True, slots=True)
class Provider:
    """An execution provider: its name, the memory that it computes in, and its options by precision."""

    name: str
    memory: str
    options: Mapping[Precision, Mapping[str, str]]


PROVIDERS: Final[Mapping[str, Provider]] = {
    "cpu": Provider("CPUExecutionProvider", "cpu", {"fp32": {}}),
    # TF32 has 10 bits of mantissa: what computes in it is not float32. TensorRT asks the environment alone
    # (NVIDIA_TF32_OVERRIDE=0).
    "cuda": Provider("CUDAExecutionProvider", "cuda", {"fp32": {"use_tf32": "0"}}),
    "tensorrt": Provider("TensorrtExecutionProvider", "cuda", {"fp32": {}, "fp16": {"trt_fp16_enable": "1"}}),
}

ELEMENT_TYPES: Final[Mapping[str, str]] = {
    **{f"tensor({name})": name for name in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")},
    **{"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64", "tensor(bool)": "bool"},
}
"""The types of inputs that can be drawn, as numpy calls them."""

ONNXRUNTIME_ERRORS: Final[tuple[type[Exception], ...]] = (
    *(error for error in vars(states).values() if isinstance(error, type) and issubclass(error, Exception)),
    ValueError,
    RuntimeError,
    TypeError,
)
"""What ONNX Runtime raises: a class for each of its states, without a root of their own."""

_FAILURES: Final[Mapping[str, tuple[str, ...]]] = {
    "partial-delegation": ("fallback to CPU EP has been explicitly disabled",),
    "unsupported": ("NOT_IMPLEMENTED", "is not a registered function/op", "No Op registered for"),
    "out-of-memory": ("Failed to allocate memory",),
}
"""Kinds of failure by what ONNX Runtime says; all else is a bad model."""

_WARM_UP: Final = 3


@final
class OnnxRuntimeBackend(Backend):
    """ONNX Runtime with ``threads`` threads inside an operator, and operators one after another."""

    model_format = "onnx"

    @classmethod
    @override
    def offers(cls) -> tuple[Offer, ...]:
        here = onnxruntime.get_available_providers()
        return tuple(
            Offer(delegate, tuple(each.options), "" if each.name in here else f"this ONNX Runtime lacks {each.name}")
            for delegate, each in PROVIDERS.items()
        )

    def __init__(self, *, delegate: str = "", threads: int = 1, precision: Precision = "fp32") -> None:
        self.delegate = choose(self.offers(), delegate=delegate, threads=threads, precision=precision).delegate
        self.runtime = "onnxruntime"
        self.runtime_version = str(onnxruntime.__version__)
        self.threads = threads
        self.precision = precision
        onnxruntime.disable_telemetry_events()

    @override
    def load(self, model: bytes) -> Session:
        try:
            return OnnxRuntimeSession(model, PROVIDERS[self.delegate], self.precision, self._options())
        except ONNXRUNTIME_ERRORS as error:
            raise _refusal(error) from error

    @override
    def profile(self, model: bytes, *, runs: int = 10) -> tuple[OperatorTime, ...]:
        if self.delegate != "cpu":
            return ()  # of other providers it times how long handing over takes
        with TemporaryDirectory(prefix="leti-") as folder:
            options = self._options()
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder, "trace"))
            try:
                session = OnnxRuntimeSession(model, PROVIDERS[self.delegate], self.precision, options)
            except ONNXRUNTIME_ERRORS as error:
                raise _refusal(error) from error
            for _ in range(_WARM_UP + runs):
                session.invoke()
            trace = session.end_profiling().read_bytes()
        return operator_times(trace, runs)

    def _options(self) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 4  # what goes wrong is raised as well
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if self.delegate != "cpu":
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        return options


@final
class OnnxRuntimeSession(Session):
    """One inference session with its inputs and outputs bound. Inputs stay as they are from run to run."""

    def __init__(self, model: bytes, provider: Provider, precision: Precision, options: Any) -> None:
        providers = [(provider.name, dict(provider.options[precision]))]
        self._session: Any
        self._session, self.init_ms = timed_ms(
            lambda: onnxruntime.InferenceSession(model, options, providers=providers)
        )
        self._session.disable_fallback()
        if provider.name not in self._session.get_providers():
            raise MeasurementFailed(f"{provider.name} could not be started", field="model", failure="other")
        self._binding: Any = self._session.io_binding()
        inputs = self._session.get_inputs()
        for each, values in zip(inputs, random_inputs(map(_type, inputs)), strict=True):
            self._binding.bind_ortvalue_input(
                each.name, onnxruntime.OrtValue.ortvalue_from_numpy(values, provider.memory, 0)
            )
        for each in self._session.get_outputs():
            self._binding.bind_output(each.name, provider.memory)
        _, self.first_inference_ms = timed_ms(self._run)

    def _run(self) -> None:
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()

    @override
    def invoke(self) -> None:
        if self._session is None:
            raise closed()
        try:
            self._run()
        except ONNXRUNTIME_ERRORS as error:
            raise MeasurementFailed(f"ONNX Runtime stopped: {first_line(error)}", failure="crashed") from error

    @override
    def close(self) -> None:
        self._session = self._binding = None

    def outputs(self) -> tuple[NDArray[Any], ...]:
        """Return a copy of each output of the last run."""
        return tuple(self._binding.copy_outputs_to_cpu())

    def end_profiling(self) -> Path:
        """End a session whose options enable profiling; return its trace."""
        trace = Path(self._session.end_profiling())
        self.close()
        return trace


def operator_times(trace: bytes, runs: int) -> tuple[OperatorTime, ...]:
    """Return the operators of a trace (JSON, in Chrome's format) with their times in its last ``runs`` runs.

    Raises :class:`~leti.core.errors.MeasurementFailed` where its runs are not all of the same operators.
    """
    done: list[list[tuple[str, str, float]]] = []
    running: list[tuple[str, str, float]] = []
    for event in json.loads(trace):
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            running.append((event["args"]["op_name"], _unit(event["args"]["provider"]), float(event["dur"])))
        elif event["name"] == "model_run":
            done.append(running)
            running = []
    last = done[-runs:]
    if len({tuple(operator[:2] for operator in each) for each in last}) != 1:
        message = "ONNX Runtime ran other operators from run to run"
        raise MeasurementFailed(message, field="model", failure="other")
    return tuple(
        OperatorTime(name, unit, tuple(each[i][2] for each in last)) for i, (name, unit, _) in enumerate(last[0])
    )


def _unit(provider: str) -> str:
    """Return what we call an execution provider."""
    return next((delegate for delegate, each in PROVIDERS.items() if each.name == provider), provider)


def _type(each: Any) -> tuple[tuple[int, ...], str]:
    """Return shape and numpy's data type of an input."""
    if each.type not in ELEMENT_TYPES or not all(isinstance(size, int) for size in each.shape):
        raise MeasurementFailed(
            f"input {each.name[:80]!r} of {each.type}, {each.shape}, cannot be drawn: its shape must be numbers",
            field="model",
            failure="unsupported",
        )
    return tuple(each.shape), ELEMENT_TYPES[each.type]


def _refusal(error: Exception) -> MeasurementFailed:
    """Return the error of LETI's for what ONNX Runtime raised on loading a model or running it for the first time."""
    said = str(error)
    failures = (kind for kind, sayings in _FAILURES.items() if any(saying in said for saying in sayings))
    return MeasurementFailed(
        f"ONNX Runtime cannot load or run the model: {first_line(error)}",
        field="model",
        failure=next(failures, "bad-model"),
    )
