"""What LiteRT runs inside a model, kernel by kernel, and how long each takes: its profiler, by way of its C interface.

The Python interpreter has no profiler; ``libLiteRt.so``, which its wheel brings, has one. Names are those of XNNPACK's
operators after its own fusions ("Convolution (NHWC, F32) IGEMM"), and of LiteRT's builtin operators where the delegate
does not take one. Structures are those of LiteRT 2.3's headers (litert/c/litert_profiler.h, litert_profiler_event.h,
litert_layout.h), so another version is refused.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from leti.core.device import Precision
from leti.core.errors import MeasurementFailed, VersionMismatch
from leti.core.extras import needs
from leti.core.measurement import OperatorTime

with needs("agent"):
    import ai_edge_litert
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

from leti.device_agents.desktop.inputs import SEED, TensorType, random_inputs
from leti.device_agents.desktop.litert_half import HALF_FLAGS
from leti.device_agents.desktop.litert_refusals import LITERT_ERRORS, refusal

KNOWN_VERSIONS: Final = ("2.3.",)
_BUILTIN: Final = 2  # event types: an operator of LiteRT's own …
_DELEGATED: Final = 8  # … and one inside a delegate
_ELEMENT_TYPES: Final = {
    **{"float32": 1, "int32": 2, "uint8": 3, "int64": 4, "bool": 6, "int16": 7, "int8": 9, "float16": 10},
    **{"float64": 11, "uint32": 16},
}
_CPU: Final = 1
_WRITE: Final = 1
_MAX_RANK: Final = 8


KERNEL_MODES: Final = {"xnnpack": "delegate", "builtin": "builtin"}
"""What LiteRT calls each delegate of :class:`~leti.device_agents.desktop.litert.LiteRTBackend`."""


def profile(
    model: bytes,
    *,
    delegate: str = "xnnpack",
    precision: Precision = "fp32",
    threads: int = 1,
    runs: int = 10,
    warmup: int = 3,
    seed: int = SEED,
) -> tuple[OperatorTime, ...]:
    """Return the kernels of a model file in the order in which LiteRT runs them, with their times.

    The resolution is 1 µs; inputs are random, by ``seed``. LiteRT keeps the model in memory until its process ends.
    Raises :class:`MeasurementFailed` for a file that LiteRT cannot load or run, and :class:`VersionMismatch` for a
    LiteRT whose structures are not known.
    """
    _check_version()
    inputs, outputs = _tensors(model)
    session = _Session(model, inputs, outputs, _xnnpack_options(delegate, precision, threads), seed)
    for _ in range(warmup):
        session.run()
    passes = [session.profiled() for _ in range(runs)]
    names = [tuple((name, kind) for name, kind, _ in events) for events in passes]
    if len(set(names)) != 1:
        raise MeasurementFailed("LiteRT ran other kernels from run to run", field="model", failure="other")
    return tuple(
        OperatorTime(name, "xnnpack" if kind == _DELEGATED else "builtin", tuple(float(run[i][2]) for run in passes))
        for i, (name, kind) in enumerate(names[0])
    )


def _xnnpack_options(delegate: str, precision: Precision, threads: int) -> str:
    flags = f"flags = {HALF_FLAGS}\n" if precision == "fp16" else ""
    return f'kernel_mode = "{KERNEL_MODES[delegate]}"\nnum_threads = {threads}\n{flags}'


def _check_version() -> None:
    version = metadata.version("ai-edge-litert")
    if not version.startswith(KNOWN_VERSIONS):
        raise VersionMismatch(
            f"LiteRT {version} may lay out its profile in another way",
            field="ai-edge-litert",
            remedy=f"install a version {' or '.join(f'{known}*' for known in KNOWN_VERSIONS)}",
        )


def _tensors(model: bytes) -> tuple[list[TensorType], list[TensorType]]:
    """Return shape and data type of each input and output."""
    try:
        interpreter: Any = Interpreter(model_content=model, num_threads=1)
    except LITERT_ERRORS as error:
        raise refusal(error) from error
    details = (interpreter.get_input_details(), interpreter.get_output_details())
    inputs, outputs = ([(tuple(map(int, t["shape"])), np.dtype(t["dtype"]).name) for t in each] for each in details)
    return inputs, outputs


class _Layout(ctypes.Structure):
    _fields_ = (
        ("rank_and_flags", ctypes.c_uint),
        ("dimensions", ctypes.c_int32 * _MAX_RANK),
        ("strides", ctypes.c_uint32 * _MAX_RANK),
    )


class _TensorType(ctypes.Structure):
    _fields_ = (("element_type", ctypes.c_int), ("layout", _Layout))


class _Memory(ctypes.Structure):
    _fields_ = (("peak", ctypes.c_size_t), ("allocated", ctypes.c_size_t), ("in_use", ctypes.c_size_t))


class _Event(ctypes.Structure):
    _fields_ = (
        ("tag", ctypes.c_char_p),
        ("type", ctypes.c_int),
        ("start_us", ctypes.c_uint64),
        ("elapsed_us", ctypes.c_uint64),
        ("memory_before", _Memory),
        ("memory_after", _Memory),
        ("metadata", ctypes.c_uint64 * 2),
        ("source", ctypes.c_int),
    )


class _Session:
    """A compiled model with buffers, and its profiler. Lives as long as its process: LiteRT keeps the model's bytes."""

    def __init__(
        self, model: bytes, inputs: Sequence[TensorType], outputs: Sequence[TensorType], xnnpack: str, seed: int
    ) -> None:
        self._model = ctypes.create_string_buffer(model, len(model))
        environment = _made("LiteRtCreateEnvironment", 0, None)
        loaded = _made("LiteRtCreateModelFromBuffer", environment, self._model, ctypes.c_size_t(len(model)))
        options = _made("LiteRtCreateOptions")
        _call("LiteRtSetOptionsHardwareAccelerators", options, _CPU)
        _add_option(options, b"runtime_options_string", b"enable_profiling = true\n")
        _add_option(options, b"xnnpack", xnnpack.encode())
        self._compiled = _made("LiteRtCreateCompiledModel", environment, loaded, options)
        self._inputs = _buffers(environment, self._compiled, "Input", inputs)
        self._outputs = _buffers(environment, self._compiled, "Output", outputs)
        for buffer, values in zip(self._inputs, random_inputs(inputs, seed), strict=True):
            _write(buffer, values.tobytes())
        self._profiler = _made("LiteRtCompiledModelGetProfiler", self._compiled)

    def run(self) -> None:
        """Run the model once."""
        first = ctypes.c_size_t(0)
        sizes = (ctypes.c_size_t(len(self._inputs)), ctypes.c_size_t(len(self._outputs)))
        _call("LiteRtRunCompiledModel", self._compiled, first, sizes[0], self._inputs, sizes[1], self._outputs)

    def profiled(self) -> list[tuple[str, int, int]]:
        """Run the model once; return name, type and µs of every operator that ran."""
        _call("LiteRtResetProfiler", self._profiler)
        _call("LiteRtStartProfiler", self._profiler)
        self.run()
        _call("LiteRtStopProfiler", self._profiler)
        count = ctypes.c_int()
        _call("LiteRtGetNumProfilerEvents", self._profiler, ctypes.byref(count))
        events = (_Event * count.value)()
        _call("LiteRtGetProfilerEvents", self._profiler, count, events)
        return [
            (event.tag.decode(errors="replace"), event.type, event.elapsed_us)
            for event in events
            if event.type in (_BUILTIN, _DELEGATED)
        ]


@cache
def _libraries() -> tuple[Any, Any]:
    folder = Path(str(ai_edge_litert.__file__)).parent
    libc = ctypes.CDLL(None)
    libc.strdup.restype = ctypes.c_void_p
    return ctypes.CDLL(str(folder / "libLiteRt.so")), libc


def _call(function: str, *arguments: Any) -> None:
    status = getattr(_libraries()[0], function)(*arguments)
    if status:
        raise MeasurementFailed(f"{function} gave status {status}", field="model", failure="other")


def _made(function: str, *arguments: Any) -> ctypes.c_void_p:
    """Return the object that a function of the C interface writes to its last argument."""
    made = ctypes.c_void_p()
    _call(function, *arguments, ctypes.byref(made))
    return made


def _add_option(options: ctypes.c_void_p, name: bytes, toml: bytes) -> None:
    libc = _libraries()[1]
    text = ctypes.c_void_p(libc.strdup(toml))  # LiteRT frees it
    _call("LiteRtAddOpaqueOptions", options, _made("LiteRtCreateOpaqueOptions", name, text, libc.free))


def _buffers(environment: Any, compiled: Any, end: str, tensors: Sequence[TensorType]) -> Any:
    """Return an array of managed buffers for the inputs or outputs of the only signature."""
    made = (ctypes.c_void_p * len(tensors))()
    for i, (shape, dtype) in enumerate(tensors):
        if dtype not in _ELEMENT_TYPES or len(shape) > _MAX_RANK:
            raise MeasurementFailed(f"cannot profile {end.lower()}s of {dtype}", field="model", failure="other")
        needed = _made(
            f"LiteRtGetCompiledModel{end}BufferRequirements", compiled, ctypes.c_size_t(0), ctypes.c_size_t(i)
        )
        tensor_type = _TensorType(element_type=_ELEMENT_TYPES[dtype])
        tensor_type.layout.rank_and_flags = len(shape)
        tensor_type.layout.dimensions[: len(shape)] = shape
        made[i] = _made(
            "LiteRtCreateManagedTensorBufferFromRequirements", environment, ctypes.byref(tensor_type), needed
        )
    return made


def _write(buffer: int, content: bytes) -> None:
    address = ctypes.c_void_p()
    _call("LiteRtLockTensorBuffer", ctypes.c_void_p(buffer), ctypes.byref(address), _WRITE)
    ctypes.memmove(address, content, len(content))
    _call("LiteRtUnlockTensorBuffer", ctypes.c_void_p(buffer))
