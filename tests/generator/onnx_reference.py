"""ONNX nodes in every form that exporters write them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


def run(data: bytes, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Run a model in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(data, options).run(None, arrays)


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


def of_form(form: Form) -> tuple[Any, dict[str, np.ndarray]]:
    """Return the model of one node, and an array for each of its inputs."""
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
