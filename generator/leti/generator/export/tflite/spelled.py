"""TFLite forms of activations and norms, most of them spelled out as the TensorFlow converter does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from leti.core.extras import needs
from leti.generator.cost import MAX_FLOAT32
from leti.generator.export.tflite.site import Form, Site
from leti.generator.export.tflite.writer import options
from leti.generator.weights import weight_names

with needs("export"):
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772

_ERF = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
_ERF_SLOPE = 0.3275911
"""Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: off by 1.5e-7 at most."""


def _arithmetic(builtin: str, table: str) -> Callable[[Site, int, int], int]:
    def place(site: Site, left: int, right: int) -> int:
        shape = np.broadcast_shapes(site.shape_of(left), site.shape_of(right))
        return site.emit(builtin, (left, right), tuple(shape), options=options(table))

    return place


add = _arithmetic("ADD", "AddOptions")
sub = _arithmetic("SUB", "SubOptions")
mul = _arithmetic("MUL", "MulOptions")
div = _arithmetic("DIV", "DivOptions")


def unary(site: Site, builtin: str, value: int) -> int:
    """Place a builtin operator of one operand and no options."""
    return site.emit(builtin, (value,), site.shape_of(value))


def _select_positive(site: Site, positive: int, negative: int) -> int:
    (value,) = site.inputs
    condition = site.emit("GREATER", (value, site.number(0.0)), dtype="bool")
    return site.emit("SELECT", (condition, positive, negative))


def reduce(site: Site, builtin: str, value: int, axes: Sequence[int], *, keep_dims: bool = True) -> int:
    """Place a reduction."""
    shape = tuple(1 if i in axes else size for i, size in enumerate(site.shape_of(value)))
    if not keep_dims:
        shape = tuple(size for i, size in enumerate(site.shape_of(value)) if i not in axes)
    made = options("ReducerOptions", keepDims=keep_dims)
    return site.emit(builtin, (value, site.integers(axes)), shape, options=made)


# --- activations -----------------------------------------------------------------------------------------------------


def _silu(site: Site) -> int:
    return mul(site, site.inputs[0], unary(site, "LOGISTIC", site.inputs[0]))


def _hard_sigmoid(site: Site) -> int:
    raised = add(site, site.inputs[0], site.number(3.0))
    return mul(site, unary(site, "RELU6", raised), site.number(1 / 6))


def _softplus(site: Site) -> int:
    return unary(site, "LOG", add(site, unary(site, "EXP", site.inputs[0]), site.number(1.0)))


def _mish(site: Site) -> int:
    return mul(site, site.inputs[0], unary(site, "TANH", _softplus(site)))


def _softsign(site: Site) -> int:
    (value,) = site.inputs
    return div(site, value, add(site, unary(site, "ABS", value), site.number(1.0)))


def _selu(site: Site) -> int:
    (value,) = site.inputs
    positive = mul(site, value, site.number(SELU_SCALE))
    exponential = sub(site, unary(site, "EXP", value), site.number(1.0))
    return _select_positive(site, positive, mul(site, exponential, site.number(SELU_SCALE * SELU_ALPHA)))


def _elu(site: Site) -> int:
    (value,) = site.inputs
    made, alpha = unary(site, "ELU", value), site.op.number("alpha", 1.0)
    return made if alpha == 1.0 else _select_positive(site, value, mul(site, made, site.number(alpha)))


def _clip(site: Site) -> int:
    (value,) = site.inputs
    low, high = site.op.number("low"), site.op.number("high")
    made = options("MaximumMinimumOptions")
    if high < MAX_FLOAT32:
        value = site.emit("MINIMUM", (value, site.number(high)), options=made)
    if low > -MAX_FLOAT32:
        value = site.emit("MAXIMUM", (value, site.number(low)), options=made)
    return value


def _reciprocal(site: Site) -> int:
    return div(site, site.number(1.0), site.inputs[0])


def _erf(site: Site) -> int:
    (value,) = site.inputs
    slope = mul(site, unary(site, "ABS", value), site.number(_ERF_SLOPE))
    inverse = div(site, site.number(1.0), add(site, slope, site.number(1.0)))
    total = mul(site, inverse, site.number(_ERF[0]))
    for coefficient in _ERF[1:]:
        total = mul(site, add(site, total, site.number(coefficient)), inverse)
    falling = unary(site, "EXP", unary(site, "NEG", mul(site, value, value)))
    return mul(site, unary(site, "SIGN", value), sub(site, site.number(1.0), mul(site, total, falling)))


def _softmax(builtin: str, table: str, **values: float) -> Form:
    """Return a form over the last axis, to which any other is moved."""

    def form(site: Site) -> int:
        (value,), axis = site.inputs, site.op.integer("axis")
        if axis == site.rank - 1:
            return site.emit(builtin, options=options(table, **values))
        perm = [*range(site.rank)]
        perm[axis], perm[-1] = perm[-1], perm[axis]  # its own inverse
        shape = tuple(site.shape[i] for i in perm)
        value = site.emit("TRANSPOSE", (value, site.integers(perm)), shape)
        value = site.emit(builtin, (value,), shape, options=options(table, **values))
        return site.emit("TRANSPOSE", (value, site.integers(perm)))

    return form


# --- norms -----------------------------------------------------------------------------------------------------------


def _affine(site: Site) -> tuple[int | None, int | None]:
    """Return a norm's scale and offset, where it has them."""
    names = weight_names(site.op)
    scale = site.weight(names.index("scale")) if "scale" in names else None
    return scale, site.weight(names.index("center")) if "center" in names else None


def _inverse_deviation(site: Site, variance: int) -> int:
    return unary(site, "RSQRT", add(site, variance, site.number(site.op.number("epsilon"))))


def _standardise(site: Site, value: int, axes: Sequence[int], scale: int | None, offset: int | None) -> int:
    """Place ``value * inverse + (offset - mean * inverse)``, the order of tf.nn.batch_normalization."""
    mean = reduce(site, "MEAN", value, axes)
    squares = site.emit("SQUARED_DIFFERENCE", (value, mean), site.shape_of(value))
    inverse = _inverse_deviation(site, reduce(site, "MEAN", squares, axes))
    if scale is not None:
        inverse = mul(site, inverse, scale)
    shifted = mul(site, mean, inverse)
    if offset is None:
        return sub(site, mul(site, value, inverse), shifted)
    return add(site, mul(site, value, inverse), sub(site, offset, shifted))


def _layer_norm(site: Site) -> int:
    return _standardise(site, site.inputs[0], (site.rank - 1,), *_affine(site))


def _instance_norm(site: Site) -> int:
    return _standardise(site, site.inputs[0], range(1, site.rank - 1), *_affine(site))


def _group_norm(site: Site) -> int:
    groups, (batch, *sizes, channels) = site.op.integer("groups"), site.shape
    value = site.reshape(site.inputs[0], (batch, int(np.prod(sizes)), groups, channels // groups))
    value = site.reshape(_standardise(site, value, (1, 3), None, None), site.shape)
    scale, offset = _affine(site)
    value = value if scale is None else mul(site, value, scale)
    return value if offset is None else add(site, value, offset)


def _rms_norm(site: Site) -> int:
    (value,), (scale, offset) = site.inputs, _affine(site)
    mean = reduce(site, "MEAN", site.emit("SQUARE", (value,)), (site.rank - 1,))
    value = mul(site, value, _inverse_deviation(site, mean))
    value = value if scale is None else mul(site, value, scale)
    return value if offset is None else add(site, value, offset)


def _batch_norm(site: Site) -> int:
    """Place the multiplication and the addition that a batch norm with fixed statistics is."""
    weights = {name: site.values(i) for i, name in enumerate(weight_names(site.op))}
    scale = weights.get("scale", np.float32(1)) / np.sqrt(weights["variance"] + np.float32(site.op.number("epsilon")))
    offset = weights.get("center", np.float32(0)) - weights["mean"] * scale
    return _scaled(site, scale, offset)


def _normalization(site: Site) -> int:
    mean, variance = site.values(0), site.values(1)
    scale = 1 / np.maximum(np.sqrt(variance), np.float32(1e-7))  # Keras's own guard against a variance of zero
    return _scaled(site, scale, -mean * scale)


def _scaled(site: Site, scale: object, offset: object) -> int:
    value = mul(site, site.inputs[0], site.constant(np.asarray(scale, np.float32)))
    return add(site, value, site.constant(np.asarray(offset, np.float32)))


def _local_response_norm(site: Site) -> int:
    made = options(
        "LocalResponseNormalizationOptions",
        radius=site.op.integer("radius"),
        bias=site.op.number("bias", 1.0),
        alpha=site.op.number("alpha"),
        beta=site.op.number("beta"),
    )
    return site.emit("LOCAL_RESPONSE_NORMALIZATION", options=made)


def _l2_normalize(site: Site) -> int:
    (value,), axes = site.inputs, site.op.integers("axes")
    if axes == (site.rank - 1,):
        made = options("L2NormOptions", fusedActivationFunction=schema.ActivationFunctionType.NONE)
        return site.emit("L2_NORMALIZATION", options=made)
    total = reduce(site, "SUM", site.emit("SQUARE", (value,)), axes)
    floor = site.number(1e-12)  # of tf.math.l2_normalize
    total = site.emit("MAXIMUM", (total, floor), site.shape_of(total), options=options("MaximumMinimumOptions"))
    return mul(site, value, unary(site, "RSQRT", total))


SPELLED_FORMS: Mapping[str, Form] = {
    "silu": _silu,
    "hard_sigmoid": _hard_sigmoid,
    "softplus": _softplus,
    "mish": _mish,
    "softsign": _softsign,
    "selu": _selu,
    "elu": _elu,
    "clip": _clip,
    "reciprocal": _reciprocal,
    "erf": _erf,
    "softmax": _softmax("SOFTMAX", "SoftmaxOptions", beta=1.0),
    "log_softmax": _softmax("LOG_SOFTMAX", "LogSoftmaxOptions"),
    "layer_norm": _layer_norm,
    "instance_norm": _instance_norm,
    "group_norm": _group_norm,
    "rms_norm": _rms_norm,
    "batch_norm": _batch_norm,
    "normalization": _normalization,
    "local_response_norm": _local_response_norm,
    "l2_normalize": _l2_normalize,
}
