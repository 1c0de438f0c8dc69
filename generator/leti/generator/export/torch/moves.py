"""PyTorch forms of reductions, and of what moves data."""

from __future__ import annotations

import math
from collections.abc import Mapping

from leti.core.extras import needs
from leti.core.graph import TensorType
from leti.generator.cost import Shape
from leti.generator.export.layouts import reshaped, transposed
from leti.generator.export.torch.program import Argument, Form, Site, Tensor, Write, pad
from leti.generator.orders import Order, channels_first, identity, permuted

with needs("export"):
    import numpy as np

# --- reductions ------------------------------------------------------------------------------------------------------


def _keeps(site: Site) -> bool:
    return bool(site.op.get("keep_dims", False))


def _reduction(target: str) -> Write:
    def write(site: Site) -> Tensor:
        if not _keeps(site):
            site.leave_out(site.op.integers("axes"))
        return site.node(target, self=site.read(), dim=site.axes(), keepdim=_keeps(site))

    return write


def _prod(site: Site) -> Tensor:
    """Write a product along one axis after the other, the last first."""
    made, keep = site.read(), _keeps(site)
    if not keep:
        site.leave_out(site.op.integers("axes"))
    for axis in reversed(site.axes()):
        shape = (*made.type.shape[:axis], *((1,) if keep else ()), *made.type.shape[axis + 1 :])
        made = site.node("prod.dim_int", TensorType(shape, made.type.dtype), self=made, dim=axis, keepdim=keep)
    return made


def _arg(target: str) -> Write:
    def write(site: Site) -> Tensor:
        if not _keeps(site):
            site.leave_out((site.op.integer("axis"),))
        found = TensorType(site.written().shape, "int64")
        made = site.node(target, found, self=site.read(), dim=site.axis(), keepdim=_keeps(site))
        return site.cast(made, site.made.dtype)

    return write


def _along(target: str) -> Write:
    return lambda site: site.node(target, self=site.read(), dim=site.axis())


def _l2_normalize(site: Site) -> Tensor:
    read, axes = site.read(), site.axes()
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(read.type.shape))
    said: dict[str, Argument] = {"ord": 2.0, "dim": axes, "keepdim": True}
    norm = site.node("linalg_vector_norm", TensorType(shape, read.type.dtype), self=read, **said)
    return site.node("div.Tensor", self=read, other=norm)


# --- parts -----------------------------------------------------------------------------------------------------------


def _joined(target: str) -> Write:
    return lambda site: site.node(target, tensors=site.reads(), dim=site.axis())


def _stack(site: Site) -> Tensor:
    return site.node("stack", tensors=site.reads(), dim=site.op.integer("axis"))


def _split(site: Site) -> tuple[Tensor, ...]:
    sizes = [made.shape[site.op.integer("axis")] for made in site.op.outputs]
    arguments: dict[str, Argument] = {"self": site.read(), "split_sizes": sizes, "dim": site.axis()}
    made = [site.written(i) for i in range(len(sizes))]
    return site.values.call("split_with_sizes", made, arguments, is_list=True)


def _unstack(site: Site) -> tuple[Tensor, ...]:
    arguments: dict[str, Argument] = {"self": site.read(), "dim": site.op.integer("axis")}
    return site.values.call("unbind.int", site.op.outputs, arguments, is_list=True)


def _slice(site: Site) -> Tensor:
    """Write a slice of one axis after the other; PyTorch has none that goes backwards, so such an axis is turned."""
    begin = site.op.integers("begin", ()) or (0,) * site.rank
    strides = site.op.integers("strides", ()) or (1,) * site.rank
    tensor = site.read()
    for place, axis in enumerate(site.order):
        start, step, count = begin[axis], strides[axis], site.made.shape[axis]
        shape = list(tensor.type.shape)
        if step < 0:
            tensor = site.node("flip", tensor.type, self=tensor, dims=(place,))
            start, step = shape[place] - 1 - start, -step
        if (start, step, count) != (0, 1, shape[place]):
            shape[place] = count
            bounds: dict[str, Argument] = {"start": start, "end": start + step * (count - 1) + 1, "step": step}
            made = TensorType(tuple(shape), tensor.type.dtype)
            tensor = site.node("slice.Tensor", made, self=tensor, dim=place, **bounds)
    return tensor


# --- where data goes -------------------------------------------------------------------------------------------------


def _reverse(site: Site) -> Tensor:
    return site.node("flip", self=site.read(), dims=site.axes())


def _roll(site: Site) -> Tensor:
    dims = [site.order.index(axis) for axis in site.op.integers("axes")]
    return site.node("roll", self=site.read(), shifts=site.op.integers("shifts"), dims=dims)


def _broadcast_to(site: Site) -> Tensor:
    return site.node("expand", self=site.read(), size=site.made.shape)


def _tile(site: Site) -> Tensor:
    return site.node("repeat", self=site.read(), repeats=permuted(site.op.integers("multiples"), site.order))


_MODES = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def _pad(site: Site) -> Tensor:
    pads, mode = site.op.integers("paddings"), str(site.op.get("mode", "constant"))
    if mode == "constant":
        before, after = permuted(pads[::2], site.order), permuted(pads[1::2], site.order)
        return pad(site.values, site.read(), before, after, mode, site.op.number("value", 0.0))
    if mode == "symmetric" and max(pads) <= 1:
        mode = "edge"  # what lies next to an edge, mirrored at it, is the edge
    if mode not in _MODES or not 3 <= site.rank <= 5 or any((*pads[:2], *pads[-2:])):
        raise site.refuse(f"it has no padding by {mode!r} of these dimensions")
    site.made_order = channels_first(site.rank)  # the last dimensions are the ones that are padded
    tensor = site.values.read(site.sources[0], site.made_order)
    return pad(site.values, tensor, pads[2:-2:2], pads[3:-2:2], _MODES[mode], None)


def _indexed(site: Site, table: Tensor, indices: list[Tensor | None]) -> Tensor:
    return site.node("index.Tensor", self=table, indices=indices)


def _gather(site: Site) -> Tensor:
    if site.op.integer("batch_dims", 0):
        raise site.refuse("it does not gather by batches")
    table, indices = site.reads()
    return _indexed(site, table, [*[None] * site.op.integer("axis"), indices])


def _gather_nd(site: Site) -> Tensor:
    table, indices = site.reads()
    *kept, count = indices.type.shape
    arguments: dict[str, Argument] = {"self": indices, "dim": len(kept)}
    made = [TensorType(tuple(kept), indices.type.dtype)] * count
    return _indexed(site, table, list(site.values.call("unbind.int", made, arguments, is_list=True)))


def _embedding(site: Site) -> Tensor:
    table = site.values.store(
        np.asarray(site.weights[0], site.made.dtype), f"embedding_{len(site.values.types)}", "weight", is_parameter=True
    )
    return site.node("embedding", weight=table, indices=site.read())


def _top_k(site: Site) -> tuple[Tensor, ...]:
    values, indices = site.op.outputs
    arguments: dict[str, Argument] = {"self": site.read(), "k": values.shape[-1], "dim": -1}
    made = site.values.call("topk", (values, TensorType(indices.shape, "int64")), arguments)
    return made[0], site.cast(made[1], indices.dtype)


def _one_hot(site: Site) -> Tensor:
    """Write a comparison with every index: ``torch.nn.functional.one_hot`` refuses one that there is not."""
    axis, read = site.op.integer("axis"), site.read()
    site.made_order = identity(site.rank + 1)
    shape = read.type.shape
    wide = site.node("unsqueeze", TensorType((*shape[:axis], 1, *shape[axis:]), read.type.dtype), self=read, dim=axis)
    numbers = np.arange(site.made.shape[axis]).reshape(-1, *[1] * (site.rank - axis))
    classes = site.buffer(numbers, "classes")
    equal = site.node("eq.Tensor", TensorType(site.made.shape, "bool"), self=wide, other=classes)
    return site.cast(equal, site.made.dtype)


def _cumsum(site: Site) -> Tensor:
    read, axis = site.read(), site.axis()
    backwards = bool(site.op.get("reverse", False))
    turned = site.node("flip", self=read, dims=(axis,)) if backwards else read
    made = site.node("cumsum", self=turned, dim=axis)
    made = site.node("flip", self=made, dims=(axis,)) if backwards else made
    return site.node("sub.Tensor", self=made, other=read) if site.op.get("exclusive", False) else made


# --- blocks ----------------------------------------------------------------------------------------------------------


def _regrouped(site: Site, tensor: Tensor, groups: Shape, perm: Order) -> Tensor:
    """Write dimensions taken apart, their parts in another order, and put together as the output has them."""
    program = site.values
    return program.reshape(program.transpose(program.reshape(tensor, groups), perm), site.written().shape)


def _depth_to_space(site: Site) -> Tensor:
    read, block = site.read(), site.op.integer("block")
    batch, channels, height, width = read.type.shape
    if channels == block**2:
        return site.node("pixel_shuffle", self=read, upscale_factor=block)
    groups = (batch, block, block, channels // block**2, height, width)  # PyTorch's has the blocks inside of channels
    return _regrouped(site, read, groups, (0, 3, 4, 1, 5, 2))


def _space_to_depth(site: Site) -> Tensor:
    read, block = site.read(), site.op.integer("block")
    batch, channels, height, width = read.type.shape
    if channels == 1:
        return site.node("pixel_unshuffle", self=read, downscale_factor=block)
    return _regrouped(site, read, (batch, channels, height // block, block, width // block, block), (0, 3, 5, 1, 2, 4))


def _space_to_batch(site: Site) -> Tensor:
    """Write padding, a reshape that tells blocks from what is in them, and one that puts the latter in the batch."""
    block, pads = site.op.integers("block"), site.op.integers("paddings")
    rank, count = site.rank, len(block)
    rest = [0] * (rank - 1 - count)
    read = site.padded(site.read(), [0, *pads[::2], *rest], [0, *pads[1::2], *rest])
    batch, *sizes = read.type.shape
    blocked = [n for i in range(count) for n in (sizes[i] // block[i], block[i])]
    inner, outer = [2 + 2 * i for i in range(count)], [1 + 2 * i for i in range(count)]
    perm = (*inner, 0, *outer, *range(1 + 2 * count, rank + count))
    return _regrouped(site, read, (batch, *blocked, *sizes[count:]), perm)


def _batch_to_space(site: Site) -> Tensor:
    """Write the reverse of a move of blocks into the batch, and the slices that take away what padding there was."""
    block, crops, shape = site.op.integers("block"), site.op.integers("crops"), site.op.inputs[0].shape
    count, program = len(block), site.values
    batch = shape[0] // math.prod(block)
    tensor = program.reshape(site.read(), (*block, batch, *shape[1:]))
    mixed = [n for i in range(count) for n in (count + 1 + i, i)]
    tensor = program.transpose(tensor, (count, *mixed, *range(2 * count + 1, site.rank + count)))
    sizes = [batch, *(shape[1 + i] * block[i] for i in range(count)), *shape[1 + count :]]
    tensor = program.reshape(tensor, tuple(sizes))
    for i, start in enumerate(crops[::2]):
        size = site.made.shape[1 + i]
        if size != sizes[1 + i]:
            sizes[1 + i] = size
            made = TensorType(tuple(sizes), tensor.type.dtype)
            tensor = site.node("slice.Tensor", made, self=tensor, dim=1 + i, start=start, end=start + size, step=1)
    return tensor


_RESIZES: Mapping[tuple[str, str], tuple[str, Mapping[str, Argument]]] = {
    ("nearest", "asymmetric"): ("upsample_nearest2d.vec", {}),
    ("nearest", "half_pixel"): ("_upsample_nearest_exact2d.vec", {}),
    ("bilinear", "half_pixel"): ("upsample_bilinear2d.vec", {"align_corners": False}),
    ("bilinear", "align_corners"): ("upsample_bilinear2d.vec", {"align_corners": True}),
    ("bicubic", "half_pixel"): ("upsample_bicubic2d.vec", {"align_corners": False}),
    ("bicubic", "align_corners"): ("upsample_bicubic2d.vec", {"align_corners": True}),
}


def _resize(site: Site) -> Tensor:
    method, coordinates = str(site.op["method"]), str(site.op.get("coordinates", "half_pixel"))
    if (method, coordinates) not in _RESIZES:
        raise site.refuse(f"it has no resize by {method!r}, {coordinates!r}")
    target, said = _RESIZES[method, coordinates]
    size = site.written().shape[2:]
    return site.node(target, input=site.read(), output_size=size, **said, scale_factors=None)


MOVES: Mapping[str, Form] = {
    "mean": Form("free", _reduction("mean.dim")),
    "sum": Form("free", _reduction("sum.dim_IntList")),
    "prod": Form("free", _prod),
    "reduce_max": Form("free", _reduction("amax")),
    "reduce_min": Form("free", _reduction("amin")),
    "argmax": Form("free", _arg("argmax")),
    "argmin": Form("free", _arg("argmin")),
    "softmax": Form("free", _along("softmax.int")),
    "log_softmax": Form("free", _along("log_softmax.int")),
    "l2_normalize": Form("free", _l2_normalize),
    "concat": Form("free", _joined("cat")),
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
    "gather_nd": Form("last", _gather_nd),
    "embedding": Form("last", _embedding),
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
