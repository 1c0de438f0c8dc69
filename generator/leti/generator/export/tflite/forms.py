"""TFLite forms: how each kind of operator stands in a model file. A row of :data:`FORMS` a kind.

Most are one builtin operator; what LiteRT has no builtin for is spelled out as the TensorFlow converter spells it. What
comes back from a file that is spelled out depends on the patterns that the importer knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from leti.core.errors import InvalidGraph
from leti.core.extras import needs
from leti.core.graph import Op, TensorType
from leti.generator.export.tflite.site import Form, Site
from leti.generator.export.tflite.spelled import SPELLED_FORMS, mul, reduce
from leti.generator.export.tflite.windows import WINDOW_FORMS, pad
from leti.generator.export.tflite.writer import options

with needs("export"):
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema


def _builtin(name: str, table: str = "", **values: Any) -> Form:
    """Return the form that is one builtin operator on the same inputs."""
    return lambda site: site.emit(name, options=options(table, **values) if table else None)


def _with_constant(name: str, table: str = "") -> Form:
    """Return the form of an operator of a value and a weight; one number is a scalar, as the converter writes it."""

    def form(site: Site) -> int:
        scalar = site.op.get("constant", ()) == (1,)
        weight = site.weight(0, () if scalar else None)
        return site.emit(name, (*site.inputs, weight), options=options(table) if table else None)

    return form


def _zero(site: Site) -> int:
    return mul(site, site.inputs[0], site.number(0.0))


def _embedding(site: Site) -> int:
    """Place a look-up of rows; rows of whole numbers are dequantised once they are found."""
    made = options("GatherOptions")
    rows = site.emit("GATHER", (site.weight(0), *site.inputs), options=made)
    return rows


def _constant(site: Site) -> int:
    dtype = site.op.outputs[0].dtype
    return site.weight(0) if dtype in ("float32", "int8") else site.constant(site.values(0).astype(dtype))


def _reduction(name: str) -> Form:
    def form(site: Site) -> int:
        axes = site.op.integers("axes")
        return reduce(site, name, site.inputs[0], axes, keep_dims=bool(site.op.get("keep_dims", False)))

    return form


def _position(name: str) -> Form:
    """Return the form of argmax or argmin; LiteRT's always drop the axis."""

    def form(site: Site) -> int:
        axis, shape, dtype = site.op.integer("axis"), site.op.inputs[0].shape, site.op.outputs[0].dtype.upper()
        made = options(f"{name.title().replace('_', '')}Options", outputType=getattr(schema.TensorType, dtype))
        reads = (site.inputs[0], site.integers(axis))
        return site.reshape(site.emit(name, reads, (*shape[:axis], *shape[axis + 1 :]), options=made), site.shape)

    return form


def _leaky_relu(site: Site) -> int:
    return site.emit("LEAKY_RELU", options=options("LeakyReluOptions", alpha=site.op.number("alpha")))


def _gelu(site: Site) -> int:
    return site.emit("GELU", options=options("GeluOptions", approximate=bool(site.op.get("approximate", False))))


def _where(site: Site) -> int:
    alike = {t.shape for t in site.op.inputs} == {site.shape}
    return site.emit("SELECT" if alike else "SELECT_V2")


# --- where data goes -------------------------------------------------------------------------------------------------


def _concat(site: Site) -> int:
    return site.emit("CONCATENATION", options=options("ConcatenationOptions", axis=site.op.integer("axis")))


def _split(site: Site) -> tuple[int, ...]:
    axis, made, (value,) = site.op.integer("axis"), site.op.outputs, site.inputs
    sizes = [t.shape[axis] for t in made]
    if len(set(sizes)) == 1:
        return site.emit_many(
            "SPLIT", (site.integers(axis), value), made, options=options("SplitOptions", numSplits=len(made))
        )
    reads = (value, site.integers(sizes), site.integers(axis))
    return site.emit_many("SPLIT_V", reads, made, options=options("SplitVOptions", numSplits=len(made)))


def _stack(site: Site) -> int:
    return site.emit("PACK", options=options("PackOptions", valuesCount=len(site.inputs), axis=site.op.integer("axis")))


def _unstack(site: Site) -> tuple[int, ...]:
    made = options("UnpackOptions", num=len(site.op.outputs), axis=site.op.integer("axis"))
    return site.emit_many("UNPACK", site.inputs, site.op.outputs, options=made)


def _slice(site: Site) -> int:
    """Place a slice; one of steps of one states no size, -1, where it takes all, as NAS-Bench-101's own code slices.

    It matters: LiteRT's XNNPACK delegate takes slices of stated sizes alone, and leaves these to the builtin operator.
    """
    whole, made = site.op.inputs[0].shape, site.shape
    begin = site.op.integers("begin", ()) or (0,) * site.rank
    strides = site.op.integers("strides", ()) or (1,) * site.rank
    if set(strides) == {1}:
        sizes = [-1 if part == size else part for part, size in zip(made, whole, strict=True)]
        return site.emit("SLICE", (*site.inputs, site.integers(begin), site.integers(sizes)))
    end = [
        start + step * (count - 1) + (1 if step > 0 else -1)
        for start, step, count in zip(begin, strides, made, strict=True)
    ]
    mask = sum(1 << i for i, place in enumerate(end) if place < 0)  # past the first element, which no number says
    reads = (*site.inputs, *(site.integers(values) for values in (begin, end, strides)))
    return site.emit("STRIDED_SLICE", reads, options=options("StridedSliceOptions", endMask=mask))


def _transpose(site: Site) -> int:
    return site.emit("TRANSPOSE", (*site.inputs, site.integers(site.op.integers("perm"))))


def _tile(site: Site) -> int:
    return site.emit("TILE", (*site.inputs, site.integers(site.op.integers("multiples"))))


def _broadcast_to(site: Site) -> int:
    return site.emit("BROADCAST_TO", (*site.inputs, site.integers(site.shape)))


_MIRRORED = {"reflect": "REFLECT", "symmetric": "SYMMETRIC"}


def _pad(site: Site) -> int:
    pads, mode = site.op.integers("paddings"), str(site.op.get("mode", "constant"))
    if mode == "constant":
        value = site.op.number("value", 0.0)
        return pad(site, site.inputs[0], pads, site.shape, value if value else None)
    if mode not in _MIRRORED:
        raise site.refuse(f"LiteRT has no padding by {mode!r}", "constant, reflect, symmetric")
    made = options("MirrorPadOptions", mode=getattr(schema.MirrorPadMode, _MIRRORED[mode]))
    return site.emit("MIRROR_PAD", (*site.inputs, site.integers(np.reshape(pads, (-1, 2)))), options=made)


def _gather(site: Site) -> int:
    batch_dims = site.op.integer("batch_dims", 0)
    return site.emit("GATHER", options=options("GatherOptions", axis=site.op.integer("axis"), batchDims=batch_dims))


def _requantized(site: Site) -> int:
    for tensor_type in (*site.op.inputs, *site.op.outputs):
        if tensor_type.dtype not in ("float32", "int8"):
            raise site.refuse(f"the scale of its {tensor_type.dtype} is not known", "export the float32 network anew")
    return site.emit(site.op.kind.upper())


def _square(site: Site) -> int:
    if site.op.outputs[0].dtype.startswith("float"):
        return site.emit("SQUARE")
    return site.emit("MUL", (*site.inputs, *site.inputs), options=options("MulOptions"))  # SQUARE takes floats alone


def _top_k(site: Site) -> tuple[int, ...]:
    reads, (values, indices) = (*site.inputs, site.integers(site.shape[-1])), site.op.outputs
    found = TensorType(indices.shape, "int32")  # LiteRT counts so
    made = site.emit_many("TOPK_V2", reads, (values, found), options=options("TopKV2Options"))
    if indices == found:
        return made
    return made[0], site.emit("CAST", made[1:], indices.shape, dtype=indices.dtype)


def _one_hot(site: Site) -> int:
    axis = site.op.integer("axis")
    reads = (*site.inputs, site.integers(site.shape[axis]), site.number(1.0), site.number(0.0))
    return site.emit("ONE_HOT", reads, options=options("OneHotOptions", axis=axis))


def _cumsum(site: Site) -> int:
    made = options(
        "CumsumOptions",
        exclusive=bool(site.op.get("exclusive", False)),
        reverse=bool(site.op.get("reverse", False)),
    )
    return site.emit("CUMSUM", (*site.inputs, site.integers(site.op.integer("axis"))), options=made)


def _reverse(site: Site) -> int:
    (value,) = site.inputs
    for axis in site.op.integers("axes"):
        value = site.emit("REVERSE_V2", (value, site.integers([axis])))
    return value


def _roll(site: Site) -> int:
    """Place, for each axis, the two parts that change places, as the converter does."""
    (value,), shape = site.inputs, site.shape
    for axis, shift in zip(site.op.integers("axes"), site.op.integers("shifts"), strict=True):
        moved = shift % shape[axis]
        if not moved:
            continue
        parts = []
        for start, size in ((shape[axis] - moved, moved), (0, shape[axis] - moved)):
            begin = [start if i == axis else 0 for i in range(len(shape))]
            part = tuple(size if i == axis else n for i, n in enumerate(shape))
            parts.append(site.emit("SLICE", (value, site.integers(begin), site.integers(part)), part))
        value = site.emit("CONCATENATION", parts, options=options("ConcatenationOptions", axis=axis))
    return value


def _block(name: str, table: str) -> Form:
    return lambda site: site.emit(name, options=options(table, blockSize=site.op.integer("block")))


def _batches(name: str, borders: str) -> Form:
    def form(site: Site) -> int:
        block = site.op.integers("block")
        return site.emit(
            name, (*site.inputs, site.integers(block), site.integers(np.reshape(site.op.integers(borders), (-1, 2))))
        )

    return form


_RESIZES = {"bilinear": "RESIZE_BILINEAR", "nearest": "RESIZE_NEAREST_NEIGHBOR"}


def _resize(site: Site) -> int:
    method, coordinates = str(site.op["method"]), str(site.op.get("coordinates", "half_pixel"))
    if method not in _RESIZES or coordinates not in ("half_pixel", "align_corners", "asymmetric") or site.rank != 4:
        raise site.refuse(f"LiteRT has no {method} resize of {coordinates} coordinates", ", ".join(_RESIZES))
    table = f"{_RESIZES[method].title().replace('_', '')}Options"
    made = options(table, alignCorners=coordinates == "align_corners", halfPixelCenters=coordinates == "half_pixel")
    return site.emit(_RESIZES[method], (*site.inputs, site.integers(site.shape[1:3])), options=made)


_PLAIN = {
    **{kind: kind.upper() for kind in ("relu", "relu6", "tanh", "hard_swish", "exp", "log", "sqrt", "rsqrt")},
    **{kind: kind.upper() for kind in ("abs", "neg", "sign", "floor", "ceil", "round", "sin", "cos", "gather_nd")},
    **{kind: kind.upper() for kind in ("cast", "squared_difference", "floor_div", "floor_mod")},
    **{kind: kind.upper() for kind in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")},
    **{kind: kind.upper() for kind in ("logical_and", "logical_or", "logical_not")},
    **{"relu_n1": "RELU_N1_TO_1", "sigmoid": "LOGISTIC", "power": "POW"},
}
_ARITHMETIC = {kind: (kind.upper(), f"{kind.title()}Options") for kind in ("add", "sub", "mul", "div")}
_EXTREMES = {kind: (kind.upper(), "MaximumMinimumOptions") for kind in ("maximum", "minimum")}
_REDUCTIONS = {
    **{"mean": "MEAN", "sum": "SUM", "prod": "REDUCE_PROD", "reduce_max": "REDUCE_MAX", "reduce_min": "REDUCE_MIN"},
}

FORMS: Mapping[str, Form] = MappingProxyType(
    {
        **WINDOW_FORMS,
        **SPELLED_FORMS,
        **{kind: _builtin(name) for kind, name in _PLAIN.items()},
        **{kind: _builtin(*row) for kind, row in (_ARITHMETIC | _EXTREMES).items()},
        **{kind: _reduction(name) for kind, name in _REDUCTIONS.items()},
        "quantize": _requantized,
        "dequantize": _requantized,
        "square": _square,
        "embedding": _embedding,
        "constant": _constant,
        "scale": _with_constant("MUL", "MulOptions"),
        "shift": _with_constant("ADD", "AddOptions"),
        "prelu": _with_constant("PRELU"),
        "zero": _zero,
        "argmax": _position("ARG_MAX"),
        "argmin": _position("ARG_MIN"),
        "leaky_relu": _leaky_relu,
        "gelu": _gelu,
        "where": _where,
        "concat": _concat,
        "split": _split,
        "stack": _stack,
        "unstack": _unstack,
        "slice": _slice,
        "reshape": lambda site: site.emit("RESHAPE", (*site.inputs, site.integers(site.shape))),
        "transpose": _transpose,
        "broadcast_to": _broadcast_to,
        "tile": _tile,
        "pad": _pad,
        "gather": _gather,
        "top_k": _top_k,
        "one_hot": _one_hot,
        "cumsum": _cumsum,
        "reverse": _reverse,
        "roll": _roll,
        "depth_to_space": _block("DEPTH_TO_SPACE", "DepthToSpaceOptions"),
        "space_to_depth": _block("SPACE_TO_DEPTH", "SpaceToDepthOptions"),
        "space_to_batch": _batches("SPACE_TO_BATCH_ND", "paddings"),
        "batch_to_space": _batches("BATCH_TO_SPACE_ND", "crops"),
        "resize": _resize,
    }
)
"""Every kind of operator that can be written."""


def form_of(op: Op) -> Form:
    """Return how an operator is written; raise :class:`InvalidGraph` where it has no TFLite form."""
    try:
        return FORMS[op.kind]
    except KeyError:
        raise InvalidGraph(
            f"{op.kind!r} has no TFLite form", field="kind", remedy="make the model of other operators"
        ) from None
