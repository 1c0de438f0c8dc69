"""ONNX forms of reductions, and of what moves data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leti.core.extras import needs
from leti.generator.export.layouts import reshaped, transposed
from leti.generator.export.onnx.site import Form, Site, Write, element_of
from leti.generator.orders import identity, permuted

with needs("import-onnx"):
    import numpy as np

_TO_START = -(2**63) + 1  # as the end of a slice that goes backwards


# --- reductions ------------------------------------------------------------------------------------------------------


def _reduction(op_type: str) -> Write:
    def write(site: Site) -> str:
        keep = bool(site.op.get("keep_dims", False))
        if not keep:
            site.leave_out(site.op.integers("axes"))
        return site.node(op_type, site.read(), site.integers(site.axes()), keepdims=int(keep))

    return write


def _arg(op_type: str) -> Write:
    def write(site: Site) -> str:
        keep = bool(site.op.get("keep_dims", False))
        if not keep:
            site.leave_out((site.op.integer("axis"),))
        return _indices(site, site.node(op_type, site.read(), axis=site.axis(), keepdims=int(keep)), 0)

    return write


def _indices(site: Site, name: str, output: int) -> str:
    """Return positions, which ONNX makes as int64, in the graph's data type."""
    dtype = site.op.outputs[output].dtype
    return name if dtype == "int64" else site.node("Cast", name, to=element_of(dtype))


def _along(op_type: str, **attributes: Any) -> Write:
    return lambda site: site.node(op_type, *site.reads(), axis=site.axis(), **attributes)


def _l2_normalize(site: Site) -> str:
    read, written = site.read(), site.axes()
    if len(written) == 1:
        return site.node("LpNormalization", read, axis=written[0], p=2)
    return site.node("Div", read, site.node("ReduceL2", read, site.integers(written), keepdims=1))


# --- where data goes -------------------------------------------------------------------------------------------------


def _split(site: Site) -> tuple[str, ...]:
    sizes = [made.shape[site.op.integer("axis")] for made in site.op.outputs]
    reads = (site.read(), site.integers(sizes))
    return site.values.node_of("Split", reads, len(sizes), {"axis": site.axis()})


def _stack(site: Site) -> str:
    axes = site.integers([site.op.integer("axis")])
    parts = [site.node("Unsqueeze", read, axes) for read in site.reads()]
    return site.node("Concat", *parts, axis=site.op.integer("axis"))


def _unstack(site: Site) -> tuple[str, ...]:
    axis, count = site.op.integer("axis"), len(site.op.outputs)
    reads = (site.read(), site.integers([1] * count))
    parts = site.values.node_of("Split", reads, count, {"axis": axis})
    return tuple(site.node("Squeeze", part, site.integers([axis])) for part in parts)


def _slice(site: Site) -> str:
    begin = site.op.integers("begin", ()) or (0,) * site.rank
    strides = site.op.integers("strides", ()) or (1,) * site.rank
    reads: list[list[int]] = [[], [], [], []]
    for place, axis in enumerate(site.order):
        start, step, count = begin[axis], strides[axis], site.made.shape[axis]
        if (start, step, count) == (0, 1, site.op.inputs[0].shape[axis]):
            continue
        end = start + step * (count - 1) + (1 if step > 0 else -1)
        for numbers, number in zip(reads, (start, end if end >= 0 else _TO_START, place, step), strict=True):
            numbers.append(number)
    return (
        site.node("Slice", site.read(), *map(site.integers, reads)) if reads[0] else site.node("Identity", site.read())
    )


def _reverse(site: Site) -> str:
    axes = [site.order.index(axis) for axis in site.op.integers("axes")]
    sizes = [site.shape()[axis] for axis in axes]
    bounds = ([n - 1 for n in sizes], [_TO_START] * len(axes), axes, [-1] * len(axes))
    return site.node("Slice", site.read(), *map(site.integers, bounds))


def _roll(site: Site) -> str:
    """Write, for each axis, the two parts that change places."""
    name = site.read()
    for axis, shift in zip(site.op.integers("axes"), site.op.integers("shifts"), strict=True):
        size, place = site.made.shape[axis], site.order.index(axis)
        moved = shift % size
        if moved:
            bounds = ((size - moved, size), (0, size - moved))
            parts = [site.node("Slice", name, *(site.integers([n]) for n in (*bound, place))) for bound in bounds]
            name = site.node("Concat", *parts, axis=place)
    return name


def _broadcast_to(site: Site) -> str:
    return site.node("Expand", site.read(), site.integers(site.made.shape))


def _tile(site: Site) -> str:
    return site.node("Tile", site.read(), site.integers(permuted(site.op.integers("multiples"), site.order)))


_MODES = ("constant", "reflect", "edge")


def _pad(site: Site) -> str:
    pads, mode = site.op.integers("paddings"), str(site.op.get("mode", "constant"))
    if mode == "symmetric" and max(pads) <= 1:
        mode = "edge"  # what lies next to an edge, mirrored at it, is the edge
    if mode not in _MODES:
        raise site.refuse(f"it has no padding by {mode!r}")
    written = (*permuted(pads[::2], site.order), *permuted(pads[1::2], site.order))
    return site.node("Pad", site.read(), site.integers(written), site.number(site.op.number("value", 0.0)), mode=mode)


def _gather(site: Site) -> str:
    if site.op.integer("batch_dims", 0):
        raise site.refuse("it does not gather by batches")
    return site.node("Gather", *site.reads(), axis=site.op.integer("axis"))


def _embedding(site: Site) -> str:
    table = site.values.constant(site.weights[0].astype(site.made.dtype))
    return site.node("Gather", table, site.read(), axis=0)


def _gather_nd(site: Site) -> str:
    table, indices = site.reads()
    whole = indices if site.op.inputs[1].dtype == "int64" else site.node("Cast", indices, to=element_of("int64"))
    return site.node("GatherND", table, whole)


def _top_k(site: Site) -> tuple[str, ...]:
    count = site.integers([site.made.shape[-1]])
    values, indices = site.values.node_of("TopK", (site.read(), count), 2, {"axis": -1})
    return values, _indices(site, indices, 1)


def _one_hot(site: Site) -> str:
    axis = site.op.integer("axis")
    values = site.values.constant(np.asarray([0, 1]).astype(site.made.dtype))
    count = site.values.constant(
        np.asarray(site.made.shape[axis]).astype(site.dtype)
    )  # ONNX Runtime's kernels: as indices
    site.made_order = identity(site.rank + 1)
    return site.node("OneHot", site.read(), count, values, axis=axis)


def _cumsum(site: Site) -> str:
    flags = {name: int(bool(site.op.get(name, False))) for name in ("exclusive", "reverse")}
    return site.node("CumSum", site.read(), site.values.constant(np.asarray(site.axis(), np.int64)), **flags)


def _depth_to_space(site: Site) -> str:
    return site.node("DepthToSpace", site.read(), blocksize=site.op.integer("block"), mode="DCR")


def _space_to_depth(site: Site) -> str:
    return site.node("SpaceToDepth", site.read(), blocksize=site.op.integer("block"))


def _space_to_batch(site: Site) -> str:
    """Write padding, a reshape that tells blocks from what is in them, and one that puts the latter in the batch."""
    block, pads, shape = site.op.integers("block"), site.op.integers("paddings"), site.op.inputs[0].shape
    rank, count = len(shape), len(block)
    befores = [0, *pads[::2], *[0] * (rank - 1 - count)]
    afters = [0, *pads[1::2], *[0] * (rank - 1 - count)]
    sizes = [n + before + after for n, before, after in zip(shape, befores, afters, strict=True)]
    name = site.read()
    if any(pads):
        name = site.node("Pad", name, site.integers([*befores, *afters]), site.number(0))
    blocked = [n for i in range(count) for n in (sizes[1 + i] // block[i], block[i])]
    name = site.values.reshape(name, (shape[0], *blocked, *sizes[1 + count :]))
    inner, outer = [2 + 2 * i for i in range(count)], [1 + 2 * i for i in range(count)]
    rest = range(1 + 2 * count, rank + count)
    return site.values.reshape(site.node("Transpose", name, perm=[*inner, 0, *outer, *rest]), site.made.shape)


def _batch_to_space(site: Site) -> str:
    """Write the reverse of a move of blocks into the batch, and the slice that takes away what padding there was."""
    block, crops, shape = site.op.integers("block"), site.op.integers("crops"), site.op.inputs[0].shape
    rank, count = len(shape), len(block)
    batch = shape[0] // int(np.prod(block))
    name = site.values.reshape(site.read(), (*block, batch, *shape[1:]))
    mixed = [n for i in range(count) for n in (count + 1 + i, i)]
    name = site.node("Transpose", name, perm=[count, *mixed, *range(2 * count + 1, rank + count)])
    sizes = [shape[1 + i] * block[i] for i in range(count)]
    name = site.values.reshape(name, (batch, *sizes, *shape[1 + count :]))
    if not any(crops):
        return name
    ends = [size - after for size, after in zip(sizes, crops[1::2], strict=True)]
    return site.node("Slice", name, *map(site.integers, (crops[::2], ends, range(1, count + 1))))


_METHODS = {"nearest": "nearest", "bilinear": "linear", "bicubic": "cubic"}


def _resize(site: Site) -> str:
    method, coordinates = _METHODS.get(str(site.op["method"])), str(site.op.get("coordinates", "half_pixel"))
    if method is None or coordinates not in ("half_pixel", "align_corners", "asymmetric"):
        raise site.refuse(f"it has no resize by {site.op['method']!r}, {coordinates!r}")
    attributes = {"mode": method, "coordinate_transformation_mode": coordinates}
    if method == "nearest":
        attributes["nearest_mode"] = "floor" if coordinates == "asymmetric" else "round_prefer_ceil"
    return site.node("Resize", site.read(), "", "", site.integers(site.shape()), **attributes)


MOVES: Mapping[str, Form] = {
    "mean": Form("free", _reduction("ReduceMean")),
    "sum": Form("free", _reduction("ReduceSum")),
    "prod": Form("free", _reduction("ReduceProd")),
    "reduce_max": Form("free", _reduction("ReduceMax")),
    "reduce_min": Form("free", _reduction("ReduceMin")),
    "argmax": Form("free", _arg("ArgMax")),
    "argmin": Form("free", _arg("ArgMin")),
    "softmax": Form("free", _along("Softmax")),
    "log_softmax": Form("free", _along("LogSoftmax")),
    "l2_normalize": Form("free", _l2_normalize),
    "concat": Form("free", _along("Concat")),
    "split": Form("free", _split),
    "stack": Form("last", _stack),
    "unstack": Form("last", _unstack),
    "slice": Form("free", _slice),
    "reverse": Form("free", _reverse),
    "roll": Form("free", _roll),
    "reshape": Form("last", reshaped),
    "transpose": Form("last", transposed),
    "broadcast_to": Form("last", _broadcast_to),
    "tile": Form("free", _tile),
    "pad": Form("free", _pad),
    "gather": Form("last", _gather),
    "embedding": Form("last", _embedding),
    "gather_nd": Form("last", _gather_nd),
    "top_k": Form("last", _top_k),
    "one_hot": Form("last", _one_hot),
    "cumsum": Form("free", _cumsum),
    "depth_to_space": Form("first", _depth_to_space),
    "space_to_depth": Form("first", _space_to_depth),
    "space_to_batch": Form("last", _space_to_batch),
    "batch_to_space": Form("last", _batch_to_space),
    "resize": Form("first", _resize),
}
"""How reductions and what moves data are written."""
