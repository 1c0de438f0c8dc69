"""What runtimes call the kernels of a graph: the names in LiteRT's profile, and the nodes of ONNX Runtime's.

The names were found by looking at what runtimes run, and ``benchmarks/kernels.py`` holds them against it. Matching a
profile to a graph (:mod:`leti.predictors.profiles.matching`) rests on them. Data that runtimes reorder for themselves
(``Static Reshape``, ``ReorderInput`` …) is no kernel of a network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from typing import Final

from leti.core.graph import Graph, Op

KernelNames = tuple[tuple[str, ...], ...]
"""Of each kernel of a graph, in the order of their last operators, the runtime's kernels that it becomes."""


def kernels_of(graph: Graph) -> tuple[tuple[int, ...], ...]:
    """Return the operators of each kernel in the order of their last operators; one in no group stands by itself."""
    grouped = {i for kernel in graph.kernels for i in kernel}
    alone = ((i,) for i in range(len(graph.ops)) if i not in grouped)
    return tuple(sorted((tuple(sorted(kernel)) for kernel in (*graph.kernels, *alone) if kernel), key=max))


def litert_kernels(graph: Graph) -> KernelNames:
    """Return what LiteRT with XNNPACK runs for each kernel, without what follows in brackets."""
    reads = Counter(value for sources in graph.wiring for value in sources)
    kind_of = [""] * len(graph.inputs) + [op.kind for op in graph.ops for _ in op.outputs]  # of what makes each value
    return tuple(_litert_kernel(graph, kernel, reads, kind_of) for kernel in kernels_of(graph))


def _litert_kernel(
    graph: Graph, kernel: tuple[int, ...], reads: Mapping[int, int], kind_of: list[str]
) -> tuple[str, ...]:
    head = next((i for i in kernel if graph.ops[i].kind != "constant"), None)
    if head is None:
        return ()
    kinds = tuple(graph.ops[i].kind for i in kernel)
    read = graph.wiring[head][0] if graph.wiring[head] else 0
    if kinds == ("square", "mean"):
        return ("Mean Squared",)
    if kinds == ("mul",) and len(set(graph.wiring[head])) == 1:
        return ("Square",)
    if kinds == ("hard_sigmoid",) and reads[read] == 1 and kind_of[read] in _WITH_BIAS:
        return ("Multiply",)  # the addition is in the convolution's bias, and the clamp in its kernel
    return _litert_operator(graph.ops[head])


def onnxruntime_kernels(graph: Graph, blocked: Set[int] = frozenset()) -> KernelNames:
    """Return the nodes that ONNX Runtime runs for each kernel: what is fused into one joined by ``+``.

    ``blocked`` are the operators in a blocked layout, where a ``scale`` becomes a convolution.
    """
    return tuple(_onnxruntime_kernel(graph, kernel, blocked) for kernel in kernels_of(graph))


def _onnxruntime_kernel(graph: Graph, kernel: tuple[int, ...], blocked: Set[int]) -> tuple[str, ...]:
    computing = [i for i in kernel if graph.ops[i].kind != "constant"]
    if not computing:
        return ()
    op = graph.ops[computing[0]]
    written = ("Conv",) if op.kind == "scale" and computing[0] in blocked else ONNX.get(op.kind, (_camel(op.kind),))
    fused = [ONNX_FUSED.get(graph.ops[i].kind, _camel(graph.ops[i].kind)) for i in computing[1:]]
    return ("+".join((*written, *fused)),) if fused else written


def litert_name(profiled: str) -> str:
    """Return the name of a kernel without what LiteRT adds in brackets; "" for what is no kernel of a network."""
    name = profiled.partition(" (")[0]
    return "" if name in ("Static Reshape", "RESHAPE") else name


def onnxruntime_name(profiled: str) -> str:
    """Return the name of a node without a mark of fusion; "" for what is no kernel of a network."""
    return "" if profiled.startswith("Reorder") else profiled.removeprefix("Fused")


def _camel(kind: str) -> str:
    return "".join(part.capitalize() for part in kind.split("_"))


def _litert_operator(op: Op) -> tuple[str, ...]:
    """Return the kernels that LiteRT with XNNPACK runs for an operator that begins a kernel of ours."""
    if op.kind == "conv2d":
        pointwise = op.get("kernel", ()) == (1, 1) and op.get("strides", (1, 1)) == (1, 1) and op.get("groups", 1) == 1
        return ("Fully Connected" if pointwise else "Convolution",)
    if op.kind in ("avg_pool2d", "max_pool2d") and op.get("kernel", ()) == op.get("strides", ()) == (1, 1):
        return ()  # it does nothing, and XNNPACK knows
    if op.kind == "resize" and op.get("method", "") == "nearest":
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


_WITH_BIAS: Final = ("conv2d", "depthwise_conv2d", "fully_connected")
_MOMENTS: Final = ("Mean", "Squared Difference", "Mean", "Add", "Reciprocal Square Root")
_SOFTPLUS: Final = ("Exp", "Add", "Log")

LITERT: Final[Mapping[str, tuple[str, ...]]] = {
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

ONNX_FUSED: Final[Mapping[str, str]] = {
    "add": "Add",
    "relu": "Relu",
    **dict.fromkeys(("relu6", "relu_n1", "clip"), "Clip"),
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "hard_swish": "HardSwish",
    "hard_sigmoid": "HardSigmoid",
    "leaky_relu": "LeakyRelu",
}
ONNX: Final[Mapping[str, tuple[str, ...]]] = {
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
