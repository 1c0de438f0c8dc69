"""Windows of one and of three dimensions, which formats write as windows of two between reshapes.

TensorFlow's own layers of one dimension are such convolutions and pools, and the only ones that TFLite has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from leti.core.graph import Attribute, TensorType
from leti.generator.cost import Shape, canonical_padding, same_padding
from leti.generator.importers.draft import Constant, Node
from leti.generator.importers.passes.matching import Build, Form, Found, Value, form
from leti.generator.importers.passes.rewrite import Rewrite

_X: Final = Value("x")
_ROWS: Final[Mapping[str, str]] = {"conv2d": "conv1d", "avg_pool2d": "avg_pool1d", "max_pool2d": "max_pool1d"}
_POOLS: Final[Mapping[str, str]] = {"avg_pool2d": "avg_pool3d", "max_pool2d": "max_pool3d"}


def _pads(rewrite: Rewrite, node: Node) -> Shape:
    """Return what is padded before and after each of the dimensions of a window, flat."""
    padding = node.attribute("padding")
    kernel, strides, dilations = (node.integers(name) for name in ("kernel", "strides", "dilations"))
    if padding == "same":
        return same_padding(rewrite.shape(node.inputs[0])[1:-1], kernel, strides, dilations)
    return (0,) * 2 * len(kernel) if padding == "valid" else node.integers("padding")


def _to_row(rewrite: Rewrite, node: Node, found: Found) -> bool:
    """Build the window over rows of one image line that a reshape made."""
    window, value = found.nodes["window"], found.values["x"]
    (batch, height, size, channels), made = rewrite.shape(value), rewrite.shape(window.outputs[0])
    kernel, strides, dilations = (window.integers(name) for name in ("kernel", "strides", "dilations"))
    pads = _pads(rewrite, window)
    alone = height == kernel[0] == strides[0] == 1 and not any(pads[:2])
    if rewrite.maker(value, "reshape") is None or not alone:
        return False
    padding = canonical_padding((size,), kernel[1:], strides[1:], dilations[1:], pads[2:])
    changes: dict[str, Attribute] = {
        "kernel": kernel[1:],
        "strides": strides[1:],
        "dilations": dilations[1:],
        "padding": padding,
    }
    weights = tuple(_without_height(weight) for weight in window.weights)
    dtype = rewrite.old.types[value].dtype
    _between_reshapes(
        rewrite,
        node,
        value,
        Node(_ROWS[window.kind], (), (), {**window.attributes, **changes}, weights, window.name),
        TensorType((batch, size, channels), dtype),
        TensorType((made[0], *made[2:]), dtype),
    )
    return True


def _without_height(weight: Constant) -> Constant:
    """Return filters ``(out, 1, width, in)`` as ``(out, width, in)``, and biases as they are."""
    return weight.reshaped((weight.shape[0], *weight.shape[2:])) if len(weight.shape) == 4 else weight


def _to_pool3d(rewrite: Rewrite, node: Node, found: Found) -> bool:
    """Build the pool of three dimensions that is one over height and width, then one over depth."""
    plane, column, value = found.nodes["plane"], found.nodes["column"], found.values["x"]
    images, height, width, channels = rewrite.shape(value)
    batch, depth, pixels, _ = rewrite.shape(column.inputs[0])
    made, out = rewrite.shape(plane.outputs[0]), rewrite.shape(column.outputs[0])
    upright = all(column.integers(name)[1] == 1 for name in ("kernel", "strides", "dilations"))
    if not upright or images != batch * depth or pixels != made[1] * made[2] or out[2] != pixels:
        return False
    if plane.attributes.get("count_padding") or column.attributes.get("count_padding"):
        return False
    kernel, strides, dilations = (
        (column.integers(name)[0], *plane.integers(name)) for name in ("kernel", "strides", "dilations")
    )
    pads = (*_pads(rewrite, column)[:2], *_pads(rewrite, plane))
    window: dict[str, Attribute] = {
        "kernel": kernel,
        "strides": strides,
        "dilations": dilations,
        "padding": canonical_padding((depth, height, width), kernel, strides, dilations, pads),
    }
    dtype = rewrite.old.types[value].dtype
    _between_reshapes(
        rewrite,
        node,
        value,
        Node(_POOLS[column.kind], (), (), window, (), column.name),
        TensorType((batch, depth, height, width, channels), dtype),
        TensorType((batch, out[1], *made[1:3], channels), dtype),
    )
    return True


def _between_reshapes(
    rewrite: Rewrite, node: Node, value: int, window: Node, read: TensorType, made: TensorType
) -> None:
    """Place a window instead of a node: on an old value in another shape, and what it makes as the node makes it."""
    new = rewrite.new.place("reshape", (rewrite.values[value],), read, name=window.name)
    new = rewrite.new.place(
        window.kind, (new,), made, weights=window.weights, name=window.name, **dict(window.attributes)
    )
    rewrite.replace(node, "reshape", new)


def _upright(kind: str) -> Form:
    return form(kind, form("reshape", form(kind, _X, name="plane")), name="column")


WINDOW_PATTERNS: Final[Sequence[tuple[Sequence[Form], Build]]] = (
    (tuple(form("reshape", _upright(kind)) for kind in _POOLS), _to_pool3d),
    (tuple(_upright(kind) for kind in _POOLS), _to_pool3d),  # whose last reshape another one has taken in
    (tuple(form("reshape", form(kind, _X, name="window")) for kind in _ROWS), _to_row),
)
"""The forms of each window, and what builds it."""
