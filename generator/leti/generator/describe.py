"""Operators, tensors and numbers in few words, for tables and pictures."""

from __future__ import annotations

from leti.core.graph import Op, TensorType


def op_title(op: Op) -> str:
    """Return a kind with its window: ``conv2d 3×3 /2``."""
    kernel, strides = op.get("kernel", ()), op.get("strides", ())
    title = op.kind
    if isinstance(kernel, tuple) and kernel:
        title += " " + "×".join(map(str, kernel))
    if kernel and isinstance(strides, tuple) and any(stride > 1 for stride in strides):
        title += f" /{strides[0]}"
    return title


def type_text(tensor: TensorType) -> str:
    """Return ``1×32×32×3``, with the data type where it is not float32."""
    shape = "×".join(map(str, tensor.shape)) or "scalar"
    return shape if tensor.dtype == "float32" else f"{shape} {tensor.dtype}"


def count_text(number: int) -> str:
    """Return ``4.09 G``; of nothing, a dot."""
    return _scaled(number, 1000, ("", " k", " M", " G"))


def bytes_text(number: int) -> str:
    """Return ``97.5 MiB``; of nothing, a dot."""
    return _scaled(number, 1024, (" B", " KiB", " MiB", " GiB"))


def _scaled(number: int, step: int, units: tuple[str, ...]) -> str:
    if number == 0:
        return "·"
    value, unit = float(number), 0
    while value >= step and unit < len(units) - 1:
        value, unit = value / step, unit + 1
    return f"{value:.3g}{units[unit]}" if unit and value < 100 else f"{value:.0f}{units[unit]}"
