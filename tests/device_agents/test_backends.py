"""One suite for every backend that is installed, in each way that it offers: what ``backend.py`` promises."""

from __future__ import annotations

import functools
import io
import random
import re
import statistics
import time
import zipfile
from collections.abc import Callable
from typing import Any, cast

import pytest

pytest.importorskip("flatbuffers", reason="the export extra is not installed")
np = pytest.importorskip("numpy")

from leti.core.device import ModelFormat, ModelPrecision, Platform, Precision
from leti.core.errors import InvalidGraph, InvalidInput, MeasurementFailed
from leti.core.farm import DEVICE_FAULTS
from leti.core.graph import Graph
from leti.core.spec import NetworkConfig
from leti.device_agents import backends
from leti.device_agents.backend import Backend, Offer, Session
from leti.device_agents.backends import BACKENDS, DEFAULT_BACKEND, backend_names, create, offers
from leti.device_agents.discovery import ACCELERATORS
from leti.device_agents.timing import Clocked, Protocol, measure
from leti.generator.export.formats import export_model
from leti.generator.lowering import lower
from leti.generator.precision import quantize
from leti.generator.spaces.nasbench201 import spec_of

NAMES = backend_names()
OFFERS = offers()
USABLE = [offer for offer in OFFERS if not offer[1].reason]
SMALL = "|nor_conv_1x1~0|+|skip_connect~0|none~1|+|none~0|none~1|skip_connect~2|"
LARGE = "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|nor_conv_3x3~0|none~1|skip_connect~2|"
CONFIG = NetworkConfig(input_shape=(16, 16, 1), stem_channels=8, modules_per_stack=2)
"""One channel: inputs are the same numbers whether channels come first or last."""

MODEL_PRECISIONS: tuple[ModelPrecision, ...] = ("float16", "dynamic_range", "full_integer")
TOLERANCE: dict[Precision, float] = {"fp32": 1e-4, "fp16": 0.02, "bf16": 0.06}
"""How far outputs may be from float32's, as a share of the greatest."""


@functools.cache
def graph_of(name: str, model_precision: ModelPrecision = "float32") -> Graph:
    graph = lower(spec_of({"small": SMALL, "large": LARGE}[name], CONFIG), "prune")
    return graph if model_precision == "float32" else quantize(graph, model_precision)


@functools.cache
def file_of(model_format: ModelFormat, name: str = "small", model_precision: ModelPrecision = "float32") -> bytes:
    """Return a network as a file, or skip where what writes it is not installed, or cannot write it."""
    if model_format == "onnx":
        pytest.importorskip("onnx", reason="the import-onnx extra is not installed")
    try:
        return export_model(graph_of(name, model_precision), model_format)
    except InvalidGraph as refused:
        pytest.skip(f"{model_format} files do not hold {model_precision}: {refused}")


def ways(*, precisions: bool = True) -> list[Any]:
    """Return the ways to execute here: backend, delegate, and every precision or the first."""
    found = [(name, offer.delegate, p) for name, offer in USABLE for p in offer.precisions[: None if precisions else 1]]
    return [pytest.param(way, id="-".join(way)) for way in found]


def made(way: tuple[str, str, Precision], threads: int = 1) -> Backend:
    return create(way[0], delegate=way[1], precision=way[2], threads=threads)


@pytest.fixture(params=ways())
def backend(request: pytest.FixtureRequest) -> Backend:
    return made(request.param)


@pytest.fixture(params=ways(precisions=False))
def usual(request: pytest.FixtureRequest) -> Backend:
    """Every delegate in the first of its precisions, for what does not depend on that."""
    return made(request.param)


@pytest.fixture(scope="module")
def truth() -> Callable[[str], Any]:
    """What each network makes of the inputs that every backend draws, by LiteRT without a delegate."""

    @functools.cache
    def run(name: str) -> Any:
        return outputs(create("litert", delegate="builtin").load(file_of("tflite", name)))

    return run


def outputs(session: Session) -> Any:
    """Return the outputs of a session's last run, flat; skip where it does not show them."""
    if not hasattr(session, "outputs"):
        pytest.skip("sessions do not show their outputs")
    return np.concatenate([np.asarray(each, np.float64).ravel() for each in session.outputs()])


def tells(backend: Backend) -> bool:
    """Return whether a backend says how long operators take; accelerators of other makers' runtimes do not."""
    return type(backend).profile is not Backend.profile and backend.delegate not in ACCELERATORS


def test_a_session_tells_how_long_loading_and_the_first_run_took(backend: Backend) -> None:
    session = backend.load(file_of(backend.model_format))
    assert 0 < session.init_ms < 60_000
    assert 0 < session.first_inference_ms < 60_000
    for _ in range(3):
        session.invoke()
    session.close()
    session.close()


def test_a_closed_session_does_not_run(usual: Backend) -> None:
    session = usual.load(file_of(usual.model_format))
    session.close()
    with pytest.raises(MeasurementFailed) as caught:
        session.invoke()
    assert caught.value.details["failure"] not in DEVICE_FAULTS


def test_sessions_do_not_disturb_each_other(backend: Backend) -> None:
    kept = backend.load(file_of(backend.model_format, "large"))
    before = outputs(kept).copy()
    others = [backend.load(file_of(backend.model_format, name)) for name in ("small", "large")]
    for other in others:
        other.invoke()
    others[0].close()
    kept.invoke()
    np.testing.assert_array_equal(outputs(kept), before)
    others[1].invoke()
    np.testing.assert_array_equal(outputs(others[1]), before)


def test_outputs_are_those_of_the_network(backend: Backend, truth: Callable[[str], Any]) -> None:
    """The same inputs, by the same seed, through every runtime; and a precision that is offered is one that is used."""
    for name in ("small", "large"):
        expected = truth(name)
        seen = outputs(backend.load(file_of(backend.model_format, name)))
        assert seen.shape == expected.shape
        off = np.abs(seen - expected).max() / np.abs(expected).max()
        assert off < TOLERANCE[backend.precision]
        if backend.precision != "fp32":
            assert off > 1e-5


@pytest.mark.parametrize("model_precision", MODEL_PRECISIONS)
def test_networks_run_in_every_precision_that_files_have(
    backend: Backend, model_precision: ModelPrecision, truth: Callable[[str], Any]
) -> None:
    session = backend.load(file_of(backend.model_format, "large", model_precision))
    session.invoke()
    seen, expected = outputs(session), truth("large")
    alike = seen @ expected / np.linalg.norm(seen) / np.linalg.norm(expected)
    assert alike > (0.9 if model_precision == "full_integer" else 0.99)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_backend_names_itself_as_a_platform_does(usual: Backend, threads: int) -> None:
    from leti.device_agents.desktop.host import desktop_platform

    backend = type(usual)(delegate=usual.delegate, precision=usual.precision, threads=threads)
    platform = desktop_platform(backend, name="bench-1")
    assert isinstance(platform, Platform)
    assert (platform.runtime, platform.delegate, platform.threads) == (usual.runtime, usual.delegate, threads)
    assert platform.precision == usual.precision
    session = backend.load(file_of(backend.model_format))
    session.invoke()
    session.close()


def test_platforms_of_different_ways_are_told_apart() -> None:
    from leti.device_agents.desktop.host import desktop_platform

    found = [each.values[0] for each in ways()]
    assert len({desktop_platform(made(way)).id for way in found}) == len(found)


SPOILERS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda model: b"",
    "text": lambda model: b"no model",
    "zeros": lambda model: b"\0" * len(model),
    "half": lambda model: model[: len(model) // 2],
    "head": lambda model: model[:200],
    "tflite-noise": lambda model: b"\x1c\0\0\0TFL3" + bytes(range(256)) * 8,
    "zip": lambda model: _zipped({"a.txt": b"no model"}),
}


@pytest.mark.parametrize("spoiler", SPOILERS)
def test_what_is_no_model_is_a_bad_model(usual: Backend, spoiler: str) -> None:
    spoilt = SPOILERS[spoiler](file_of(usual.model_format))
    for method in (usual.load, usual.profile) if tells(usual) else (usual.load,):
        with pytest.raises(MeasurementFailed) as caught:
            method(spoilt)
        assert caught.value.details["failure"] == "bad-model"
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500


def test_a_file_of_another_format_is_a_bad_model(usual: Backend) -> None:
    other: ModelFormat = "onnx" if usual.model_format == "tflite" else "tflite"
    with pytest.raises(MeasurementFailed) as caught:
        usual.load(file_of(other))
    assert caught.value.details["failure"] == "bad-model"


def test_an_operator_that_the_runtime_does_not_have_is_unsupported(usual: Backend) -> None:
    with pytest.raises(MeasurementFailed) as caught:
        usual.load(STRANGERS[usual.model_format](file_of(usual.model_format)))
    assert caught.value.details["failure"] == "unsupported"


@pytest.mark.parametrize("way", ways(precisions=False))
@pytest.mark.parametrize("threads", [0, -1])
def test_a_backend_runs_in_one_thread_at_least(way: tuple[str, str, Precision], threads: int) -> None:
    with pytest.raises(InvalidInput) as caught:
        made(way, threads)
    assert caught.value.field == "threads"


def test_a_delegate_that_there_is_not_is_refused_with_those_that_there_are(usual: Backend) -> None:
    with pytest.raises(InvalidInput, match=usual.delegate) as caught:
        type(usual)(delegate="abacus")
    assert caught.value.field == "delegate"


@pytest.mark.parametrize(("name", "offer"), [each for each in OFFERS if each[1].reason and each[1].delegate])
def test_a_delegate_that_cannot_be_used_is_refused_with_the_reason(name: str, offer: Offer) -> None:
    with pytest.raises(InvalidInput, match=re.escape(offer.reason)) as caught:
        create(name, delegate=offer.delegate, precision=offer.precisions[0])
    assert caught.value.field == "delegate"


@pytest.mark.parametrize("way", ways(precisions=False))
def test_a_precision_that_is_not_offered_is_refused(way: tuple[str, str, Precision]) -> None:
    (offered,) = (offer.precisions for name, offer in USABLE if (name, offer.delegate) == way[:2])
    for precision in cast("tuple[Precision, ...]", ("fp32", "bf16", "fp16", "fp8")):
        if precision in offered:
            assert create(way[0], delegate=way[1], precision=precision).precision == precision
            continue
        with pytest.raises(InvalidInput, match=", ".join(offered)) as caught:
            create(way[0], delegate=way[1], precision=precision)
        assert caught.value.field == "precision"


@pytest.mark.parametrize("name", dict(USABLE))
def test_left_to_itself_a_backend_takes_its_first_usable_offer(name: str) -> None:
    backend = create(name)
    first = next(offer for each, offer in USABLE if each == name)
    assert (backend.delegate, backend.threads, backend.precision) == (first.delegate, 1, "fp32")


@pytest.mark.parametrize("name", ["", "onnx", "leti.device_agents", "x" * 500])
def test_an_unknown_backend_is_told_what_there_is(name: str) -> None:
    with pytest.raises(InvalidInput, match=", ".join(NAMES)) as caught:
        create(name)
    assert caught.value.field == "backend"
    assert len(str(caught.value)) < 300


def test_the_default_is_built_in() -> None:
    assert NAMES[0] == DEFAULT_BACKEND == next(iter(BACKENDS))


@pytest.mark.parametrize("offer", [pytest.param(each, id=f"{name}-{each.delegate}") for name, each in OFFERS])
def test_every_offer_can_be_used(offer: Offer) -> None:
    """Here, where the machine has what it needs: what is skipped is why the rest of the suite leaves it out."""
    if offer.reason:
        pytest.skip(offer.reason)


def test_every_backend_makes_offers() -> None:
    assert [name for name in NAMES if name not in dict(OFFERS)] == []
    for name, offer in USABLE:
        assert offer.delegate, name
        assert "fp32" in offer.precisions, name


@pytest.mark.parametrize(("name", "module"), [("onnxruntime", "onnxruntime"), ("openvino", "openvino")])
def test_a_runtime_that_is_not_installed_is_offered_with_the_reason(
    name: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.delitem(sys.modules, BACKENDS[name].partition(":")[0], raising=False)
    monkeypatch.setitem(sys.modules, module, None)  # importing it fails
    found = backends.offers()
    (offer,) = (offer for each, offer in found if each == name)
    assert f"pip install 'leti[{name}]'" in offer.reason
    assert (offer.delegate, offer.precisions) == ("", ())
    assert [each for each in found if each[0] != name] == [each for each in OFFERS if each[0] != name]


def test_a_larger_network_takes_longer(usual: Backend) -> None:
    """Not a matter of noise: nine times the work, and more."""
    large, small = (usual.load(file_of(usual.model_format, name)) for name in ("large", "small"))
    clocked = Clocked(large, time.perf_counter_ns), Clocked(small, time.perf_counter_ns)
    timings = measure(clocked[:1], clocked[1], Protocol(passes=5), order=random.Random(0))
    assert timings is not None
    assert statistics.median(p.ratio for p in timings.items[0].passes) > 1


def test_a_profile_holds_every_convolution(backend: Backend) -> None:
    """Each convolution once, and the fully connected layer, and little else that could be called one."""
    told = backend.profile(file_of(backend.model_format, "large"), runs=3)
    if not tells(backend):
        assert told == ()
        return
    heavy = [each.name for each in told if re.search("conv(?!ert)|fully|gemm|matmul|linear|addmm", each.name, re.I)]
    expected = sum(op.kind in ("conv2d", "fully_connected") for op in graph_of("large").ops)
    assert expected <= len(heavy) <= expected + 2, heavy
    assert {len(each.times_us) for each in told} in ({3}, {1})  # a mean, where there is no more
    assert all(each.unit and re.search("[a-z]", each.name, re.I) for each in told)


def test_a_profile_adds_up_to_about_the_latency(usual: Backend) -> None:
    """At one of ten attempts: on a busy machine, a profile and the runs beside it may meet different weather."""
    if not tells(usual):
        return
    model = file_of(usual.model_format, "large")
    ratios: list[float] = []
    while len(ratios) < 10 and not any(1 / 3 < ratio < 3 for ratio in ratios):
        told = usual.profile(model)
        session = Clocked(usual.load(model), time.perf_counter_ns)
        latency_ms = statistics.median(session.sample_ms() for _ in range(20))
        ratios.append(sum(statistics.median(each.times_us) for each in told) / 1e3 / latency_ms)
    assert any(1 / 3 < ratio < 3 for ratio in ratios), ratios


def test_a_profile_leaves_sessions_alone(usual: Backend) -> None:
    session = usual.load(file_of(usual.model_format, "large"))
    before = outputs(session).copy()
    usual.profile(file_of(usual.model_format), runs=1)
    session.invoke()
    np.testing.assert_array_equal(outputs(session), before)


def _tflite_stranger(model: bytes) -> bytes:
    """Return the network with another operator in the place of its convolutions."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    unpacked = schema.ModelT.InitFromPackedBuf(model)
    for code in unpacked.operatorCodes:
        if code.builtinCode == schema.BuiltinOperator.CONV_2D:
            code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
            code.customCode = b"NotThere"
    for op in unpacked.subgraphs[0].operators:
        if unpacked.operatorCodes[op.opcodeIndex].customCode is not None:
            op.builtinOptions, op.builtinOptionsType = None, schema.BuiltinOptions.NONE
    builder = flatbuffers.Builder(len(model))
    builder.Finish(unpacked.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _onnx_stranger(model: bytes) -> bytes:
    import onnx

    loaded = onnx.load_from_string(model)
    loaded.opset_import.append(onnx.helper.make_opsetid("not.there", 1))
    for node in loaded.graph.node:
        if node.op_type == "Conv":
            node.domain = "not.there"
    return loaded.SerializeToString()


def _pt2_stranger(model: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(model)) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    changed = {
        name: part.replace(b"torch.ops.aten.relu.", b"torch.ops.aten.not_there.") for name, part in parts.items()
    }
    assert changed != parts
    return _zipped(changed)


def _zipped(parts: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for name, part in parts.items():
            file.writestr(name, part)
    return packed.getvalue()


STRANGERS: dict[ModelFormat, Callable[[bytes], bytes]] = {
    "tflite": _tflite_stranger,
    "onnx": _onnx_stranger,
    "pt2": _pt2_stranger,
}
