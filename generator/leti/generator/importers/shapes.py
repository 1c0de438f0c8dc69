"""What a draft's operators make of the shapes that they read: formats state both, and a damaged file may lie."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from leti.core.errors import InvalidGraph
from leti.core.extras import needs
from leti.generator.cost import Shape, Shapes
from leti.generator.importers.draft import Draft, Node

with needs("export"):
    import numpy as np

Rule = Callable[[Node, Shapes, Shapes], bool]


def check_shapes(draft: Draft, nodes: Sequence[Node]) -> None:
    """Raise :class:`InvalidGraph`, naming the operator, for one that cannot make its outputs of its inputs.

    Kinds without a rule (``gather_nd``, ``top_k``, unknown ones …) are taken as they are.
    """
    for node in nodes:
        rule = _RULES.get(node.kind)
        inputs = tuple(draft.types[value].shape for value in node.inputs)
        outputs = tuple(draft.types[value].shape for value in node.outputs)
        try:
            fits = rule is None or rule(node, inputs, outputs)
        except (InvalidGraph, LookupError, ValueError, TypeError, ZeroDivisionError):
            fits = False
        if not fits:
            raise InvalidGraph(
                f"{node.kind} cannot make {outputs!s:.200} of {inputs!s:.200}", field=node.name or node.kind
            )


def _same(_node: Node, inputs: Shapes, outputs: Shapes) -> bool:
    return outputs[0] == inputs[0]


def _broadcast(_node: Node, inputs: Shapes, outputs: Shapes) -> bool:
    return np.broadcast_shapes(*inputs) == outputs[0]


def _broadcast_to(_node: Node, inputs: Shapes, outputs: Shapes) -> bool:
    return np.broadcast_shapes(inputs[0], outputs[0]) == outputs[0]


def _scaled(node: Node, inputs: Shapes, outputs: Shapes) -> bool:
    weight = node.weights[0].shape
    if not inputs[0]:
        return outputs[0] == () and weight in ((), (1,))
    return outputs[0] == inputs[0] == np.broadcast_shapes(inputs[0], weight)


def _along(node: Node, inputs: Shapes, outputs: Shapes) -> bool:
    return outputs[0] == inputs[0] and 0 <= node.integer("axis") < len(inputs[0])


def _along_axes(node: Node, inputs: Shapes, outputs: Shapes) -> bool:
    return outputs[0] == inputs[0] and all(0 <= axis < len(inputs[0]) for axis in node.integers("axes"))


def _reduced(shape: Shape, axes: Sequence[int], keep: bool) -> Shape:
    if any(not 0 <= axis < len(shape) for axis in axes):
        raise IndexError(axes)
    return tuple(1 if i in axes else n for i, n in enumerate(shape) if keep or i not in axes)


def _reduction(node: Node, inputs: Shapes, outputs: Shapes) -> bool:
    return outputs[0] == _reduced(inputs[0], node.integers("axes"), bool(node.attribute("keep_dims")))


def _position(node: Node, inputs: Shapes, outputs: Shapes) -> bool:
    return outputs[0] == _reduced(inputs[0], (node.integer("axis"),), bool(node.attribute("keep_dims")))


def _reshape(_node: Node, inputs: Shapes, outputs: Shapes) -> bool:
    return math.prod(inputs[0]) == math.prod(outputs[0])


def _transpose(node: Node, inputs: Shapes, outputs: Shapes) -> bool:
    perm = node.integers("perm")
    return sorted(perm) == list(range(len(inputs[0]))) and outputs[0] == tuple(inputs[0][i] for i in perm)


def _concat(node: Node, inputs: Shapes, outputs: Shapes) -> bool:
    return _joins(node.integer("axis"), inputs, outputs[0])


def _split(node: Node, inputs: Shapes, outputs: Shapes) -> bool:
    return _joins(node.integer("axis"), outputs, inputs[0])


def _joins(axis: int, parts: Shapes, whole: Shape) -> bool:
    rest = {(*part[:axis], *part[axis + 1 :]) for part in parts}
    return axis >= 0 and rest == {(*whole[:axis], *whole[axis + 1 :])} and sum(p[axis] for p in parts) == whole[axis]


def _stack(node: Node, inputs: Shapes, outputs: Shapes) -> bool:
    return _stacks(node.integer("axis"), inputs, outputs[0])


def _unstack(node: Node, inputs: Shapes, outputs: Shapes) -> bool:
    return _stacks(node.integer("axis"), outputs, inputs[0])


def _stacks(axis: int, parts: Shapes, whole: Shape) -> bool:
    return axis >= 0 and set(parts) == {(*whole[:axis], *whole[axis + 1 :])} and len(parts) == whole[axis]


def _slice(node: Node, inputs: Shapes, outputs: Shapes) -> bool:
    rank = len(inputs[0])
    begin, strides = node.integers("begin") or (0,) * rank, node.integers("strides") or (1,) * rank
    ends = [b + (n - 1) * s for b, n, s in zip(begin, outputs[0], strides, strict=True)]
    return all(min(b, e) >= 0 and max(b, e) < n for b, e, n in zip(begin, ends, inputs[0], strict=True))


def _pad(node: Node, inputs: Shapes, outputs: Shapes) -> bool:
    pads = node.integers("paddings")
    return len(pads) == 2 * len(inputs[0]) and outputs[0] == tuple(
        n + pads[2 * i] + pads[2 * i + 1] for i, n in enumerate(inputs[0])
    )


def _tile(node: Node, inputs: Shapes, outputs: Shapes) -> bool:
    return outputs[0] == tuple(n * m for n, m in zip(inputs[0], node.integers("multiples"), strict=True))


def _gather(node: Node, inputs: Shapes, outputs: Shapes) -> bool:
    axis, batch = node.integer("axis"), node.integer("batch_dims")
    return axis >= 0 and outputs[0] == (*inputs[0][:axis], *inputs[1][batch:], *inputs[0][axis + 1 :])


def _matmul(node: Node, inputs: Shapes, outputs: Shapes) -> bool:
    left, right = ((*s[:-2], s[-1], s[-2]) if node.attribute(n) else s for s, n in zip(inputs, _TURNED, strict=True))
    batch = np.broadcast_shapes(left[:-2], right[:-2])
    return left[-1] == right[-2] and outputs[0] == (*batch, left[-2], right[-1])


def _dense(_node: Node, inputs: Shapes, outputs: Shapes) -> bool:
    return outputs[0][:-1] == inputs[0][:-1]


def _embedding(_node: Node, inputs: Shapes, outputs: Shapes) -> bool:
    return outputs[0][:-1] == inputs[0]


def _conv(node: Node, inputs: Shapes, outputs: Shapes) -> bool:
    return inputs[0][0] == outputs[0][0] and _sizes(node, inputs[0]) == outputs[0][1:-1]


def _pool(node: Node, inputs: Shapes, outputs: Shapes) -> bool:
    return inputs[0][-1] == outputs[0][-1] and _conv(node, inputs, outputs)


def _sizes(node: Node, shape: Shape) -> Shape:
    """Return the size of what a window makes of images."""
    kernel, strides, dilations = (node.integers(name) for name in ("kernel", "strides", "dilations"))
    sizes = shape[1:-1]
    if not len(sizes) == len(kernel) == len(strides) == len(dilations):
        raise ValueError(shape)
    if node.attribute("padding") == "same":
        return tuple(-(-size // stride) for size, stride in zip(sizes, strides, strict=True))
    pads = (0,) * (2 * len(sizes)) if node.attribute("padding") == "valid" else node.integers("padding")
    return tuple(
        (size + pads[2 * i] + pads[2 * i + 1] - (kernel[i] - 1) * dilations[i] - 1) // strides[i] + 1
        for i, size in enumerate(sizes)
    )


def _transpose_conv(node: Node, inputs: Shapes, outputs: Shapes) -> bool:
    """Check that the convolution whose transposition this is makes its input of its output."""
    return inputs[0][0] == outputs[0][0] and _sizes(node, outputs[0]) == inputs[0][1:-1]


def _resize(_node: Node, inputs: Shapes, outputs: Shapes) -> bool:
    return len(inputs[0]) == len(outputs[0])


def _depth_to_space(node: Node, inputs: Shapes, outputs: Shapes) -> bool:
    (batch, height, width, channels), block = inputs[0], node.integer("block")
    return outputs[0] == (batch, height * block, width * block, channels // block**2) and channels % block**2 == 0


def _space_to_depth(node: Node, inputs: Shapes, outputs: Shapes) -> bool:
    return _depth_to_space(node, outputs, inputs)


_TURNED: Final = ("transpose_a", "transpose_b")
_UNARY: Final = (
    *("relu", "relu6", "relu_n1", "selu", "sigmoid", "tanh", "silu", "hard_swish", "hard_sigmoid", "mish"),
    *("softplus", "softsign", "exp", "log", "sqrt", "rsqrt", "square", "reciprocal", "abs", "neg", "sign"),
    *("floor", "ceil", "round", "sin", "cos", "erf", "logical_not", "cast", "quantize", "dequantize", "zero"),
    *("leaky_relu", "elu", "gelu", "clip", "l2_normalize", "local_response_norm"),
    *("batch_norm", "normalization", "layer_norm", "instance_norm", "group_norm", "rms_norm"),
)
_N_ARY: Final = (
    *("add", "sub", "mul", "div", "maximum", "minimum", "power", "squared_difference", "floor_div", "floor_mod"),
    *("equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "logical_and", "logical_or", "where"),
)

_RULES: Mapping[str, Rule] = MappingProxyType(
    {
        **dict.fromkeys(_UNARY, _same),
        **dict.fromkeys(_N_ARY, _broadcast),
        **dict.fromkeys(("scale", "shift", "prelu"), _scaled),
        **dict.fromkeys(("softmax", "log_softmax", "cumsum"), _along),
        **dict.fromkeys(("reverse", "roll"), _along_axes),
        **dict.fromkeys(("mean", "sum", "prod", "reduce_max", "reduce_min"), _reduction),
        **{"argmax": _position, "argmin": _position, "reshape": _reshape, "transpose": _transpose},
        **{"concat": _concat, "split": _split, "stack": _stack, "unstack": _unstack, "slice": _slice, "pad": _pad},
        **{"tile": _tile, "gather": _gather, "broadcast_to": _broadcast_to, "resize": _resize},
        **{"matmul": _matmul, "fully_connected": _dense, "embedding": _embedding},
        **dict.fromkeys(("conv1d", "conv2d", "conv3d", "depthwise_conv2d"), _conv),
        **{f"{kind}_pool{rank}d": _pool for kind in ("avg", "max") for rank in (1, 2, 3)},
        **{"transpose_conv2d": _transpose_conv, "depth_to_space": _depth_to_space, "space_to_depth": _space_to_depth},
    }
)
