"""Fusion rules held against the runtimes: python benchmarks/kernels.py.

For networks of every search space, the kernels that the rules expect are compared with those that LiteRT's profiler
names, and with the nodes of ONNX Runtime's optimised graph, as multisets. Prints the share of networks where they are
equal, and every difference. What a kernel is called in a runtime stands in the tables below; data that runtimes reorder
for themselves (``Static Reshape``, ``ReorderInput`` …) is no kernel of a network and is left out.
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import onnx
import onnxruntime

from leti.core.errors import LetiError
from leti.core.graph import Graph, Op
from leti.core.spec import NetworkConfig
from leti.device_agents.desktop.litert_profile import profile
from leti.generator.blocked_layout import blocked_operators
from leti.generator.export.onnx import export_onnx
from leti.generator.export.tflite import export_tflite
from leti.generator.fusion import Runtime, fuse
from leti.generator.lowering import lower
from leti.generator.spaces import SPACES

SEED = 0
CONFIGS = {"fbnet": (128, 128, 3), "mobilenetv3": (128, 128, 3)}
Names = Counter[str]


def litert_names(op: Op) -> tuple[str, ...]:
    """Return the kernels that LiteRT with XNNPACK runs for an operator that begins a kernel of ours."""
    if op.kind == "conv2d":
        pointwise = op["kernel"] == (1, 1) and op["strides"] == (1, 1) and op.get("groups", 1) == 1
        return ("Fully Connected" if pointwise else "Convolution",)
    if op.kind in ("avg_pool2d", "max_pool2d") and op["kernel"] == op["strides"] == (1, 1):
        return ()  # it does nothing, and XNNPACK knows
    if op.kind == "resize" and op["method"] == "nearest":
        return ("RESIZE_NEAREST_NEIGHBOR",)
    if op.kind == "resize":
        return ("Resize Bilinear",)
    if op.kind == "pad" and op.get("mode", "constant") != "constant":
        return ("MIRROR_PAD",)
    if op.kind == "pad" and op.get("value", 0.0):
        return ("PADV2",)
    if op.kind == "gelu" and op.get("approximate", False):
        return ("ApproxGELU",)
    return LITERT.get(op.kind, (op.kind.upper(),))


WITH_BIAS = ("conv2d", "depthwise_conv2d", "fully_connected")
_MOMENTS = ("Mean", "Squared Difference", "Mean", "Add", "Reciprocal Square Root")
_SOFTPLUS = ("Exp", "Add", "Log")

LITERT: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("conv1d", "depthwise_conv2d"), ("Convolution",)),
    "conv3d": ("CONV_3D",),
    "transpose_conv2d": ("Deconvolution",),
    "fully_connected": ("Fully Connected",),
    "matmul": ("Batch Matrix Multiply",),
    "embedding": ("GATHER",),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d"), ("Average Pooling",)),
    "avg_pool3d": ("Average Pooling", "Average Pooling"),
    **dict.fromkeys(("max_pool1d", "max_pool2d"), ("Max Pooling",)),
    "max_pool3d": ("Max Pooling", "Max Pooling"),
    **dict.fromkeys(("relu", "relu6", "relu_n1", "clip"), ("Clamp",)),
    **dict.fromkeys(("add", "shift"), ("Add",)),
    **dict.fromkeys(("mul", "scale", "zero"), ("Multiply",)),
    **dict.fromkeys(("batch_norm", "normalization"), ("Multiply", "Add")),
    **dict.fromkeys(("layer_norm", "instance_norm"), (*_MOMENTS, *("Multiply",) * 3, "Subtract", "Add")),
    "group_norm": (*_MOMENTS, *("Multiply",) * 3, "Subtract", "Add"),
    "rms_norm": ("Mean Squared", "Add", "Reciprocal Square Root", "Multiply", "Multiply"),
    "local_response_norm": ("LOCAL_RESPONSE_NORMALIZATION",),
    "l2_normalize": ("L2_NORMALIZATION",),
    "silu": ("Sigmoid", "Multiply"),
    "hard_sigmoid": ("Add", "Clamp", "Multiply"),
    "softplus": _SOFTPLUS,
    "mish": (*_SOFTPLUS, "TanH", "Multiply"),
    "softsign": ("Abs", "Add", "Divide"),
    "selu": ("Multiply", "Exp", "Subtract", "Multiply", "GREATER", "SELECT"),
    "erf": (*("Abs", "Square", "Negate", "Exp", "SIGN"), *("Multiply",) * 7, *("Add",) * 5, "Divide", "Subtract"),
    "power": ("POW",),
    "reciprocal": ("Divide",),
    "where": ("SELECT",),
    "prod": ("REDUCE_PROD",),
    "argmax": ("ARG_MAX",),
    "argmin": ("ARG_MIN",),
    "concat": ("Copy",),
    "stack": ("PACK",),
    "unstack": ("UNPACK",),
    "top_k": ("TOPK_V2",),
    "reshape": (),
    "reverse": ("REVERSE_V2",),
    "roll": ("Slice", "Slice", "Copy"),
    "pad": ("Constant Pad",),
    "space_to_batch": ("SPACE_TO_BATCH_ND",),
    "batch_to_space": ("BATCH_TO_SPACE_ND",),
    **{name: (text,) for name, text in {"sub": "Subtract", "div": "Divide", "prelu": "PReLU", "elu": "ELU"}.items()},
    **{name: (text,) for name, text in {"tanh": "TanH", "gelu": "GELU", "leaky_relu": "LeakyReLU"}.items()},
    **{name: (text,) for name, text in {"sin": "Sine", "cos": "Cosine", "neg": "Negate", "ceil": "Ceiling"}.items()},
    **{name: (text,) for name, text in {"sqrt": "Square Root", "rsqrt": "Reciprocal Square Root"}.items()},
    **{name: (text,) for name, text in {"round": "Bankders Rounding", "hard_swish": "HardSwish"}.items()},
    **{
        name: (" ".join(part.capitalize() for part in name.split("_")),)
        for name in (
            *("mean", "sum", "reduce_max", "reduce_min", "maximum", "minimum", "squared_difference", "sigmoid"),
            *("softmax", "transpose", "depth_to_space", "space_to_depth", "exp", "log", "square", "abs", "floor"),
        )
    },
}


def expected_litert(graph: Graph) -> Names:
    """Return the names of the kernels that the rules expect LiteRT to run."""
    names: Names = Counter()
    reads = Counter(value for sources in graph.wiring for value in sources)
    kind_of = [""] * len(graph.inputs) + [op.kind for op in graph.ops for _ in op.outputs]  # of what makes each value
    for kernel in graph.kernels:
        head = next(i for i in kernel if graph.ops[i].kind != "constant")
        kinds = tuple(graph.ops[i].kind for i in kernel)
        read = graph.wiring[head][0] if graph.wiring[head] else 0
        if kinds == ("square", "mean"):
            names["Mean Squared"] += 1
        elif kinds == ("mul",) and len(set(graph.wiring[head])) == 1:
            names["Square"] += 1
        elif kinds == ("hard_sigmoid",) and reads[read] == 1 and kind_of[read] in WITH_BIAS:
            names["Multiply"] += 1  # the addition is in the convolution's bias, and the clamp in its kernel
        else:
            names.update(litert_names(graph.ops[head]))
    return names


def seen_litert(graph: Graph) -> Names:
    """Return the names of the kernels that LiteRT ran."""
    names = (kernel.name.partition(" (")[0] for kernel in profile(export_tflite(graph), runs=1, warmup=0))
    return Counter(name for name in names if name not in ("Static Reshape", "RESHAPE"))


def expected_onnxruntime(graph: Graph) -> Names:
    """Return the nodes that the rules expect in ONNX Runtime's optimised graph: operators joined by ``+``."""
    blocked = blocked_operators(graph.ops, graph.wiring, len(graph.inputs))
    names: Names = Counter()
    for kernel in graph.kernels:
        head, *rest = (i for i in kernel if graph.ops[i].kind != "constant")
        op = graph.ops[head]
        written = ("Conv",) if op.kind == "scale" and head in blocked else ONNX.get(op.kind, (_camel(op.kind),))
        fused = [ONNX_FUSED[graph.ops[i].kind] for i in rest]
        names.update(["+".join((*written, *fused))] if fused else written)
    return names


def _camel(kind: str) -> str:
    return "".join(part.capitalize() for part in kind.split("_"))


ONNX_FUSED: Mapping[str, str] = {
    "add": "Add",
    "relu": "Relu",
    **dict.fromkeys(("relu6", "relu_n1", "clip"), "Clip"),
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "hard_swish": "HardSwish",
    "hard_sigmoid": "HardSigmoid",
    "leaky_relu": "LeakyRelu",
}
ONNX: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "depthwise_conv2d"), ("Conv",)),
    "transpose_conv2d": ("ConvTranspose",),
    "fully_connected": ("Gemm",),
    "relu": ("Relu",),
    **dict.fromkeys(("relu6", "relu_n1", "clip"), ("Clip",)),
    "hard_swish": ("HardSigmoid", "Mul"),
    "hard_sigmoid": ("HardSigmoid",),
    "leaky_relu": ("LeakyRelu",),
    **dict.fromkeys(("add", "shift"), ("Add",)),
    **dict.fromkeys(("mul", "scale", "zero"), ("Mul",)),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d", "avg_pool3d"), ("AveragePool",)),
    **dict.fromkeys(("max_pool1d", "max_pool2d", "max_pool3d"), ("MaxPool",)),
    "matmul": ("MatMul",),
    "embedding": ("Gather",),
    "prelu": ("PRelu",),
    "silu": ("QuickGelu",),
    "mish": ("Softplus", "Tanh", "Mul"),
    "layer_norm": ("LayerNormalization",),
    "instance_norm": ("InstanceNormalization",),
    "rms_norm": ("RMSNormalization",),
    "batch_norm": ("BatchNormalization",),
    "normalization": ("Sub", "Div"),
    "local_response_norm": ("LRN",),
    "l2_normalize": ("LpNormalization",),
    "power": ("Pow",),
    "square": ("Pow",),
    "squared_difference": ("Sub", "Pow"),
    "rsqrt": ("Sqrt", "Reciprocal"),
    "maximum": ("Max",),
    "minimum": ("Min",),
    "floor_div": ("Div", "Floor"),
    "floor_mod": ("Div", "Floor", "Mul", "Sub"),
    "greater_equal": ("GreaterOrEqual",),
    "less_equal": ("LessOrEqual",),
    "not_equal": ("Equal", "Not"),
    **{f"logical_{name}": (name.capitalize(),) for name in ("and", "or", "not")},
    **{name: (f"Reduce{name.capitalize()}",) for name in ("mean", "sum", "prod")},
    "argmax": ("ArgMax", "Cast"),
    "argmin": ("ArgMin", "Cast"),
    "gather_nd": ("GatherND",),
    "cumsum": ("CumSum",),
    "roll": ("Split", "Concat"),
    "reverse": ("Slice",),
    "stack": ("Unsqueeze", "Concat"),
    "broadcast_to": ("Expand",),
}


def seen_onnxruntime(graph: Graph) -> Names:
    """Return the nodes of ONNX Runtime's optimised graph, what is fused into a convolution joined by ``+``."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(export_onnx(graph), options, providers=["CPUExecutionProvider"])
        nodes = onnx.load(path).graph.node
    return Counter(_node_name(node) for node in nodes if not node.op_type.startswith("Reorder"))


def _node_name(node: onnx.NodeProto) -> str:
    activation = next((a.s.decode() for a in node.attribute if a.name == "activation"), "")
    sums = len(node.input) > 3 and node.op_type in ("Conv", "FusedConv")
    parts = (node.op_type.removeprefix("Fused"), "Add" * sums, activation)
    return "+".join(part for part in parts if part)


RUNTIMES: Mapping[Runtime, tuple[Callable[[Graph], Names], Callable[[Graph], Names]]] = {
    "litert": (expected_litert, seen_litert),
    "onnxruntime": (expected_onnxruntime, seen_onnxruntime),
}


def networks(names: Sequence[str], count: int) -> list[tuple[str, Graph]]:
    """Return graphs of the spaces of these names, equally many of each."""
    found: list[tuple[str, Graph]] = []
    for i, name in enumerate(names):
        share = (count - len(found)) // (len(names) - i)
        config = NetworkConfig(input_shape=CONFIGS[name]) if name in CONFIGS else NetworkConfig()
        found += [(f"{name} {k}", lower(spec)) for k, spec in enumerate(SPACES[name].sample(share, SEED, config))]
    return found


def difference(runtime: Runtime, graph: Graph) -> str:
    """Return in which kernels the runtime differs from what the rules expect; "" where it does not."""
    expected, seen = RUNTIMES[runtime]
    try:
        there = seen(graph)
    except LetiError as error:
        return f"not run: {error}"
    wanted = expected(fuse(graph, runtime))
    return "" if there == wanted else f"expected {dict(wanted - there)}, seen {dict(there - wanted)}"


def main() -> None:
    """Print the share of equal networks and every difference, a runtime after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=100, help="of the spaces of networks")
    parser.add_argument("--random", type=int, default=20, help="of operators at random")
    arguments = parser.parse_args()
    structured = [name for name in SPACES if name != "random"]
    for title, graphs in (
        ("networks of " + ", ".join(structured), networks(structured, arguments.networks)),
        ("random graphs", networks(["random"], arguments.random)),
    ):
        for runtime in RUNTIMES:
            found = {name: difference(runtime, graph) for name, graph in graphs}
            different = {name: text for name, text in found.items() if text}
            print(f"{runtime}: {len(found) - len(different)} of {len(found)} {title} run as the rules expect")
            print("".join(f"  {name}: {text}\n" for name, text in different.items()))


if __name__ == "__main__":
    main()
