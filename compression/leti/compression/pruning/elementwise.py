"""Magnitude pruning of single weights: masks, and what they are good for.

"To prune, or not to prune", Zhu and Gupta, 2017; "Learning both Weights and Connections", Han et al., 2015. A network
with zeros in it is of the same graph: where a runtime has dense kernels, as those that LETI measures, it takes as long
as before. What falls is the size of the file once it is packed.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, final

from leti.compression.pruning.summaries import FILTERS
from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.generator.importers import Imported
from leti.generator.weights import Array

with needs("compression"):
    import numpy as np

Level = float | Mapping[int, float]
"""Share of the weights that become zero, of each filter, or by the number of its operator; 0 … 1."""

Masks = tuple[tuple[Array, ...], ...]
"""For each operator's weights, those that are kept: booleans of the weights' shapes."""

LATENCY: Final = "no latency gain: the runtime's kernels are dense, zeros are multiplied like any other weight"


@final
@dataclass(frozen=True, slots=True)
class SizeReport:
    """Bytes of a network's weights: as they are, packed as a zip file packs (deflate), and by a Huffman code alone.

    ``latency`` says what the zeros do to the latency.
    """

    weights_bytes: int
    zip_bytes: int
    huffman_bytes: int
    sparsity: float
    latency: str = LATENCY


def level_masks(imported: Imported, level: Level, *, protected: Collection[int] = ()) -> Masks:
    """Return masks that leave out the smallest ``level`` of each filter's weights, but for ``protected`` operators."""
    for i in level if isinstance(level, Mapping) else ():
        if not 0 <= i < len(imported.graph.ops) or imported.graph.ops[i].kind not in FILTERS:
            raise InvalidInput("has no filter", field=f"level[{i}]")

    def kept(operator: int, weight: Array) -> Array:
        share = level.get(operator, 0.0) if isinstance(level, Mapping) else level
        _check_share(share, f"level[{operator}]" if isinstance(level, Mapping) else "level")
        return _largest(np.abs(weight), share)

    return _masks(imported, {i: kept(i, imported.loaded_weights()[i][0]) for i in _filters(imported, protected)})


def global_masks(imported: Imported, level: float, *, protected: Collection[int] = ()) -> Masks:
    """Return masks that leave out the smallest ``level`` of all filters together, but for ``protected`` operators."""
    _check_share(level, "level")
    weights = imported.loaded_weights()
    filters = {i: np.abs(weights[i][0]) for i in _filters(imported, protected)}
    if not filters:
        return _masks(imported, {})
    kept = _largest(np.concatenate([values.ravel() for values in filters.values()]), level)
    parts = np.split(kept, np.cumsum([values.size for values in filters.values()])[:-1])
    found = zip(filters.items(), parts, strict=True)
    return _masks(imported, {i: part.reshape(values.shape) for (i, values), part in found})


def threshold_masks(imported: Imported, threshold: float, *, in_deviations: bool = False) -> Masks:
    """Return masks that leave out weights whose magnitude is at most ``threshold``.

    With ``in_deviations``, the threshold of each filter is so many of its standard deviations (Han et al., 2015).
    """
    if not threshold >= 0:
        raise InvalidInput(f"must be at least 0, not {threshold}", field="threshold")
    filters = {i: imported.loaded_weights()[i][0] for i in _filters(imported)}
    units = {i: float(weight.std()) if in_deviations else 1.0 for i, weight in filters.items()}
    return _masks(imported, {i: np.abs(weight) > threshold * units[i] for i, weight in filters.items()})


def nonzero_masks(imported: Imported) -> Masks:
    """Return masks that keep what of the filters is not zero."""
    return _masks(imported, {i: imported.loaded_weights()[i][0] != 0 for i in _filters(imported)})


def zero_share(imported: Imported) -> float:
    """Return the share of zeros in a network's filters, 0 where there are none."""
    filters = [imported.loaded_weights()[i][0] for i in _filters(imported)]
    return sum(int((w == 0).sum()) for w in filters) / max(sum(w.size for w in filters), 1)


def masked(imported: Imported, masks: Masks) -> Imported:
    """Return the network with zeros for weights that are not kept; its graph is the same, and so is its latency."""
    weights = tuple(
        tuple(np.where(kept, array, np.float32(0)) for array, kept in zip(arrays, keeps, strict=True))
        for arrays, keeps in zip(imported.loaded_weights(), masks, strict=True)
    )
    return replace(imported, weights=weights)


def size_report(imported: Imported) -> SizeReport:
    """Return what a network's weights take on disk, packed and not, and the share of zeros in its filters.

    A Huffman code alone packs no runs of zeros; deflate, which zip files use, does.
    """
    weights = imported.loaded_weights()
    data = b"".join(array.tobytes() for arrays in weights for array in arrays)
    zip_bytes, huffman_bytes = _packed(data, zlib.Z_DEFAULT_STRATEGY), _packed(data, zlib.Z_HUFFMAN_ONLY)
    return SizeReport(len(data), zip_bytes, huffman_bytes, zero_share(imported))


def _filters(imported: Imported, protected: Collection[int] = ()) -> list[int]:
    return [i for i, op in enumerate(imported.graph.ops) if op.kind in FILTERS and i not in protected]


def _masks(imported: Imported, of_filters: Mapping[int, Array]) -> Masks:
    return tuple(
        tuple(
            of_filters[i] if i in of_filters and not j else np.ones(array.shape, np.bool_)
            for j, array in enumerate(arrays)
        )
        for i, arrays in enumerate(imported.loaded_weights())
    )


def _largest(magnitudes: Array, left_out: float) -> Array:
    """Return which magnitudes are kept: exactly so many, the first of equal ones left out first."""
    kept = np.ones(magnitudes.size, np.bool_)
    kept[np.argsort(magnitudes, axis=None, kind="stable")[: round(left_out * magnitudes.size)]] = False
    return kept.reshape(magnitudes.shape)


def _check_share(share: float, field: str) -> None:
    if not 0 <= share <= 1:
        raise InvalidInput(f"must be a share of 0 to 1, not {share}", field=field)


def _packed(data: bytes, strategy: Literal[0, 2]) -> int:
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, 9, strategy)
    return len(packer.compress(data)) + len(packer.flush())
