"""Operators in float32 that search spaces are made of: each is made once, and found again by what tells it apart."""

from __future__ import annotations

import functools

from leti.core.graph import Op, TensorType
from leti.generator.cost import make_operator


@functools.lru_cache(maxsize=4096)
def window(kind: str, input_type: TensorType, channels: int, kernel: int, stride: int) -> Op:
    """Return a convolution or pool with a square kernel, padded to ``ceil(size / stride)``."""
    batch, height, width, _ = input_type.shape
    output = tensor((batch, -(-height // stride), -(-width // stride), channels))
    attributes = (("kernel", (kernel, kernel)), ("padding", "same"), ("strides", (stride, stride)))
    return make_operator(kind, (input_type,), (output,), attributes)


@functools.lru_cache(maxsize=4096)
def unary(kind: str, input_type: TensorType) -> Op:
    """Return an operator of one operand that keeps its shape."""
    return make_operator(kind, (input_type,), (tensor(input_type.shape),), ())


@functools.lru_cache(maxsize=4096)
def addition(a: TensorType, b: TensorType) -> Op:
    """Return an addition."""
    return make_operator("add", (a, b), (tensor(a.shape),), ())


@functools.lru_cache(maxsize=4096)
def tensor(shape: tuple[int, ...], dtype: str = "float32") -> TensorType:
    """Return a type."""
    return TensorType(shape, dtype)
