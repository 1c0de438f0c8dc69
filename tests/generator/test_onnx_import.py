"""ONNX models of other makers become graphs that compute the same; each node form is compared with ONNX Runtime."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leti.core.errors import ArtifactError, InvalidInput
from leti.core.graph import TensorType
from leti.generator.importers import import_model

onnx = pytest.importorskip("onnx", reason="the extra `import-onnx` is not installed")
runtime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper

from leti.generator.importers.onnx import read_onnx
from leti.generator.importers.passes import normalise


def _load(name: str):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for their own
    spec.loader.exec_module(module)
    return module


evaluator = _load("evaluator")
cases = _load("operator_cases")
RESIZES = {"nearest": evaluator.OPERATIONS["resize"], "bilinear": cases.MEANINGS["resize"]}
evaluator.OPERATIONS = {
    **evaluator.OPERATIONS,
    **cases.MEANINGS,
    "resize": lambda call, x: RESIZES[call["method"]](call, x),
}

IMAGE = (1, 4, 9, 8)


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def whole(*numbers: int) -> np.ndarray:
    return np.asarray(numbers, np.int64)


def model(
    nodes: Sequence[Any],
    inputs: dict[str, Sequence[Any]],
    constants: dict[str, np.ndarray] | None = None,
    *,
    opset: int = 20,
    outputs: Sequence[str] = ("y",),
    dtype: int = TensorProto.FLOAT,
    **more: Any,
) -> Any:
    """Return a model of these nodes; its outputs state no shapes."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in more.pop("domains", ()))]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, **more)


def only(imported: Any) -> Any:
    """Return the only operator of a graph."""
    (op,) = imported.graph.ops
    return op


# --- node forms ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Form:
    """A node with inputs ``x`` (and further ones), which is ``kinds`` once it is read, transpositions cancelled."""

    op_type: str
    kinds: Sequence[str]
    shape: Sequence[int] = IMAGE
    constants: Sequence[np.ndarray | None] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    opset: int = 20
    name: str = ""
    values: Sequence[Sequence[int]] = ()
    positive: bool = False


def _form(op_type: str, *kinds: str, shape: Sequence[int] = IMAGE, constants: Any = (), **more: Any) -> Form:
    own = {key: more.pop(key) for key in ("opset", "name", "values", "positive") if key in more}
    return Form(op_type, kinds, shape, constants, more, **own)


W = {"kernel_shape": (3, 3)}
FORMS = [
    _form("Conv", "conv2d", constants=[drawn(6, 4, 3, 3)], strides=(2, 2), pads=(1, 1, 1, 1)),
    _form(
        "Conv", "conv2d", constants=[drawn(6, 4, 3, 3), drawn(6)], auto_pad="SAME_UPPER", strides=(2, 2), name="upper"
    ),
    _form("Conv", "conv2d", constants=[drawn(6, 4, 2, 2), drawn(6)], auto_pad="SAME_LOWER", name="lower"),
    _form("Conv", "conv2d", constants=[drawn(6, 4, 2, 2)], auto_pad="VALID", name="valid"),
    _form("Conv", "conv2d", constants=[drawn(6, 2, 3, 3)], group=2, dilations=(2, 1), name="in groups"),
    _form("Conv", "depthwise_conv2d", constants=[drawn(8, 1, 3, 3), drawn(8)], group=4, name="depthwise"),
    _form("Conv", "conv1d", shape=(2, 4, 9), constants=[drawn(6, 4, 3)], pads=(2, 0), name="1d"),
    _form("Conv", "conv3d", shape=(1, 2, 5, 6, 4), constants=[drawn(3, 2, 3, 3, 1)], name="3d"),
    _form("ConvTranspose", "transpose_conv2d", constants=[drawn(4, 5, 3, 3), drawn(5)], strides=(2, 2)),
    _form(
        "ConvTranspose",
        "transpose_conv2d",
        constants=[drawn(4, 3, 3, 3)],
        **{"strides": (2, 2), "pads": (1, 1, 1, 1), "output_padding": (1, 1), "group": 2, "name": "in groups"},
    ),
    _form("ConvTranspose", "transpose_conv2d", constants=[drawn(4, 5, 3, 3)], dilations=(2, 2), name="dilated"),
    _form(
        "ConvTranspose",
        "transpose_conv2d",
        constants=[drawn(4, 5, 3, 3)],
        strides=(2, 2),
        output_shape=(18, 16),
        name="of a shape",
    ),
    _form(
        "ConvTranspose",
        "transpose_conv2d",
        constants=[drawn(4, 5, 3, 3)],
        strides=(2, 2),
        auto_pad="SAME_LOWER",
        name="lower",
    ),
    _form("Gemm", "fully_connected", shape=(3, 5), constants=[drawn(5, 4), drawn(4)]),
    _form(
        "Gemm",
        "fully_connected",
        shape=(3, 5),
        constants=[drawn(4, 5), drawn(1, 4)],
        transB=1,
        alpha=0.5,
        beta=2.0,
        name="scaled",
    ),
    _form(
        "Gemm", "transpose", "fully_connected", shape=(5, 3), constants=[drawn(5, 4), drawn(1)], transA=1, name="turned"
    ),
    _form(
        "Gemm",
        "fully_connected",
        "shift",
        shape=(3, 5),
        constants=[drawn(5, 4), drawn(3, 4)],
        beta=3.0,
        name="of a matrix",
    ),
    _form("Gemm", "matmul", "scale", "add", shape=(3, 5), values=[(5, 4), (3, 4)], alpha=0.5, name="of values"),
    _form("MatMul", "fully_connected", shape=(2, 3, 5), constants=[drawn(5, 4)]),
    _form("MatMul", "matmul", shape=(2, 3, 5), values=[(2, 5, 4)], name="of values"),
    _form("MatMul", "reshape", "matmul", "reshape", shape=(2, 3, 5), values=[(5,)], name="by a vector"),
    _form("BatchNormalization", "batch_norm", constants=[drawn(4), drawn(4), drawn(4), np.abs(drawn(4)) + 1]),
    _form(
        "BatchNormalization",
        "batch_norm",
        shape=(3, 4),
        constants=[drawn(4), drawn(4), drawn(4), np.abs(drawn(4)) + 1],
        name="of rows",
    ),
    _form("InstanceNormalization", "instance_norm", constants=[drawn(4), drawn(4)]),
    _form(
        "InstanceNormalization",
        "instance_norm",
        constants=[np.ones(4, np.float32), np.zeros(4, np.float32)],
        name="alone",
    ),
    _form("GroupNormalization", "group_norm", constants=[drawn(4), drawn(4)], num_groups=2, opset=21),
    _form("LayerNormalization", "layer_norm", shape=(2, 3, 5), constants=[drawn(5), drawn(5)]),
    _form("LayerNormalization", "layer_norm", shape=(2, 3, 5), constants=[drawn(5)], name="without offset"),
    _form(
        "LayerNormalization",
        "reshape",
        "layer_norm",
        "reshape",
        shape=(2, 3, 5),
        constants=[drawn(3, 5)],
        axis=1,
        name="of planes",
    ),
    _form("RMSNormalization", "rms_norm", shape=(2, 3, 5), constants=[drawn(5)], opset=23),
    _form("LpNormalization", "l2_normalize", axis=1),
    _form("LRN", "local_response_norm", size=3, alpha=0.3),
    _form("PRelu", "prelu", constants=[drawn(4, 1, 1)]),
    _form("PRelu", "prelu", constants=[drawn(1)], name="of a number"),
    _form("AveragePool", "avg_pool2d", **W, strides=(2, 2), pads=(1, 1, 1, 1)),
    _form("AveragePool", "avg_pool2d", **W, pads=(1, 1, 1, 1), count_include_pad=1, name="counted"),
    _form("AveragePool", "avg_pool2d", **W, strides=(2, 2), ceil_mode=1, name="rounded up"),
    _form("MaxPool", "max_pool2d", **W, strides=(2, 2), ceil_mode=1, name="rounded up"),
    _form("MaxPool", "max_pool2d", **W, dilations=(2, 2), name="dilated"),
    _form("MaxPool", "max_pool1d", shape=(1, 4, 9), kernel_shape=(3,), auto_pad="SAME_LOWER", strides=(2,)),
    _form("GlobalAveragePool", "mean"),
    _form("GlobalMaxPool", "reduce_max"),
    _form("ReduceMean", "mean", constants=[whole(-1, 2)], keepdims=0),
    _form("ReduceMean", "mean", axes=(2, 3), opset=13, name="of old"),
    _form("ReduceSum", "sum", name="of all"),
    _form("ReduceL1", "abs", "sum", constants=[whole(1)]),
    _form("ReduceL2", "square", "sum", "sqrt", constants=[whole(1)]),
    _form("ReduceSumSquare", "square", "sum", constants=[whole(1)]),
    _form("ReduceLogSum", "sum", "log", constants=[whole(1)], positive=True),
    _form("ReduceLogSumExp", "exp", "sum", "log", constants=[whole(1)]),
    _form("ReduceMax", "reduce_max", constants=[whole(1)]),
    _form("ArgMax", "argmax", axis=1, keepdims=0),
    _form("Softmax", "softmax", shape=(2, 3, 4)),
    _form("Softmax", "reshape", "softmax", "reshape", shape=(2, 3, 4), opset=11, name="of old"),
    _form("Softmax", "softmax", shape=(2, 3, 1, 1), opset=11, name="of old over channels"),
    _form("LogSoftmax", "log_softmax", axis=1),
    _form("HardSigmoid", "scale", "shift", "clip"),
    _form("HardSigmoid", "hard_sigmoid", alpha=1 / 6, name="of a sixth"),
    _form("HardSwish", "hard_swish"),
    _form("Gelu", "gelu"),
    _form("Gelu", "gelu", approximate="tanh", name="by tanh"),
    _form("Elu", "elu", alpha=0.5),
    _form("Celu", "elu"),
    _form("Selu", "selu"),
    _form("LeakyRelu", "leaky_relu"),
    _form("Clip", "relu6", constants=[np.float32(0), np.float32(6)]),
    _form("Clip", "clip", min=-0.5, max=0.25, opset=6, name="of old"),
    _form("Clip", "relu", constants=[np.float32(0)], name="from zero"),
    _form("Clip", "minimum", constants=[None, np.float32(0.5)], name="from above"),
    _form("Pow", "square", constants=[np.float32(2)]),
    _form("Pow", "sqrt", constants=[np.float32(0.5)], positive=True, name="by a half"),
    _form("Pow", "power", constants=[np.float32(3)], name="by three"),
    _form("Mod", "floor_mod", values=[IMAGE], fmod=0, opset=20, name="of whole numbers"),
    _form("Sum", "add", "add", values=[IMAGE, IMAGE]),
    _form("Mean", "add", "scale", values=[IMAGE]),
    _form("Max", "maximum", "maximum", values=[(1, 4, 1, 1)], constants=[np.float32(0)]),
    _form("Div", "scale", constants=[np.float32(4)]),
    _form("Sub", "shift", constants=[drawn(4, 1, 1)]),
    _form("Mul", "mul", values=[IMAGE]),
    _form("Concat", "concat", values=[IMAGE], constants=[drawn(*IMAGE)], axis=1),
    _form("Slice", "slice", constants=[whole(1, -3), whole(9, -1), whole(2, 3)]),
    _form("Slice", "slice", constants=[whole(-1), whole(-100), whole(2), whole(-2)], name="backwards"),
    _form("Slice", "reverse", constants=[whole(-1), whole(-(2**62)), whole(2), whole(-1)], name="reversed"),
    _form("Slice", "slice", starts=(1,), ends=(2**31,), axes=(3,), opset=9, name="of old"),
    _form("Pad", "pad", constants=[whole(0, 0, 1, 2, 0, 0, 3, 0)]),
    _form("Pad", "pad", constants=[whole(1, 2), np.float32(5), whole(-1)], opset=18, name="by fives"),
    _form("Pad", "pad", constants=[whole(0, 0, 1, 2, 0, 0, 3, 0)], mode="reflect", name="by reflection"),
    _form("Resize", "resize", constants=[None, np.asarray([1, 1, 2, 2], np.float32)], mode="linear"),
    _form(
        "Resize",
        "resize",
        constants=[None, None, whole(1, 4, 18, 16)],
        **{
            "mode": "nearest",
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
            "name": "repeated",
        },
    ),
    _form("Upsample", "resize", constants=[np.asarray([1, 1, 2, 2], np.float32)], opset=9),
    _form("Reshape", "reshape", constants=[whole(0, -1, 4)]),
    _form("Flatten", "reshape", axis=2),
    _form("Squeeze", "reshape", shape=(2, 1, 3, 1), constants=[whole(-1)]),
    _form("Unsqueeze", "reshape", constants=[whole(0, -1)]),
    _form("Transpose", "transpose"),
    _form("Expand", "broadcast_to", shape=(4, 1, 8), constants=[whole(2, 1, 3, 1)]),
    _form("Tile", "tile", constants=[whole(1, 2, 1, 3)]),
    _form("Gather", "gather", constants=[whole(3, 0, -1)], axis=2),
    _form("Gather", "slice", "reshape", constants=[np.asarray(-2, np.int64)], axis=2, name="of one"),
    _form("Gather", "slice", constants=[whole(2, 3, 4)], axis=2, name="of neighbours"),
    _form("CumSum", "cumsum", constants=[np.asarray(-1, np.int64)], reverse=1, exclusive=1),
    _form("DepthToSpace", "depth_to_space", blocksize=2, opset=13),
    _form(
        "DepthToSpace",
        "reshape",
        "transpose",
        "reshape",
        "depth_to_space",
        shape=(1, 8, 3, 2),
        blocksize=2,
        mode="CRD",
        name="of columns",
    ),
    _form("SpaceToDepth", "space_to_depth", shape=(1, 4, 8, 6), blocksize=2),
]


def _of_form(form: Form) -> tuple[Any, dict[str, np.ndarray]]:
    values = {"x": tuple(form.shape), **{f"v{i}": tuple(shape) for i, shape in enumerate(form.values)}}
    constants = {f"c{i}": np.asarray(array) for i, array in enumerate(form.constants) if array is not None}
    reads = [*values, *(f"c{i}" if array is not None else "" for i, array in enumerate(form.constants))]
    dtype = TensorProto.INT64 if form.op_type == "Mod" else TensorProto.FLOAT
    node = helper.make_node(form.op_type, reads, ["y"], **form.attributes)
    made = model([node], values, constants, opset=form.opset, dtype=dtype)
    arrays = {name: drawn(*shape, seed=i) for i, (name, shape) in enumerate(values.items())}
    if form.positive:
        arrays = {name: np.abs(array) + np.float32(0.5) for name, array in arrays.items()}
    if dtype == TensorProto.INT64:
        arrays = {name: np.rint(array * 9).astype(np.int64) * 2 + 1 for name, array in arrays.items()}
    return made, arrays


def _run(made: Any, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return runtime.InferenceSession(made.SerializeToString(), options).run(None, arrays)


def _evaluated(draft: Any, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    return evaluator.evaluate(draft, [array.astype(np.float64) for array in arrays.values()])


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.op_type} {form.name}".strip())
def test_a_node_computes_what_onnxruntime_computes(form: Form) -> None:
    made, arrays = _of_form(form)
    draft = read_onnx(made, {})
    (expected,), (array,) = _run(made, arrays), _evaluated(draft, arrays)
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
