"""Weights of a network in fewer bits, as float32: what is lost by storing them so, whatever then computes with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from leti.compression.quantizing.affine import RangeMethod, fitted
from leti.core.errors import InvalidInput
from leti.core.graph import Graph
from leti.generator.importers import Imported
from leti.generator.weights import Array

OUTPUT_AXES: Final[Mapping[str, int]] = MappingProxyType(
    {"conv1d": 0, "conv2d": 0, "conv3d": 0, "depthwise_conv2d": 3, "transpose_conv2d": 0, "fully_connected": 0}
)
"""Kinds of operator with filters, and the axis of their output channels."""


def weighted(graph: Graph) -> tuple[int, ...]:
    """Return the operators with filters."""
    return tuple(i for i, op in enumerate(graph.ops) if op.kind in OUTPUT_AXES)


def with_weights(imported: Imported, changed: Mapping[int, tuple[Array, ...]]) -> Imported:
    """Return the network with other weights at some operators."""
    weights = tuple(changed.get(i, arrays) for i, arrays in enumerate(imported.loaded_weights()))
    return replace(imported, weights=weights)


def quantized_weights(
    imported: Imported,
    bits: int | Mapping[int, int],
    *,
    per_channel: bool = True,
    symmetric: bool = True,
    method: RangeMethod = "min_max",
) -> Imported:
    """Return the network with its filters rounded to numbers of so many bits; biases stay.

    ``bits`` is one number for every operator with filters, or one each by their number: those left out stay float32.
    ``per_channel`` gives every output channel a scale of its own. Raises :class:`~leti.core.errors.InvalidInput` for a
    number that is no operator with filters, naming ``bits[…]``.
    """
    every = weighted(imported.graph)
    asked = dict.fromkeys(every, bits) if isinstance(bits, int) else dict(bits)
    weights = imported.loaded_weights()
    changed = {}
    for number, width in asked.items():
        if number not in every:
            raise InvalidInput("is no operator with filters", field=f"bits[{number}]", remedy=f"one of {every}")
        filters, *others = weights[number]
        axis = OUTPUT_AXES[imported.graph.ops[number].kind] if per_channel else None
        found = fitted(filters, bits=width, symmetric=symmetric, axis=axis, method=method)
        changed[number] = (found.rounded(filters), *others)
    return with_weights(imported, changed)
