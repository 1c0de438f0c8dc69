"""OpenVINO: TFLite files read by itself, on the processor and whatever other devices of its it finds.

Left alone, OpenVINO computes float32 networks in bfloat16 on processors that can: the precision is said outright, and
checked. One stream, no pinning (the process is pinned), and a cost model that takes no note of other cores. Importing
OpenVINO reports to its makers that it was imported; an agent that measures does not.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, final

from typing_extensions import override

from leti.core.device import Precision
from leti.core.errors import MeasurementFailed
from leti.core.extras import needs
from leti.core.measurement import OperatorTime
from leti.device_agents.backend import Backend, Offer, Session
from leti.device_agents.desktop.inputs import TensorType, random_inputs
from leti.device_agents.desktop.sessions import closed, first_line, timed_ms
from leti.device_agents.offers import choose


@contextmanager
def _silence() -> Iterator[None]:
    """Hide what OpenVINO reports by while it is imported; it has a stand-in for that."""
    reporter = sys.modules.pop("openvino_telemetry", None)
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # importing it fails
    try:
        yield
    finally:
        del sys.modules["openvino_telemetry"]
        if reporter is not None:
            sys.modules["openvino_telemetry"] = reporter


with needs("openvino"), _silence():
    import openvino
    from numpy.typing import NDArray
    from openvino import frontend as frontends

DEVICES: Final[Mapping[str, str]] = {"cpu": "CPU", "gpu": "GPU", "npu": "NPU"}
"""What OpenVINO calls each delegate."""

PRECISIONS: Final[Mapping[Precision, tuple[str, Any]]] = {
    "fp32": ("FP32", openvino.Type.f32),
    "bf16": ("BF16", openvino.Type.bf16),
    "fp16": ("FP16", openvino.Type.f16),
}
"""What a device must say that it can, and the hint that asks for it."""

OPENVINO_ERRORS: Final[tuple[type[Exception], ...]] = (
    RuntimeError,
    frontends.GeneralFailure,
    frontends.InitializationFailure,
    frontends.NotImplementedFailure,
    frontends.OpConversionFailure,
    frontends.OpValidationFailure,
)
"""What OpenVINO raises: its readers' classes have no root of their own."""

_IDENTIFIER: Final = b"TFL3"  # bytes 4 to 7 of every TFLite file
_WARM_UP: Final = 3


@cache
def _core() -> Any:
    """Return OpenVINO in this process: its plugins, loaded once."""
    return openvino.Core()


@final
class OpenVinoBackend(Backend):
    """OpenVINO with ``threads`` threads, in one stream."""

    model_format = "tflite"

    @classmethod
    @override
    def offers(cls) -> tuple[Offer, ...]:
        return tuple(_offer(delegate, device) for delegate, device in DEVICES.items())

    def __init__(self, *, delegate: str = "", threads: int = 1, precision: Precision = "fp32") -> None:
        self.delegate = choose(self.offers(), delegate=delegate, threads=threads, precision=precision).delegate
        self.runtime = "openvino"
        self.runtime_version = str(openvino.__version__).partition("-")[0]
        self.threads = threads
        self.precision = precision

    @override
    def load(self, model: bytes) -> Session:
        return OpenVinoSession(model, DEVICES[self.delegate], self.precision, self._options(profiled=False))

    @override
    def profile(self, model: bytes, *, runs: int = 10) -> tuple[OperatorTime, ...]:
        """Return the operators of the processor with one time each: the mean over the runs after warm-up, ±2 µs.

        OpenVINO counts in whole µs and tells the mean since the model was compiled; operators that never took 1 µs are
        like those that were fused into others, and are left out. Other devices count in another way: empty.
        """
        if self.delegate != "cpu":
            return ()
        session = OpenVinoSession(model, DEVICES[self.delegate], self.precision, self._options(profiled=True))
        for _ in range(_WARM_UP):
            session.invoke()
        begun = session.means_us()
        for _ in range(runs):
            session.invoke()
        ended = session.means_us()
        session.close()
        before = 1 + _WARM_UP  # the first run is the session's own
        return tuple(
            OperatorTime(name, self.delegate, (max(0.0, (mean_us * (before + runs) - first_us * before) / runs),))
            for (name, first_us), (_, mean_us) in zip(begun, ended, strict=True)
            if mean_us
        )

    def _options(self, *, profiled: bool) -> dict[str, Any]:
        options = {"INFERENCE_PRECISION_HINT": PRECISIONS[self.precision][1], "NUM_STREAMS": 1, "PERF_COUNT": profiled}
        if self.delegate == "cpu":
            options |= {"INFERENCE_NUM_THREADS": self.threads, "ENABLE_CPU_PINNING": False}
        return options


@final
class OpenVinoSession(Session):
    """One compiled model with its inputs set. Inputs stay as they are from run to run."""

    def __init__(self, model: bytes, device: str, precision: Precision, options: Mapping[str, Any]) -> None:
        self._model: Any
        self._model, self.init_ms = timed_ms(lambda: _compiled(model, device, options))
        computes_in = self._model.get_property("INFERENCE_PRECISION_HINT")
        if computes_in != PRECISIONS[precision][1]:
            message = f"OpenVINO computes in {computes_in.to_string()} where {precision} was asked for"
            raise MeasurementFailed(message, field="precision", failure="unsupported")
        self._request: Any = self._model.create_infer_request()
        inputs = random_inputs(map(_type, self._model.inputs))
        for port, values in zip(self._model.inputs, inputs, strict=True):
            self._request.set_tensor(port, openvino.Tensor(values))
        try:
            _, self.first_inference_ms = timed_ms(self._request.infer)
        except OPENVINO_ERRORS as error:
            raise _refusal(error, "unsupported") from error

    @override
    def invoke(self) -> None:
        if self._request is None:
            raise closed()
        try:
            self._request.infer()
        except OPENVINO_ERRORS as error:
            raise MeasurementFailed(f"OpenVINO stopped: {_reason(error)}", failure="crashed") from error

    @override
    def close(self) -> None:
        self._request = self._model = None

    def outputs(self) -> tuple[NDArray[Any], ...]:
        """Return a copy of each output of the last run."""
        return tuple(self._request.get_tensor(port).data.copy() for port in self._model.outputs)

    def means_us(self) -> list[tuple[str, float]]:
        """Return the name of every operator with its kernel, and its mean time over all runs so far."""
        told = self._request.get_profiling_info()
        return [(f"{each.node_type} ({each.exec_type})", each.real_time.total_seconds() * 1e6) for each in told]


def _offer(delegate: str, device: str) -> Offer:
    found = [name for name in _core().available_devices if name.partition(".")[0] == device]
    if not found:
        return Offer(delegate, ("fp32",), f"OpenVINO finds no {device} here")
    able = _core().get_property(device, "OPTIMIZATION_CAPABILITIES")
    return Offer(delegate, tuple(precision for precision, (word, _) in PRECISIONS.items() if word in able))


def _compiled(model: bytes, device: str, options: Mapping[str, Any]) -> Any:
    """Return a model file compiled for a device."""
    if model[4:8] != _IDENTIFIER:
        raise MeasurementFailed("it is no TFLite file", field="model", failure="bad-model")
    reader = frontends.FrontEndManager().load_by_framework("tflite")
    with TemporaryDirectory(prefix="leti-") as folder:
        file = Path(folder, "model.tflite")  # it reads TFLite from files alone
        file.write_bytes(model)
        try:
            read = reader.load(str(file))
        except OPENVINO_ERRORS as error:
            raise _refusal(error, "bad-model") from error
        try:
            return _core().compile_model(reader.convert(read), device, options)
        except OPENVINO_ERRORS as error:
            raise _refusal(error, "unsupported") from error


def _type(port: Any) -> TensorType:
    """Return shape and data type of an input."""
    if port.partial_shape.is_dynamic:
        message = f"the shape of input {port.any_name[:80]!r} is not fixed"
        raise MeasurementFailed(message, field="model", failure="unsupported")
    return tuple(port.shape), port.element_type.to_dtype().name


def _refusal(error: Exception, failure: str) -> MeasurementFailed:
    """Return the error of LETI's for what OpenVINO raised on loading a model or running it for the first time."""
    message = f"OpenVINO cannot load or run the model: {_reason(error)}"
    return MeasurementFailed(message, field="model", failure=failure)


def _reason(error: Exception) -> str:
    """Return the last line: those before it say where in OpenVINO's sources an error came from."""
    return first_line(RuntimeError(str(error).strip().rpartition("\n")[2]))
