"""Weight sharing: filters are rounded to a few values of their own, and stored as indices into a codebook.

The second stage of "Deep Compression" (Han et al., ICLR 2016): k-means, begun evenly between the least and the greatest
weight. Of size alone: before a network runs, its weights are looked up, and its latency stays.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

from leti.compression.quantizing.weights import weighted, with_weights
from leti.compression.storing.huffman import HuffmanCode
from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.generator.importers import Imported
from leti.generator.weights import Array

with needs("compression"):
    import numpy as np
    from scipy.cluster.vq import kmeans2

FLOAT_BITS: Final = 32
MAX_INDEX_BITS: Final = 8
_ROUNDS: Final = 30


@final
@dataclass(frozen=True, slots=True)
class SharedWeights:
    """Values as indices (uint8, of the values' shape) of ``index_bits`` bits into a codebook of float32."""

    indices: Array
    codebook: Array
    index_bits: int

    @property
    def values(self) -> Array:
        """What the indices stand for."""
        found: Array = self.codebook[self.indices]
        return found

    @property
    def float_bits(self) -> int:
        """Bits of the values as float32."""
        return FLOAT_BITS * self.indices.size

    @property
    def bits(self) -> int:
        """Bits of indices and codebook."""
        return self.index_bits * self.indices.size + FLOAT_BITS * len(self.codebook)

    @property
    def huffman_bits(self) -> int:
        """Bits of indices in a Huffman code, of its table and of the codebook."""
        symbols = self.indices.reshape(-1).tolist()
        code = HuffmanCode.of(symbols)
        return code.bits(symbols) + code.table_bits(self.index_bits) + FLOAT_BITS * len(self.codebook)


@final
@dataclass(frozen=True, slots=True)
class StoredLayer:
    """What an operator's filters take, in bits: as float32, shared, and shared in a Huffman code."""

    operator: int
    name: str
    float_bits: int
    shared_bits: int
    huffman_bits: int


@final
@dataclass(frozen=True, slots=True)
class StoredNetwork:
    """A network whose filters share values, and what each layer takes. It runs as fast as before: size alone falls."""

    imported: Imported
    layers: tuple[StoredLayer, ...]

    @property
    def ratio(self) -> float:
        """How many times fewer bits the filters take, in Huffman codes."""
        return sum(layer.float_bits for layer in self.layers) / sum(layer.huffman_bits for layer in self.layers)

    @property
    def record(self) -> str:
        """What was done, in words."""
        bits = sum(layer.huffman_bits for layer in self.layers)
        return (
            f"filters share values: {sum(layer.float_bits for layer in self.layers)} bits became "
            f"{sum(layer.shared_bits for layer in self.layers)}, and {bits} in Huffman codes; "
            "weights are decoded before the network runs: smaller, not faster"
        )


def shared(values: Array, index_bits: int, *, keep_zeros: bool = True) -> SharedWeights:
    """Return values rounded to at most ``2**index_bits`` of their own, by k-means.

    Zeros stay zeros where ``keep_zeros`` and there are any: what was pruned is not brought back. Raises
    :class:`~leti.core.errors.InvalidInput` for bits out of 1 to 8, and for values that are none or not finite.
    """
    if not 1 <= index_bits <= MAX_INDEX_BITS:
        raise InvalidInput(f"is {index_bits}", field="index_bits", remedy=f"1 to {MAX_INDEX_BITS}")
    if not values.size or not np.isfinite(values).all():
        raise InvalidInput("holds nothing, or what is not finite", field="values")
    flat = values.reshape(-1).astype(np.float64)
    zeros = np.zeros(1 if keep_zeros and (flat == 0).any() else 0)
    rest = flat[flat != 0] if len(zeros) else flat
    codebook = np.union1d(zeros, _centres(rest, 2**index_bits - len(zeros))).astype(np.float32)
    nearest = np.searchsorted((codebook[1:].astype(np.float64) + codebook[:-1]) / 2, flat)
    if len(zeros):
        nearest[flat == 0] = np.flatnonzero(codebook == 0)[0]
    return SharedWeights(nearest.astype(np.uint8).reshape(values.shape), codebook, index_bits)


def _centres(values: Array, number: int) -> Array:
    """Return at most so many centres of values, sorted."""
    different: Array = np.unique(values)
    if len(different) <= number:
        return different
    begun = np.linspace(different[0], different[-1], number)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of centres that nothing is near: they are left out
        centres, nearest = kmeans2(values[:, None], begun[:, None], iter=_ROUNDS, minit="matrix", missing="warn")
    return np.unique(centres[np.unique(nearest), 0])


def clustered(imported: Imported, index_bits: int | Mapping[int, int]) -> StoredNetwork:
    """Return the network with the filters of each operator shared, and what they take.

    ``index_bits`` is one number, or one each by the operator's number: the filters of others stay as they are and are
    not counted. Raises :class:`~leti.core.errors.InvalidInput` for a number that is no operator with filters.
    """
    every = weighted(imported.graph)
    asked = dict.fromkeys(every, index_bits) if isinstance(index_bits, int) else dict(index_bits)
    weights, changed, layers = imported.loaded_weights(), {}, []
    for number, width in asked.items():
        if number not in every:
            raise InvalidInput("is no operator with filters", field=f"index_bits[{number}]", remedy=f"one of {every}")
        made = shared(weights[number][0], width)
        changed[number] = (made.values, *weights[number][1:])
        name = imported.names[number] or f"{imported.graph.ops[number].kind}{number}"
        layers.append(StoredLayer(number, name, made.float_bits, made.bits, made.huffman_bits))
    return StoredNetwork(with_weights(imported, changed), tuple(layers))
