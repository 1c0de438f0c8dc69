"""Versions of builtin operators: what a file asks of its runtime, as the TensorFlow converter states it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from leti.generator.export.tflite.writer import NO_TENSOR, Operator, Program

_FLOAT: Mapping[str, int] = {"BROADCAST_TO": 2, "FLOOR_DIV": 2}
_INTEGER: Mapping[str, int] = {
    **dict.fromkeys(("RESHAPE", "DIV", "HARD_SWISH", "LEAKY_RELU", "SELECT", "SELECT_V2", "GATHER_ND"), 1),
    **dict.fromkeys(("QUANTIZE", "PRELU", "RELU_N1_TO_1"), 1),
    **dict.fromkeys(("TILE", "REVERSE_V2", "BROADCAST_TO"), 3),
}
_INTEGER_OTHERWISE = 2


def set_versions(program: Program) -> None:
    """State the version of every operator: of a builtin, the newest that any of its operators asks for."""
    newest: dict[str, int] = {}
    for operator in program.operators:
        rule = _RULES.get(operator.builtin, _by_type)
        newest[operator.builtin] = max(newest.get(operator.builtin, 1), rule(program, operator))
    for operator in program.operators:
        operator.version = newest[operator.builtin]


def _dtypes(program: Program, operator: Operator) -> list[str]:
    return ["" if tensor == NO_TENSOR else program.tensors[tensor].dtype for tensor in operator.reads]


def _on_integers(program: Program, operator: Operator) -> bool:
    made = [program.tensors[tensor].dtype for tensor in operator.makes]
    return "int8" in made or "int8" in _dtypes(program, operator)


def _is_hybrid(program: Program, operator: Operator) -> bool:
    return "int8" in _dtypes(program, operator) and program.tensors[operator.makes[0]].dtype == "float32"


def _by_type(program: Program, operator: Operator) -> int:
    if _on_integers(program, operator):
        return _INTEGER.get(operator.builtin, _INTEGER_OTHERWISE)
    return _FLOAT.get(operator.builtin, 1)


def _conv(program: Program, operator: Operator) -> int:
    data, filters = (program.tensors[tensor] for tensor in operator.reads[:2])
    if filters.shape[-1] != data.shape[-1]:
        return 6  # in groups
    return 5 if _is_hybrid(program, operator) else 3 if _on_integers(program, operator) else 1


def _depthwise(program: Program, operator: Operator) -> int:
    if _is_hybrid(program, operator):
        return 6
    dilated = operator.options.dilationHFactor > 1 or operator.options.dilationWFactor > 1
    return 3 if _on_integers(program, operator) else 2 if dilated else 1


def _transpose_conv(program: Program, operator: Operator) -> int:
    if operator.options.fusedActivationFunction:
        return 4
    return 3 if len(operator.reads) > 3 else 2 if _on_integers(program, operator) else 1


def _fully_connected(program: Program, operator: Operator) -> int:
    if _is_hybrid(program, operator):
        return 12
    return 5 if operator.options.keepNumDims else 4 if _on_integers(program, operator) else 1


def _resize(program: Program, operator: Operator) -> int:
    nearest = operator.builtin == "RESIZE_NEAREST_NEIGHBOR"
    if operator.options.halfPixelCenters or (nearest and operator.options.alignCorners):
        return 3
    return 2 if _on_integers(program, operator) else 1


def _dequantize(program: Program, operator: Operator) -> int:
    return 3 if _dtypes(program, operator) == ["float16"] else 2


_RULES: Mapping[str, Callable[[Program, Operator], int]] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transpose_conv,
    "FULLY_CONNECTED": _fully_connected,
    "RESIZE_BILINEAR": _resize,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
    "DEQUANTIZE": _dequantize,
}
