"""What lies between stages as dense layers on selected elements, found by what the network makes of bases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

from leti.compression.reduced_order.maxvol import Selection
from leti.compression.reduced_order.running import CHUNK, Part, pooled_elements
from leti.compression.reduced_order.stages import Affine, Division, Stage, added
from leti.core.errors import TooLarge
from leti.core.extras import needs
from leti.generator.importers import Imported
from leti.generator.weights import Array

with needs("compression"):
    import numpy as np

MAX_ELEMENTS: Final = 2**27
"""The most elements of one dense layer's matrix: half a gigabyte."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class DenseMap:
    """``Σ matrices[source] @ rows of source + Σ rows of those passed + offset``.

    Matrices are (made, computed of the source), ``offset`` (made,). ``elements`` (made,) says which of the affine map's
    value are made; where a max pool follows, those of each place of its window stand together.
    """

    matrices: Mapping[int, Array]
    passed: frozenset[int]
    offset: Array
    elements: Array

    def apply(self, rows: Mapping[int, Array]) -> Array:
        """Return what is made (samples, made) of the rows (samples, computed) of each source."""
        made = sum(rows[source] @ matrix.T for source, matrix in self.matrices.items())
        return np.asarray(made + sum(rows[source] for source in self.passed) + self.offset)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Reduction:
    """The selected rows and the dense map of each stage, and the dense maps to what leaves the stages."""

    selections: tuple[Selection, ...]
    maps: tuple[DenseMap, ...]
    exits: tuple[DenseMap, ...]


def reduction_of(imported: Imported, division: Division, selections: tuple[Selection, ...]) -> Reduction:
    """Return the dense maps of stages that compute the selected rows.

    Raises :class:`~leti.core.errors.TooLarge` for a matrix of more than :data:`MAX_ELEMENTS`.
    """
    decoders = {
        stage.value: selection.coefficients for stage, selection in zip(division.stages, selections, strict=True)
    }
    maps = tuple(
        _dense_map(imported, stage.affine, decoders, _read(imported, stage, selection), added(stage) & decoders.keys())
        for stage, selection in zip(division.stages, selections, strict=True)
    )
    types = imported.graph.value_types
    exits = tuple(
        _dense_map(imported, leaving, decoders, np.arange(types[leaving.value].elements), frozenset())
        for leaving in division.exits
    )
    return Reduction(selections, maps, exits)


def _read(imported: Imported, stage: Stage, selection: Selection) -> Array:
    """Return the elements of a stage's affine map that its selected rows are made of."""
    if stage.pool is None:
        return selection.rows
    return pooled_elements(imported.graph.ops[stage.pool], selection.rows).T.reshape(-1)


def _dense_map(
    imported: Imported, affine: Affine, decoders: Mapping[int, Array], elements: Array, passed: frozenset[int]
) -> DenseMap:
    part = Part(imported, affine.sources, (affine.value,))
    (still,) = part(*(np.zeros((1, size)) for size in part.sizes))
    matrices = {}
    for place, source in enumerate(affine.sources):
        if source in passed:
            continue
        columns = decoders[source].shape[1] if source in decoders else part.sizes[place]
        if columns * len(elements) > MAX_ELEMENTS:
            raise TooLarge(
                f"a dense layer of {len(elements)} × {columns} is needed",
                field="first",
                remedy="begin later, or compute fewer rows",
                limit=MAX_ELEMENTS,
            )
        matrix = np.empty((len(elements), columns))
        for start in range(0, columns, CHUNK):
            stop = min(start + CHUNK, columns)
            given = [np.zeros((stop - start, size), np.float32) for size in part.sizes]
            given[place] = (
                decoders[source][:, start:stop].T
                if source in decoders
                else np.eye(stop - start, part.sizes[place], k=start, dtype=np.float32)
            )
            matrix[:, start:stop] = (part(*given)[0] - still)[:, elements].T
        matrices[source] = matrix
    return DenseMap(matrices, passed, still[0, elements], elements)
