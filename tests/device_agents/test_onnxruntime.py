"""What is special about ONNX Runtime."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

onnx = pytest.importorskip("onnx", reason="the import-onnx extra is not installed")
runtime = pytest.importorskip("leti.device_agents.desktop.onnxruntime", reason="the onnxruntime extra is not installed")

from onnx import TensorProto, helper

from leti.core.errors import MeasurementFailed


def model(*nodes: Any, shape: tuple[int | str, ...] = (1, 4), dtype: int = TensorProto.FLOAT) -> bytes:
    graph = helper.make_graph(
        list(nodes),
        "network",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("y", dtype, shape)],
    )
    return bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10).SerializeToString()
    )


RELU = helper.make_node("Relu", ["x"], ["y"])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_profile_leaves_no_trace_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (relu,) = runtime.OnnxRuntimeBackend().profile(model(RELU), runs=4)
    assert (relu.name, relu.unit, len(relu.times_us)) == ("Relu", "cpu", 4)
    with pytest.raises(MeasurementFailed):
        runtime.OnnxRuntimeBackend().profile(b"no model")
    assert list(folder.iterdir()) == []


def test_only_the_last_runs_count() -> None:
    def run(times: dict[str, int]) -> list[dict[str, Any]]:
        nodes = [
            {
                "cat": "Node",
                "name": f"{i}_kernel_time",
                "dur": dur,
                "args": {"op_name": op, "provider": "CPUExecutionProvider"},
            }
            for i, (op, dur) in enumerate(times.items())
        ]
        return [*nodes, {"cat": "Node", "name": "0_fence_before"}, {"cat": "Session", "name": "model_run", "dur": 99}]

    begin = {"cat": "Session", "name": "session_initialization", "dur": 1}
    trace = json.dumps([begin, *run({"Conv": 900}), *run({"Conv": 5, "Relu": 1}), *run({"Conv": 6, "Relu": 2})])
    conv, relu = runtime.operator_times(trace.encode(), 2)
    assert (conv.name, conv.times_us, relu.times_us) == ("Conv", (5.0, 6.0), (1.0, 2.0))
    with pytest.raises(MeasurementFailed, match="from run to run"):
        runtime.operator_times(trace.encode(), 3)


@pytest.mark.parametrize("shape", [("batch", 4), (1, None)])
def test_inputs_without_a_fixed_shape_are_unsupported(shape: tuple[int | str, ...]) -> None:
    with pytest.raises(MeasurementFailed, match="'x'") as caught:
        runtime.OnnxRuntimeBackend().load(model(RELU, shape=shape))
    assert caught.value.details["failure"] == "unsupported"


def test_an_operator_for_other_types_only_is_unsupported() -> None:
    cast, erf = helper.make_node("Cast", ["x"], ["b"], to=TensorProto.BFLOAT16), helper.make_node("Erf", ["b"], ["e"])
    with pytest.raises(MeasurementFailed, match="Erf") as caught:
        runtime.OnnxRuntimeBackend().load(
            model(cast, erf, helper.make_node("Cast", ["e"], ["y"], to=TensorProto.FLOAT))
        )
    assert caught.value.details["failure"] == "unsupported"


def test_inputs_that_no_numbers_can_be_drawn_for_are_unsupported() -> None:
    with pytest.raises(MeasurementFailed, match="string") as caught:
        runtime.OnnxRuntimeBackend().load(model(helper.make_node("Identity", ["x"], ["y"]), dtype=TensorProto.STRING))
    assert caught.value.details["failure"] == "unsupported"


@pytest.mark.parametrize("dtype", [TensorProto.BOOL, TensorProto.INT64, TensorProto.FLOAT16, TensorProto.UINT8])
def test_inputs_of_many_types_are_drawn(dtype: int) -> None:
    session = runtime.OnnxRuntimeBackend().load(model(helper.make_node("Identity", ["x"], ["y"]), dtype=dtype))
    session.invoke()
    (values,) = session.outputs()
    assert values.dtype == helper.tensor_dtype_to_np_dtype(dtype)
    if dtype in (TensorProto.BOOL, TensorProto.INT64):
        assert set(values.ravel().tolist()) <= {0, 1}  # valid as any index


def test_threads_are_those_that_were_asked_for_and_do_not_spin() -> None:
    options = runtime.OnnxRuntimeBackend(threads=3)._options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.mark.parametrize("delegate", ["cuda", "tensorrt"])
def test_accelerators_run_networks_as_a_whole_or_not_at_all(delegate: str) -> None:
    """Where there is one: an operator that it does not have must not run on the processor without a word."""
    offer = next(each for each in runtime.OnnxRuntimeBackend.offers() if each.delegate == delegate)
    if offer.reason:
        pytest.skip(offer.reason)
    backend = runtime.OnnxRuntimeBackend(delegate=delegate)
    session = backend.load(model(RELU, shape=(64, 64)))
    session.invoke()
    assert (session.outputs()[0] >= 0).all()
    nodes = (RELU, helper.make_node("Unique", ["y"], ["z"]))
    with pytest.raises(MeasurementFailed) as caught:
        backend.load(model(*nodes))
    assert caught.value.details["failure"] == "partial-delegation"
