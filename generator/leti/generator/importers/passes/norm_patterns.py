"""Norms that are spelled out with means and roots, as TensorFlow, Keras, PyTorch and their exporters write them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from leti.core.graph import Attribute
from leti.generator.importers.draft import Constant, Node, weight_dtype
from leti.generator.importers.passes.matching import Build, Form, Found, Known, Term, Value, either, form
from leti.generator.importers.passes.rewrite import Rewrite

_X: Final = Value("x")
_MEAN = form("mean", _X, name="mean")
_CENTERED = form("sub", _X, _MEAN)


def _squared(term: Term) -> tuple[Form, Form]:
    return form("square", term), form("mul", term, term)


_VARIANCE = either(
    form("mean", either(form("squared_difference", _X, _MEAN), *_squared(_CENTERED)), name="variance"),
    form("sub", form("mean", either(*_squared(_X)), name="variance"), either(*_squared(_MEAN))),
)
_POWER = form("mean", either(*_squared(_X)), name="variance")


def _inverse(variance: Term) -> tuple[Form, ...]:
    """Return the inverse of a root of a variance, alone and with the scale of the norm."""
    root = form("rsqrt", form("shift", variance, number="epsilon"))
    return form("mul", root, Known("scale")), form("scale", root, name="scale"), root


def _root(variance: Term) -> Form:
    return form("sqrt", form("shift", variance, number="epsilon"))


_FACTOR = either(*_inverse(_VARIANCE))
_OFFSET = either(form("mul", form("neg", _MEAN), _FACTOR), form("neg", form("mul", _MEAN, _FACTOR)))
_SCALED = form("mul", _X, _FACTOR)

_LAYER_NORMS: Final[Sequence[Form]] = (
    form("mul", _CENTERED, _FACTOR),
    form("div", _CENTERED, _root(_VARIANCE)),
    form("sub", _SCALED, form("mul", _MEAN, _FACTOR)),
    form(
        "add",
        _SCALED,
        either(
            form("shift", _OFFSET, name="center"),
            form("add", _OFFSET, Known("center")),
            form("sub", Known("center"), form("mul", _MEAN, _FACTOR)),
            _OFFSET,
        ),
    ),
)
_RMS_NORMS: Final[Sequence[Form]] = (
    form("mul", _X, either(*_inverse(_POWER))),
    form("div", _X, _root(_POWER)),
)


def _to_norm(rewrite: Rewrite, node: Node, found: Found) -> bool:
    """Build the norm that takes its statistics over the axes found: a layer's, or an image's."""
    value = found.values["x"]
    shape = rewrite.shape(value)
    axes = _axes(found)
    kinds: dict[tuple[int, ...], str] = {(len(shape) - 1,): "layer_norm"}
    if len(shape) > 2:
        kinds[*range(1, len(shape) - 1)] = "instance_norm"
    kind = kinds.get(axes) if axes is not None else None
    weights = _affine(found, shape[-1])
    if kind is None or weights is None or rewrite.shape(node.outputs[0]) != shape:
        return False
    rewrite.replace(node, kind, rewrite.values[value], _attributes(rewrite, node, found, weights), weights)
    return True


def _to_group_norm(rewrite: Rewrite, node: Node, found: Found) -> bool:
    """Build the norm of groups of channels, which is spelled out between two reshapes."""
    before = rewrite.maker(found.values["x"], "reshape")
    if before is None:
        return False
    (value,) = before.inputs
    shape, grouped = rewrite.shape(value), rewrite.shape(found.values["x"])
    expected = (*range(1, len(grouped) - 2), len(grouped) - 1)
    pixels = (grouped[0], math.prod(grouped[1:-2])), (shape[0], math.prod(shape[1:-1]))
    fits = len(shape) > 2 and pixels[0] == pixels[1] and rewrite.shape(node.outputs[0]) == shape
    weights = _affine(found, shape[-1])
    if not fits or _axes(found) != expected or weights is None:
        return False
    attributes = {**_attributes(rewrite, node, found, weights), "groups": grouped[-2]}
    rewrite.replace(node, "group_norm", rewrite.values[value], attributes, weights)
    return True


def _to_rms_norm(rewrite: Rewrite, node: Node, found: Found) -> bool:
    value = found.values["x"]
    shape = rewrite.shape(value)
    weights = _affine(found, shape[-1])
    if _axes(found) != (len(shape) - 1,) or weights is None or rewrite.shape(node.outputs[0]) != shape:
        return False
    attributes = _attributes(rewrite, node, found, weights)
    del attributes["center"]
    rewrite.replace(node, "rms_norm", rewrite.values[value], attributes, weights)
    return True


def _axes(found: Found) -> tuple[int, ...] | None:
    """Return the axes of all statistics, if they are the same and their dimensions kept."""
    reductions = [found.nodes[name] for name in ("mean", "variance") if name in found.nodes]
    axes = {reduction.integers("axes") for reduction in reductions}
    return min(axes) if len(axes) == 1 and all(reduction.attribute("keep_dims") for reduction in reductions) else None


def _affine(found: Found, channels: int) -> tuple[Constant, ...] | None:
    """Return scale and center, what there is of them, if they are one value a channel."""
    given = [found.nodes[name].weights[0] for name in ("scale", "center") if name in found.nodes]
    if any(math.prod(weight.shape) != channels for weight in given):
        return None
    return tuple(weight.reshaped((channels,)) for weight in given)


def _attributes(rewrite: Rewrite, node: Node, found: Found, weights: Sequence[Constant]) -> dict[str, Attribute]:
    return {
        "epsilon": found.numbers["epsilon"],
        "scale": "scale" in found.nodes,
        "center": "center" in found.nodes,
        "weight_dtype": _stored(rewrite, node, weights),
    }


def _stored(rewrite: Rewrite, node: Node, weights: Sequence[Constant]) -> str:
    """Return what a norm in the place of a node says of the data type of its weights, if it has any."""
    return weight_dtype(weights[0], rewrite.old.types[node.outputs[0]]) if weights else ""


def _to_affine(name: str) -> Build:
    """Return what takes a multiplication or an addition after a norm into the norm."""

    def build(rewrite: Rewrite, node: Node, found: Found) -> bool:
        norm = found.nodes["norm"]
        channels = rewrite.shape(norm.outputs[0])[-1]
        later = name == "scale" and norm.attribute("center")
        if norm.attribute(name) or later or node.weights[0].shape != (channels,):
            return False
        weights = (*norm.weights, node.weights[0])
        attributes = {**norm.attributes, name: True, "weight_dtype": _stored(rewrite, node, weights)}
        rewrite.replace(node, norm.kind, rewrite.values[norm.inputs[0]], attributes, weights)
        return True

    return build


def _after(kind: str, *norms: str) -> tuple[Form, ...]:
    return tuple(form(kind, form(norm, _X, name="norm")) for norm in norms)


NORM_PATTERNS: Final[Sequence[tuple[Sequence[Form], Build]]] = (
    (_LAYER_NORMS, _to_norm),
    (tuple(form("reshape", norm) for norm in _LAYER_NORMS), _to_group_norm),
    (_RMS_NORMS, _to_rms_norm),
    (_after("scale", "layer_norm", "instance_norm", "group_norm", "rms_norm"), _to_affine("scale")),
    (_after("shift", "layer_norm", "instance_norm", "group_norm"), _to_affine("center")),
)
"""The forms of each norm, and what builds it."""
