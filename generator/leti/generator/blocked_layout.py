"""Which operators ONNX Runtime runs on tensors whose channels lie in blocks (NCHWc), where more of them fuse.

A model of onnxruntime/core/optimizer/nchwc_transformer.cc, which runs at the default level of optimisation: it begins
at convolutions and pools and goes on through what can follow them in the same layout. Blocks are of 16 channels on
processors with AVX-512, as is assumed here, and of 8 with AVX2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from leti.core.graph import Op

BLOCK: Final = 16
_ALIGNMENT: Final = 4  # channels; what the reordering of an input needs


def blocked_operators(ops: Sequence[Op], wiring: Sequence[tuple[int, ...]], inputs: int) -> frozenset[int]:
    """Return the numbers of the operators that write their output in blocks of channels."""
    blocked_values = [False] * inputs
    found = set()
    for i, (op, sources) in enumerate(zip(ops, wiring, strict=True)):
        follows = _FOLLOWS.get(op.kind)
        blocked = follows is not None and follows(op, [blocked_values[source] for source in sources])
        blocked_values += [blocked] * len(op.outputs)
        if blocked:
            found.add(i)
    return frozenset(found)


def _channels(op: Op) -> tuple[int, int]:
    return op.inputs[0].shape[-1], op.outputs[0].shape[-1]


def _conv(op: Op, _read: Sequence[bool]) -> bool:
    made_of, made = _channels(op)
    groups = op.get("groups", 1)
    if isinstance(groups, int) and groups > 1:
        return made_of // groups % BLOCK == 0 and made // groups % BLOCK == 0
    return made_of < BLOCK or made_of % _ALIGNMENT == 0


def _depthwise(op: Op, _read: Sequence[bool]) -> bool:
    made_of, made = _channels(op)
    return made_of == made and made % _ALIGNMENT == 0


def _scale(op: Op, read: Sequence[bool]) -> bool:
    """Return whether a multiplication a channel becomes a convolution of each channel for itself."""
    return read[0] and not op.get("constant", ())


def _pool(op: Op, read: Sequence[bool]) -> bool:
    return read[0] or _channels(op)[0] % BLOCK == 0


def _elementwise(op: Op, read: Sequence[bool]) -> bool:
    return all(read) and len(set(op.inputs)) == 1


def _concat(op: Op, read: Sequence[bool]) -> bool:
    by_channels = op["axis"] == len(op.outputs[0].shape) - 1
    return all(read) and by_channels and all(t.shape[-1] % BLOCK == 0 for t in op.inputs)


_FOLLOWS: Final[Mapping[str, Callable[[Op, Sequence[bool]], bool]]] = {
    "conv2d": _conv,
    "depthwise_conv2d": _depthwise,
    "scale": _scale,
    "max_pool2d": _pool,
    "avg_pool2d": _pool,
    **dict.fromkeys(("relu", "sigmoid", "tanh", "hard_swish", "hard_sigmoid", "add", "mul"), _elementwise),
    "concat": _concat,
}
