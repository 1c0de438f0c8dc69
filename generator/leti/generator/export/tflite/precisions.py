"""Precisions of a TFLite program: constants stored as float16 or int8, activations of whole numbers.

The rules are those of LiteRT's quantisation specification and of the TensorFlow converter: filters symmetric, a scale a
channel; activations with a zero point, one scale a tensor; some kernels fix the scale of what they make, others make
what they read at the same scale; biases at the product of the scales of input and filter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.generator.export.tflite.calibration import Ranges
from leti.generator.export.tflite.writer import NO_TENSOR, Operator, Program, Quantization, Tensor, options
from leti.generator.weights import Array

with needs("export"):
    import numpy as np

FIXED: Mapping[str, tuple[float, int]] = {
    "LOGISTIC": (1 / 256, -128),
    "SOFTMAX": (1 / 256, -128),
    "LOG_SOFTMAX": (16 / 256, 127),
    "TANH": (1 / 128, 0),
    "L2_NORMALIZATION": (1 / 128, 0),
}
"""Scale and zero point of what a kernel makes, where LiteRT fixes them."""

SAME_SCALE = frozenset(
    {
        *("RESHAPE", "TRANSPOSE", "SLICE", "STRIDED_SLICE", "PAD", "PADV2", "MIRROR_PAD", "SPLIT", "SPLIT_V", "UNPACK"),
        *("BROADCAST_TO", "TILE", "GATHER", "GATHER_ND", "TOPK_V2", "REVERSE_V2", "DEPTH_TO_SPACE", "SPACE_TO_DEPTH"),
        *("SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "MAX_POOL_2D"),
        *("AVERAGE_POOL_2D", "REDUCE_MAX", "REDUCE_MIN", "CONCATENATION", "PACK", "MAXIMUM", "MINIMUM", "SELECT"),
        "SELECT_V2",
    }
)
"""Builtin operators that read and make numbers of one scale."""

FILTERS: Mapping[str, tuple[int, int, int, int]] = {
    "CONV_2D": (0, 1, 2, 0),
    "DEPTHWISE_CONV_2D": (0, 1, 2, 3),
    "FULLY_CONNECTED": (0, 1, 2, 0),
    "TRANSPOSE_CONV": (2, 1, 3, 0),
}
"""Builtin operators with filters: the positions of data, filters and bias, and the dimension of output channels."""

_INT32 = 2**31 - 1
_LEAST_RANGE = 1e-6  # of a tensor that is zero throughout; the converter's


# --- weights alone ---------------------------------------------------------------------------------------------------


def store_weights(program: Program) -> None:
    """Store constants as their operators ask: as float16 before a ``DEQUANTIZE``, or filters as int8."""
    operators: list[Operator] = []
    for operator in program.operators:
        operators.extend(_with_integer_filters(program, operator))
    halves = []
    for number in sorted({number for operator in operators for number in operator.reads} - {NO_TENSOR}):
        tensor = program.tensors[number]
        if tensor.data is not None and tensor.stored == "float16" and tensor.data.dtype == np.float32:
            limit = np.finfo(np.float16).max
            half = program.constant(f"{tensor.name}/half", np.clip(tensor.data, -limit, limit).astype(np.float16))
            tensor.data, tensor.stored = None, ""
            halves.append(Operator("DEQUANTIZE", options("DequantizeOptions"), [half], [number]))
    program.operators = halves + operators


def _with_integer_filters(program: Program, operator: Operator) -> list[Operator]:
    if operator.builtin == "GATHER":
        return _with_integer_rows(program, operator)
    if operator.builtin not in FILTERS:
        return [operator]
    _, position, _, dimension = FILTERS[operator.builtin]
    filters = program.tensors[operator.reads[position]]
    if filters.data is None or filters.stored != "int8" or filters.dtype != "float32":
        return [operator]
    operator.reads[position] = _add(program, filters.name, *symmetric(filters.data, dimension))
    if operator.builtin == "FULLY_CONNECTED":
        operator.options.asymmetricQuantizeInputs = True
    return [operator]


def _with_integer_rows(program: Program, operator: Operator) -> list[Operator]:
    """Return the look-up of int8 rows and what makes float32 of those that are found."""
    rows, made = program.tensors[operator.reads[0]], operator.makes[0]
    if rows.data is None or rows.stored != "int8" or rows.dtype != "float32":
        return [operator]
    numbers, quantization = symmetric(rows.data, None)
    operator.reads[0] = _add(program, rows.name, numbers, quantization)
    found = program.tensor(f"{program.tensors[made].name}/rows", program.tensors[made].shape, "int8")
    program.tensors[found].quantization = quantization
    operator.makes = [found]
    return [operator, Operator("DEQUANTIZE", options("DequantizeOptions"), [found], [made], site=operator.site)]


def symmetric(values: Array, dimension: int | None, least: Array | float = 0.0) -> tuple[Array, Quantization]:
    """Return values as int8 from -127 to 127, with a scale for each slice along ``dimension`` or one for all.

    Scales are no smaller than ``least``. Raises :class:`InvalidInput` for values that are not finite.
    """
    _check_finite(values)
    axes = tuple(i for i in range(values.ndim) if i != dimension)
    scales = np.maximum(np.abs(values).max(axis=axes).astype(np.float64) / 127, least)
    scales = np.where(scales == 0, _LEAST_RANGE / 127, scales).astype(np.float32)
    spread = scales if dimension is None else scales.reshape([-1 if i == dimension else 1 for i in range(values.ndim)])
    numbers = np.clip(np.rint(values / spread), -127, 127).astype(np.int8)
    flat = np.atleast_1d(scales)
    return numbers, Quantization(flat, np.zeros(flat.shape, np.int64), dimension or 0)


def _add(program: Program, name: str, numbers: Array, quantization: Quantization) -> int:
    program.tensors.append(Tensor(name, numbers.shape, numbers.dtype.name, numbers, quantization=quantization))
    return len(program.tensors) - 1


# --- activations -----------------------------------------------------------------------------------------------------


def quantize_activations(program: Program, ranges: Ranges) -> None:
    """Give every int8 tensor the scale and zero point that its range, or its operator, asks for.

    Constants that operators on int8 read become whole numbers as well. ``ranges`` are the least and greatest value of
    each tensor as float32.
    """
    _Quantizing(program, ranges).run()


@final
class _Quantizing:
    """One program whose int8 activations get scales."""

    def __init__(self, program: Program, ranges: Ranges) -> None:
        self._program = program
        self._ranges = ranges
        self._group: dict[int, int] = {}
        self._constants: dict[tuple[int, int], int] = {}

    def run(self) -> None:
        """Find which tensors share a scale, then the scales, then change the constants."""
        operators = [operator for operator in self._program.operators if self._on_integers(operator)]
        for operator in operators:
            if operator.builtin in SAME_SCALE:
                members = self._members(operator)
                for member in members[1:]:
                    self._group[self._root(member)] = self._root(members[0])
        scales = self._scales(operators)
        for number, limits in self._ranges.items():
            scales.setdefault(self._root(number), affine(*limits))
        self._widen_zeros(operators, scales)
        for number, tensor in enumerate(self._program.tensors):
            if tensor.dtype == "int8" and tensor.data is None and tensor.quantization is None:
                tensor.quantization = scales.get(self._root(number))
        for operator in operators:
            self._quantize_constants(operator)

    def _widen_zeros(self, operators: list[Operator], scales: dict[int, Quantization]) -> None:
        """Let what is zero throughout have the scale of what it is made of, in place of a vanishing one.

        Zero is a number at every scale, and XNNPACK takes no operators of scales that lie orders of magnitude apart.
        """
        for operator in operators:
            made, read = self._root(operator.makes[0]), self._members(operator)[0]
            if made in scales and scales[made].scales[0] < _LEAST_RANGE and self._root(read) in scales:
                scales[made] = scales[self._root(read)]

    def _on_integers(self, operator: Operator) -> bool:
        tensors = [self._program.tensors[i] for i in (*operator.reads, *operator.makes) if i != NO_TENSOR]
        return operator.builtin not in ("QUANTIZE", "DEQUANTIZE") and any(
            t.dtype == "int8" and t.data is None and t.quantization is None for t in tensors
        )

    def _members(self, operator: Operator) -> list[int]:
        """Return the int8 tensors of an operator that are no constants: those may serve operators of other scales."""
        return [
            i
            for i in (*operator.reads, *operator.makes)
            if self._program.tensors[i].dtype == "int8" and not self._program.is_constant(i)
        ]

    def _root(self, tensor: int) -> int:
        while tensor in self._group and self._group[tensor] != tensor:
            tensor = self._group[tensor]
        return tensor

    def _scales(self, operators: list[Operator]) -> dict[int, Quantization]:
        """Return the scale of each group of tensors that share one.

        Where values are joined, what the last join makes decides, as in the converter; else what the group begins with.
        """
        fixed: dict[int, Quantization] = {}
        joined: dict[int, tuple[float, float]] = {}
        begun: dict[int, tuple[float, float]] = {}
        covered: set[int] = set()
        for operator in reversed(operators):
            if operator.builtin in FIXED:
                scale, zero_point = FIXED[operator.builtin]
                fixed[self._root(operator.makes[0])] = _quantization(scale, zero_point)
            if operator.builtin not in SAME_SCALE:
                continue
            read = [i for i in operator.reads if self._program.tensors[i].dtype in ("int8", "float32")]
            root = self._root(operator.makes[0])
            is_join = len(read) > 1 and operator.builtin != "PADV2"
            if is_join and operator.makes[0] not in covered:
                joined[root] = _union(joined.get(root), self._ranges[operator.makes[0]])
            if is_join or covered.intersection(operator.makes):
                covered.update(read)
            begun[root] = self._range(read[0])  # the first operator of the group in order is the last one seen
        return {root: affine(*limits) for root, limits in (begun | joined).items()} | fixed

    def _range(self, tensor: int) -> tuple[float, float]:
        data = self._program.tensors[tensor].data
        if data is None:
            return self._ranges[tensor]
        _check_finite(data)
        return float(data.min()), float(data.max())

    def _quantize_constants(self, operator: Operator) -> None:
        if operator.builtin in FILTERS:
            self._quantize_filters(operator)
        for i, number in enumerate(operator.reads):
            if self._program.is_constant(number) and self._program.tensors[number].dtype == "float32":
                operator.reads[i] = self._whole(operator, number)

    def _whole(self, operator: Operator, number: int) -> int:
        """Return a constant of floats as whole numbers, at the scale of what it is joined with or at its own."""
        tensor = self._program.tensors[number]
        like = self._members(operator)[0] if operator.builtin in SAME_SCALE else NO_TENSOR
        key = (number, like if like == NO_TENSOR else self._root(like))
        if key not in self._constants:
            given = (
                affine(*self._range(number), constant=True) if like == NO_TENSOR else self._program.tensors[like].scale
            )
            whole = np.rint(tensor.values.astype(np.float64) / given.scales[0]) + given.zero_points[0]
            numbers = np.clip(whole, -128, 127).astype(np.int8)
            self._constants[key] = _add(self._program, tensor.name, numbers, given)
        return self._constants[key]

    def _quantize_filters(self, operator: Operator) -> None:
        data, position, bias, dimension = FILTERS[operator.builtin]
        filters = self._program.tensors[operator.reads[position]]
        scale = np.float64(self._program.tensors[operator.reads[data]].scale.scales[0])
        if len(operator.reads) <= bias or operator.reads[bias] == NO_TENSOR:
            numbers, quantization = symmetric(filters.values, dimension)
        else:
            sums = self._program.tensors[operator.reads[bias]]
            _check_finite(sums.values)
            # A bias must fit an int32 at the product of the scales, with room for the sum that it is added to.
            least = np.abs(sums.values).astype(np.float64) / (scale * (_INT32 // 2))
            numbers, quantization = symmetric(filters.values, dimension, least)
            scales = scale * quantization.scales
            whole = np.clip(np.rint(sums.values / scales), -_INT32, _INT32).astype(np.int32)
            made = Quantization(scales.astype(np.float32), np.zeros(scales.shape, np.int64))
            operator.reads[bias] = _add(self._program, sums.name, whole, made)
        operator.reads[position] = _add(self._program, filters.name, numbers, quantization)


def _check_finite(values: Array) -> None:
    if not np.isfinite(values).all():
        raise InvalidInput(
            "hold infinities, or what is no number, which int8 has not",
            field="weights",
            remedy="mask by a number such as -1e4",
        )


def affine(low: float, high: float, *, constant: bool = False) -> Quantization:
    """Return scale and zero point of int8 for values from ``low`` to ``high``, so that zero is one of the numbers.

    Of zeros alone, the converter makes the smallest range around zero, twice as wide for what is computed.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if high == low or (high - low < _LEAST_RANGE and not constant):  # a constant may be an epsilon
        return _quantization(_LEAST_RANGE / 255 * (1 if constant else 2), 0)
    scale = (high - low) / 255
    return _quantization(scale, int(np.clip(np.rint(-128 - low / scale), -128, 127)))


def _quantization(scale: float, zero_point: int) -> Quantization:
    return Quantization(np.asarray([scale], np.float32), np.asarray([zero_point], np.int64))


def _union(known: tuple[float, float] | None, other: tuple[float, float]) -> tuple[float, float]:
    return other if known is None else (min(known[0], other[0]), max(known[1], other[1]))
