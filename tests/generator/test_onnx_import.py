"""ONNX models of other makers become graphs that compute the same; each node form is compared with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leti.core.errors import ArtifactError, InvalidInput
from leti.core.graph import TensorType
from leti.generator.importers import import_model

onnx = pytest.importorskip("onnx", reason="the extra `import-onnx` is not installed")
pytest.importorskip("onnxruntime")

import onnx_reference as reference
from evaluator import evaluate
from onnx import TensorProto, helper

from leti.generator.importers.onnx import read_onnx
from leti.generator.importers.passes import normalise

drawn, model, whole = reference.drawn, reference.model, reference.whole


def only(imported: Any) -> Any:
    """Return the only operator of a graph."""
    (op,) = imported.graph.ops
    return op


# --- node forms ------------------------------------------------------------------------------------------------------


def _evaluated(draft: Any, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    return evaluate(draft, [array.astype(np.float64) for array in arrays.values()])


@pytest.mark.parametrize("form", reference.FORMS, ids=lambda form: f"{form.op_type} {form.name}".strip())
def test_a_node_computes_what_onnxruntime_computes(form: Any) -> None:
    made, arrays = reference.of_form(form)
    draft = read_onnx(made, {})
    (expected,), (array,) = reference.run(made.SerializeToString(), arrays), _evaluated(draft, arrays)
    np.testing.assert_allclose(array, expected, rtol=1e-4, atol=1e-5)
    unmoved = ("constant", "transpose")
    kinds = [node.kind for node in draft.nodes if node.kind not in unmoved]
    assert kinds == [kind for kind in form.kinds if kind not in unmoved]
    if "resize" not in kinds:  # which the evaluator knows channels last alone
        (array,) = _evaluated(normalise(draft, layout="inner"), arrays)
    np.testing.assert_allclose(array, expected, rtol=1e-4, atol=1e-5)


# --- types and weights -----------------------------------------------------------------------------------------------


def test_a_dequantised_weight_counts_as_it_is_stored() -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["d"], axis=0),
        helper.make_node("MatMul", ["x", "t"], ["y"]),
    ]
    nodes.insert(1, helper.make_node("Transpose", ["d"], ["t"], perm=[1, 0]))
    stored = np.arange(-6, 6).reshape(4, 3).astype(np.int8)
    constants = {"w": stored, "s": np.asarray([1, 2, 4, 8], np.float32), "z": np.asarray([0, 1, 0, 1], np.int8)}
    imported = import_model(model(nodes, {"x": (2, 3)}, constants), weights=True)
    op = only(imported)
    assert op.kind == "fully_connected"
    assert op["weight_dtype"] == "int8"
    real = (stored - np.asarray([[0], [1], [0], [1]])) * np.asarray([[1], [2], [4], [8]])
    np.testing.assert_array_equal(imported.weights[0][0], real)


def test_quantised_activations_are_operators() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    constants = {"s": np.float32(0.5), "z": np.int8(0)}
    graph = import_model(model(nodes, {"x": (2, 3)}, constants), fold=False).graph
    assert [(op.kind, op.outputs[0].dtype) for op in graph.ops] == [("quantize", "int8"), ("dequantize", "float32")]


def test_operators_on_whole_numbers_hold_real_weights() -> None:
    number = lambda value: np.asarray(value, np.float32)  # noqa: E731
    filters = np.arange(-54, 54).reshape(6, 2, 3, 3).astype(np.int8)
    constants = {
        **{"xs": number(0.5), "xz": np.uint8(3), "w": filters, "ws": number(0.25), "wz": np.int8(1)},
        **{"ys": number(2), "yz": np.uint8(7), "b": np.arange(6, dtype=np.int32)},
    }
    node = helper.make_node("QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"], ["y"])
    made = model([node], {"x": (1, 2, 5, 5)}, constants, dtype=TensorProto.UINT8)
    imported = import_model(made, weights=True)
    op = only(imported)
    assert (op.kind, op.inputs[0].dtype, op["weight_dtype"]) == ("conv2d", "uint8", "int8")
    kernel, bias = imported.weights[0]
    np.testing.assert_array_equal(kernel, np.moveaxis((filters - 1.0) * 0.25, 1, -1))
    np.testing.assert_array_equal(bias, np.arange(6) * 0.125)


def test_half_precision_stays() -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    made = model([node], {"x": (2, 3)}, {"w": drawn(3, 4).astype(np.float16)}, dtype=TensorProto.FLOAT16)
    op = only(import_model(made))
    assert op.outputs[0] == TensorType((2, 4), "float16")
    assert op.weight_bytes == 24


def test_weights_beside_the_file_are_read_when_asked_for(tmp_path: Path) -> None:
    weight = drawn(3, 4)
    made = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": (2, 3)}, {"w": weight})
    path = tmp_path / "network.onnx"
    onnx.save(made, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    np.testing.assert_array_equal(import_model(path, weights=True).weights[0][0], weight.T)
    assert import_model(path).graph.params == 12
    (tmp_path / "weights.bin").write_bytes(b"short")
    with pytest.raises(ArtifactError, match=r"weights\.bin"):
        import_model(path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ArtifactError, match=r"weights\.bin"):
        import_model(path)


@pytest.mark.parametrize(
    "location", ["../weights.bin", "/etc/passwd", "sub/../../weights.bin", "link", "C:\\w.bin", ""]
)
def test_weights_elsewhere_are_not_read(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "weights.bin").write_bytes(bytes(48))
    (folder / "link").symlink_to(tmp_path / "weights.bin")
    made = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": (2, 3)}, {"w": drawn(3, 4)})
    (tensor,) = made.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path = folder / "network.onnx"
    path.write_bytes(made.SerializeToString())
    with pytest.raises(InvalidInput, match="beside the model"):
        import_model(path)
    with pytest.raises(InvalidInput, match="another file"):
        import_model(made)


# --- what is computed while reading ----------------------------------------------------------------------------------


def test_shapes_that_exporters_spell_out_are_computed() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Unsqueeze", ["n", "axes"], ["n1"]),
        helper.make_node("Constant", [], ["rest"], value_ints=[-1]),
        helper.make_node("Concat", ["n1", "rest"], ["to"], axis=0),
        helper.make_node("Reshape", ["x", "to"], ["y"]),
    ]
    constants = {"zero": np.asarray(0, np.int64), "axes": whole(0)}
    op = only(import_model(model(nodes, {"x": ("batch", 4, 3)}, constants)))
    assert (op.kind, op.outputs[0].shape) == ("reshape", (1, 12))


def test_a_branch_whose_condition_is_known_is_taken() -> None:
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(kind, ["x"], [f"{name}_y"])], name, [], [onnx.ValueInfoProto(name=f"{name}_y")]
        )
        for name, kind in (("then", "Relu"), ("else", "Tanh"))
    }
    nodes = [
        helper.make_node("Size", ["x"], ["n"]),
        helper.make_node("Greater", ["n", "limit"], ["large"]),
        helper.make_node("If", ["large"], ["y"], **branches),
    ]
    for limit, kind in ((5, "relu"), (6, "tanh")):
        assert only(import_model(model(nodes, {"x": (2, 3)}, {"limit": np.asarray(limit, np.int64)}))).kind == kind


def test_large_weights_are_rearranged_when_asked_for() -> None:
    weight = drawn(300, 400)
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
        helper.make_node("Mul", ["t", "half"], ["h"]),
        helper.make_node("MatMul", ["x", "h"], ["y"]),
    ]
    imported = import_model(model(nodes, {"x": (1, 400)}, {"w": weight, "half": np.float32(0.5)}), weights=True)
    assert only(imported).kind == "fully_connected"
    np.testing.assert_array_equal(imported.weights[0][0], weight / 2)


def test_functions_of_the_model_are_written_out() -> None:
    opset = helper.make_opsetid("", 20)
    inner = helper.make_function("own", "Inner", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], [opset])
    calls = [helper.make_node("Inner", ["a"], ["m"], domain="own"), helper.make_node("Exp", ["m"], ["b"])]
    outer = helper.make_function("own", "Outer", ["a"], ["b"], calls, [opset, helper.make_opsetid("own", 1)])
    node = helper.make_node("Outer", ["x"], ["y"], domain="own")
    made = model([node], {"x": (2, 3)}, domains=["own"], functions=[inner, outer])
    assert [op.kind for op in import_model(made).graph.ops] == ["relu", "exp"]


def test_positions_are_of_the_type_that_they_are_cast_to() -> None:
    nodes = [
        helper.make_node("ArgMax", ["x"], ["i"], axis=1),
        helper.make_node("Cast", ["i"], ["y"], to=TensorProto.INT32),
    ]
    op = only(import_model(model(nodes, {"x": (2, 3)})))
    assert (op.kind, op.outputs[0].dtype) == ("argmax", "int32")


# --- what has no counterpart -----------------------------------------------------------------------------------------


def test_an_operator_without_a_row_is_kept_with_its_shapes_and_constants() -> None:
    lstm = helper.make_node("LSTM", ["x", "w", "r"], ["h"], hidden_size=5)
    made = model([lstm], {"x": (7, 1, 3)}, {"w": drawn(1, 20, 3), "r": drawn(1, 20, 5)}, outputs=["h"])
    imported = import_model(made)
    assert imported.graph.unknown == ("unknown:LSTM",)
    op = only(imported)
    assert op.outputs[0].shape == (7, 1, 1, 5)
    assert op.params == 160


def test_an_operator_of_another_domain_needs_a_stated_shape() -> None:
    node = helper.make_node("Fancy", ["x"], ["y"], domain="com.example")
    made = model([node], {"x": (2, 3)}, domains=["com.example"])
    with pytest.raises(InvalidInput, match="value_info"):
        import_model(made)
    made.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, (2, 7)))
    imported = import_model(made)
    assert imported.graph.unknown == ("unknown:com.example.Fancy",)
    assert only(imported).outputs[0].shape == (2, 7)


def test_operators_of_onnxruntime_are_known() -> None:
    nodes = [
        helper.make_node("BiasGelu", ["x", "b"], ["g"], domain="com.microsoft"),
        helper.make_node("SkipLayerNormalization", ["g", "x", "b"], ["y"], domain="com.microsoft"),
    ]
    graph = import_model(model(nodes, {"x": (2, 3)}, {"b": drawn(3)}, domains=["com.microsoft"])).graph
    assert [op.kind for op in graph.ops] == ["shift", "gelu", "unknown:com.microsoft.SkipLayerNormalization"]


def test_a_loop_is_kept_as_unknown() -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Exp", ["a"], ["a2"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, ()),
            helper.make_tensor_value_info("c", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("a", TensorProto.FLOAT, (2, 3)),
        ],
        [
            helper.make_tensor_value_info("c2", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("a2", TensorProto.FLOAT, (2, 3)),
        ],
    )
    made = model([helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)], {"x": (2, 3)}, {"n": np.int64(4)})
    made.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, (2, 3)))
    assert import_model(made).graph.unknown == ("unknown:Loop",)


# --- inputs ----------------------------------------------------------------------------------------------------------


def _of_shapes(**shapes: Any) -> Any:
    names = list(shapes)
    return model([helper.make_node("Concat", names, ["y"], axis=1)], shapes)


def test_an_open_batch_is_one_wherever_it_stands() -> None:
    graph = import_model(_of_shapes(a=("n", 3), b=("n", 4))).graph
    assert [t.shape for t in graph.inputs] == [(1, 3), (1, 4)]
    assert [t.shape for t in import_model(_of_shapes(a=(None, 3), b=(1, 4))).graph.inputs] == [(1, 3), (1, 4)]


def test_another_open_dimension_is_asked_for() -> None:
    made = _of_shapes(a=("n", "width"), b=("n", 4))
    with pytest.raises(InvalidInput, match=r"--input-shape a=1,3,224,224"):
        import_model(made)
    graph = import_model(made, input_shapes={"a": (2, 5)}).graph
    assert [t.shape for t in graph.inputs] == [(2, 5), (2, 4)]


@pytest.mark.parametrize(
    "shapes", [{"a": (2, 5, 1)}, {"a": (2, 5), "b": (3, 4)}, {"b": (2, 5)}, {"c": (1,)}, {"": (2, 5)}, {"a": (0, 5)}]
)
def test_shapes_that_do_not_fit_are_refused(shapes: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(InvalidInput):
        import_model(_of_shapes(a=("n", "width"), b=("n", 4)), input_shapes=shapes)


def test_the_only_input_needs_no_name() -> None:
    made = model([helper.make_node("Relu", ["x"], ["y"])], {"x": (None, "w")})
    assert import_model(made, input_shapes={"": (2, 5)}).graph.inputs[0].shape == (2, 5)


def test_initializers_that_are_listed_as_inputs_are_none() -> None:
    made = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": (2, 3), "w": (3, 4)}, {"w": drawn(3, 4)})
    assert len(import_model(made).graph.inputs) == 1
