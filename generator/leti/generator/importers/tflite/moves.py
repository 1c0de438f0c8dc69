"""TFLite's operators that move data: reshapes, slices, pads, gathers, as operators of the table of costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from leti.core.graph import TensorType
from leti.generator.cost import Shape
from leti.generator.importers.draft import Constant, NoCounterpart, Operand, weight_dtype
from leti.generator.importers.tflite.site import Site

Row = Callable[[Site], Sequence[Operand]]


def _reshape(site: Site) -> Sequence[Operand]:
    """Place a ``RESHAPE``, ``SQUEEZE`` or ``EXPAND_DIMS``; the shape that it takes as a tensor is its output's."""
    output, operand = site.output(), site.operand(0)
    site.require(site.input().elements == output.elements, f"makes {output.shape} of {site.input().shape}")
    if isinstance(operand, Constant):
        return (operand.reshaped(output.shape),)
    return (site.place("reshape", (operand,)),)


def _transpose(site: Site) -> Sequence[Operand]:
    operand, shape, perm = site.operand(0), site.input().shape, site.integers(1)
    site.require(sorted(perm) == list(range(len(shape))), f"has the permutation {perm}")
    site.require(site.output().shape == tuple(shape[i] for i in perm), f"makes {site.output().shape} of {shape}")
    if isinstance(operand, Constant):
        return (operand.transposed(perm),)
    return (site.place("transpose", (operand,), perm=perm),)


def _slice(site: Site) -> Sequence[Operand]:
    begin, size, shape = site.integers(1), site.output().shape, site.input().shape
    site.require(len(begin) == len(size) == len(shape), f"makes {size} of {shape}")
    ends = zip(begin, size, shape, strict=True)
    site.require(all(b >= 0 and b + n <= whole for b, n, whole in ends), f"takes {size} from {begin} of {shape}")
    return (_sliced(site, begin, (), site.output()),)


def _strided_slice(site: Site) -> Sequence[Operand]:
    """Place a ``STRIDED_SLICE``: a slice of ranges, then a reshape where dimensions go or come."""
    ranges = _ranges(site)
    output, read = site.output(), site.input()
    kept = TensorType(tuple(map(len, ranges)), output.dtype)
    site.require(kept.elements == output.elements, f"makes {output.shape} of {read.shape}")
    begin, strides = tuple(r.start for r in ranges), tuple(r.step for r in ranges)
    if kept.shape == read.shape and not any(begin) and set(strides) <= {1} and output != kept:
        return (site.place("reshape", (site.value(0),)),)
    value = _sliced(site, begin, strides, kept)
    return (site.place("reshape", (value,)) if output != kept else value,)


def _ranges(site: Site) -> list[range]:
    """Return what a strided slice takes of each dimension of its input.

    Bits of masks speak of the entries of begin, end and strides, of which one may stand for several dimensions.
    """
    names = ("BeginMask", "EndMask", "EllipsisMask", "NewAxisMask", "ShrinkAxisMask", "Offset")
    *masks, offset = site.options("StridedSliceOptions", *names)
    begin, end, strides = (site.integers(i) for i in (1, 2, 3))
    site.require(len(begin) == len(end) == len(strides) <= 32 and 0 not in strides, "has bounds of other lengths")
    shape = site.input().shape
    ranges: list[range] = []
    for i in range(len(begin)):
        free_begin, free_end, ellipsis, new, shrink = (bool(mask >> i & 1) for mask in masks)
        if ellipsis:
            later = sum(not masks[3] >> j & 1 for j in range(i + 1, len(begin)))
            ranges += [range(n) for n in shape[len(ranges) : max(len(shape) - later, len(ranges))]]
        elif not new:
            site.require(len(ranges) < len(shape), f"has {len(begin)} bounds of {len(shape)} dimensions")
            size = shape[len(ranges)]
            last = begin[i] + end[i] if offset else end[i]
            if shrink:
                site.require(-size <= begin[i] < size, f"takes {begin[i]} of {size}")
                ranges.append(range(begin[i] % size, begin[i] % size + 1))
            else:
                bounds = slice(None if free_begin else begin[i], None if free_end else last, strides[i])
                ranges.append(range(size)[bounds])
    return ranges + [range(n) for n in shape[len(ranges) :]]


def _sliced(site: Site, begin: Shape, strides: Shape, output: TensorType) -> int:
    begin = begin if any(begin) else ()
    strides = strides if any(step != 1 for step in strides) else ()
    return site.place("slice", (site.value(0),), output, begin=begin, strides=strides)


def _pad(site: Site) -> Sequence[Operand]:
    """Place a ``PAD`` or ``PADV2``, which takes its value as a third input."""
    value = 0.0
    if site.has(2):
        constant = site.constant(2)
        site.require(constant.shape in ((), (1,)), f"pads with {constant.shape}")
        value = float(str(np.float32(constant.array().reshape(()))))
    return (site.place("pad", (site.value(0),), paddings=_paddings(site), value=value),)


def _mirror_pad(site: Site) -> Sequence[Operand]:
    (mode,) = site.options("MirrorPadOptions", "Mode")
    site.require(mode in (0, 1), f"has mode {mode}")
    return (site.place("pad", (site.value(0),), paddings=_paddings(site), mode=("reflect", "symmetric")[mode]),)


def _paddings(site: Site) -> Shape:
    paddings, shape = site.integers(1), site.input().shape
    site.require(len(paddings) == 2 * len(shape), f"pads {shape} by {paddings}")
    made = tuple(n + before + after for n, before, after in zip(shape, paddings[::2], paddings[1::2], strict=True))
    site.require(site.output().shape == made and min(paddings, default=0) >= 0, f"makes {site.output().shape}")
    return paddings


def _concatenation(site: Site) -> Sequence[Operand]:
    axis, activation = site.options("ConcatenationOptions", "Axis", "FusedActivationFunction")
    output = site.output()
    axis = site.axis(axis, len(output.shape))
    shapes = [site.input(i).shape for i in range(len(site.operator.inputs))]
    site.require(
        all(len(s) == len(output.shape) for s in shapes) and sum(s[axis] for s in shapes) == output.shape[axis],
        f"makes {output.shape}",
    )
    return site.activated(site.place("concat", site.values(), axis=axis), activation)


def _split(data: int, axis: int) -> Row:
    """Return the function of a split that reads its data and its axis as these inputs."""

    def place(site: Site) -> Sequence[Operand]:
        shape = site.input(data).shape
        along = site.axis(site.integer(axis), len(shape))
        made = [output.shape for output in site.outputs()]
        site.require(
            all(len(s) == len(shape) for s in made) and sum(s[along] for s in made) == shape[along], f"splits {shape}"
        )
        return site.place_many("split", (site.value(data),), axis=along)

    return place


def _pack(site: Site) -> Sequence[Operand]:
    (axis,) = site.options("PackOptions", "Axis")
    return (site.place("stack", site.values(), axis=site.axis(axis, len(site.output().shape))),)


def _unpack(site: Site) -> Sequence[Operand]:
    (axis,) = site.options("UnpackOptions", "Axis")
    axis = site.axis(axis, len(site.input().shape))
    site.require(site.input().shape[axis] == len(site.operator.outputs), f"unpacks {site.input().shape}")
    return site.place_many("unstack", (site.value(0),), axis=axis)


def _gather(site: Site) -> Sequence[Operand]:
    """Place a ``GATHER``; of the rows of a constant table, it is an embedding."""
    axis, batch_dims = site.options("GatherOptions", "Axis", "BatchDims")
    rank = len(site.input().shape)
    axis = site.axis(axis, rank)
    table = site.operand(0)
    if isinstance(table, Constant) and rank == 2 and axis == 0 and not batch_dims:
        return (_embedding(site, table, site.value(1)),)
    batch_dims = site.axis(batch_dims, max(rank, 1))
    return (site.place("gather", (site.value(0), site.value(1)), axis=axis, batch_dims=batch_dims),)


def _embedding_lookup(site: Site) -> Sequence[Operand]:
    table = site.constant(1)
    if len(table.shape) != 2:
        raise NoCounterpart
    return (_embedding(site, table, site.value(0)),)


def _embedding(site: Site, table: Constant, indices: int) -> int:
    rows, dtype, shape = table.shape[0], weight_dtype(table, site.output()), site.output().shape
    site.require(shape[-1:] == table.shape[1:], f"makes {shape} of rows of {table.shape}")
    return site.place("embedding", (indices,), weights=(table,), rows=rows, weight_dtype=dtype)


def _gather_nd(site: Site) -> Sequence[Operand]:
    return (site.place("gather_nd", (site.value(0), site.value(1))),)


def _one_hot(site: Site) -> Sequence[Operand]:
    (axis,) = site.options("OneHotOptions", "Axis")
    return (site.place("one_hot", (site.value(0),), axis=site.axis(axis, len(site.output().shape))),)


def _top_k(site: Site) -> Sequence[Operand]:
    return site.place_many("top_k", (site.value(0),))


def _tile(site: Site) -> Sequence[Operand]:
    multiples, shape = site.integers(1), site.input().shape
    site.require(len(multiples) == len(shape), f"repeats {shape} by {multiples}")
    made = tuple(n * times for n, times in zip(shape, multiples, strict=True))
    site.require(site.output().shape == made, f"makes {site.output().shape}")
    return (site.place("tile", (site.value(0),), multiples=multiples),)


def _broadcast_to(site: Site) -> Sequence[Operand]:
    return (site.place("broadcast_to", (site.value(0),)),)


def _reverse(site: Site) -> Sequence[Operand]:
    axes = tuple(sorted({site.axis(axis, len(site.input().shape)) for axis in site.integers(1)}))
    return (site.place("reverse", (site.value(0),), axes=axes),)


def _block(kind: str, options: str) -> Row:
    """Return the function that moves blocks between depth and space."""

    def place(site: Site) -> Sequence[Operand]:
        (block,) = site.options(options, "BlockSize")
        site.require(block > 0 and site.input().elements == site.output().elements, f"has blocks of {block}")
        return (site.place(kind, (site.value(0),), block=int(block)),)

    return place


def _batch_block(kind: str, name: str) -> Row:
    """Return the function that moves blocks between batch and space; ``name`` is that of what is put in or cut off."""

    def place(site: Site) -> Sequence[Operand]:
        block, bounds = site.integers(1), site.integers(2)
        written: dict[str, Any] = {name: bounds}
        site.require(len(bounds) == 2 * len(block) and min(block, default=0) > 0, f"has blocks of {block}")
        return (site.place(kind, (site.value(0),), block=block, **written),)

    return place


def _resize(method: str, options: str) -> Row:
    def place(site: Site) -> Sequence[Operand]:
        aligned, half = site.options(options, "AlignCorners", "HalfPixelCenters")
        read, made = site.input().shape, site.output().shape
        site.require(len(read) == len(made) == 4 and read[::3] == made[::3], f"makes {made} of {read}")
        coordinates = "align_corners" if aligned else "half_pixel" if half else "asymmetric"
        return (site.place("resize", (site.value(0),), method=method, coordinates=coordinates),)

    return place


def _shape(site: Site) -> Sequence[Operand]:
    return (Constant.of(np.asarray(site.input().shape, np.int64), site.output().dtype),)


def _rank(site: Site) -> Sequence[Operand]:
    return (Constant.of(np.asarray(len(site.input().shape), np.int64), site.output().dtype),)


MOVES: Mapping[str, Row] = MappingProxyType(
    {
        "RESHAPE": _reshape,
        "SQUEEZE": _reshape,
        "EXPAND_DIMS": _reshape,
        "TRANSPOSE": _transpose,
        "SLICE": _slice,
        "STRIDED_SLICE": _strided_slice,
        "PAD": _pad,
        "PADV2": _pad,
        "MIRROR_PAD": _mirror_pad,
        "CONCATENATION": _concatenation,
        "SPLIT": _split(1, 0),
        "SPLIT_V": _split(0, 2),
        "PACK": _pack,
        "UNPACK": _unpack,
        "GATHER": _gather,
        "GATHER_ND": _gather_nd,
        "EMBEDDING_LOOKUP": _embedding_lookup,
        "ONE_HOT": _one_hot,
        "TOPK_V2": _top_k,
        "TILE": _tile,
        "BROADCAST_TO": _broadcast_to,
        "REVERSE_V2": _reverse,
        "DEPTH_TO_SPACE": _block("depth_to_space", "DepthToSpaceOptions"),
        "SPACE_TO_DEPTH": _block("space_to_depth", "SpaceToDepthOptions"),
        "SPACE_TO_BATCH_ND": _batch_block("space_to_batch", "paddings"),
        "BATCH_TO_SPACE_ND": _batch_block("batch_to_space", "crops"),
        "RESIZE_BILINEAR": _resize("bilinear", "ResizeBilinearOptions"),
        "RESIZE_NEAREST_NEIGHBOR": _resize("nearest", "ResizeNearestNeighborOptions"),
        "SHAPE": _shape,
        "RANK": _rank,
    }
)
