"""Reduced-order networks: of a stage's elements few are computed, those that span the others on calibration data.

Gusak, Daulbaev, Ponomarev, Cichocki, Oseledets, "Reduced-Order Modeling of Deep Neural Networks" (2021). What a stage
makes lies near a space of few dimensions, ``z ≈ V c``. Its selected rows give ``c``, so that the next stage's selected
rows are a small dense layer of them: ``s' = σ(S' A V (S V)⁺ s + S' b)``. Nothing is trained.
"""

from __future__ import annotations

import bisect
import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, final

from leti.compression.reduced_order.dense import reduction_of
from leti.compression.reduced_order.deviation import Deviation, deviation_of
from leti.compression.reduced_order.embeddings import Embedding, SketchKind, sketch_for
from leti.compression.reduced_order.maxvol import rectangular_maxvol
from leti.compression.reduced_order.running import CHUNK, Part
from leti.compression.reduced_order.stages import Division, divide, keeps_samples, reduced_macs
from leti.compression.reduced_order.writing import write
from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.core.graph import Graph
from leti.generator.importers import Imported
from leti.generator.weights import Array

with needs("compression"):
    import numpy as np

OVERSAMPLINGS: Final = (1.0, 1.25, 1.5, 2.0)
"""Rows for each column of a basis: more make a selection more robust, fewer leave room for more columns."""

TYPICAL_ROWS: Final = 64
"""Rows for which the cheapest beginning is sought first, where their number follows from the data."""

Plan = Callable[[float], tuple[dict[int, Embedding], dict[int, int]]]
"""Embeddings and rows of each group where so much of the energy may be lost."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class ReducedOrder:
    """A reduced network, the whole one's operator from which on it is reduced, and how far the two are apart."""

    imported: Imported
    first: int
    deviation: Deviation


def reduce_order(
    imported: Imported,
    inputs: Array,
    *,
    rank: int,
    rows: int | None = None,
    first: int | None = None,
    sketch: SketchKind | None = None,
) -> ReducedOrder:
    """Return a network of dense layers of at most ``rows`` elements that computes nearly the same, without training.

    ``inputs`` (samples, \\*shape) are calibration data as the graph's only input has them, float32. ``rank`` is the
    most dimensions of an embedding, ``rows`` the most elements that a stage computes, a third more where none are said.
    ``first`` is the operator from which on the network is reduced; without it, the one that leaves the fewest
    multiply-accumulates. ``sketch`` says how embeddings are found.

    Raises :class:`~leti.core.errors.InvalidInput` naming the operator that cannot be reduced, or where no beginning
    makes the network cheaper, and :class:`~leti.core.errors.TooLarge` for a dense layer that is.
    """
    rows = max(rank + rank // 3, 1) if rows is None else rows
    if rank < 1 or rows < rank:
        raise InvalidInput("must be at least 1, and no more than the rows", field="rank")
    observed = _observe(imported, inputs, rank, rows, first, sketch)
    return observed.reduced(observed.embeddings, dict.fromkeys(observed.embeddings, rows))


def reduce_order_to(
    imported: Imported,
    inputs: Array,
    macs: int,
    *,
    rank: int = 128,
    first: int | None = None,
    sketch: SketchKind | None = None,
) -> ReducedOrder:
    """Return the reduced network of at most so many multiply-accumulates that errs least on the calibration data.

    All embeddings lose the same share of their energy, the least that the number allows, so that ranks follow from the
    data layer by layer. How many rows a stage computes for each column of its basis is tried: :data:`OVERSAMPLINGS`.
    The rest is as in :func:`reduce_order`. Raises :class:`~leti.core.errors.InvalidInput` where even one column a stage
    is too much.
    """
    observed = _observe(imported, inputs, rank, _typical_rows(imported.graph, macs), first, sketch)
    graph, groups = imported.graph, observed.division.groups
    shares = [1 - found.captured.cumsum() / (found.energy or 1.0) for found in observed.embeddings.values()]
    tails = np.unique(np.concatenate([np.maximum(each, 0.0) for each in shares]))
    best: ReducedOrder | None = None
    for oversampling in OVERSAMPLINGS:

        def plan(tail: float, oversampling: float = oversampling) -> tuple[dict[int, Embedding], dict[int, int]]:
            cut = {group: found.cut(tail) for group, found in observed.embeddings.items()}
            return cut, {group: math.ceil(oversampling * found.rank) for group, found in cut.items()}

        def fits(tail: float, planned: Plan = plan) -> bool:
            rows = planned(tail)[1]
            return reduced_macs(graph, observed.division, [rows[group] for group in groups]) <= macs

        place = bisect.bisect_left(tails, True, key=fits)
        if place < len(tails):
            found = observed.reduced(*plan(float(tails[place])))
            if best is None or found.deviation.output_error < best.deviation.output_error:
                best = found
    if best is None:
        raise InvalidInput(f"no reduced network has at most {macs} multiply-accumulates", field="macs")
    return best


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Observed:
    """A divided network, calibration data as rows, and the embedding of each group of stages."""

    imported: Imported
    division: Division
    inputs: Array
    embeddings: Mapping[int, Embedding]

    def reduced(self, embeddings: Mapping[int, Embedding], rows: Mapping[int, int]) -> ReducedOrder:
        """Return the reduced network of these embeddings, which computes at most so many rows of each group."""
        imported, division = self.imported, self.division
        selections = {group: rectangular_maxvol(found.basis, rows[group]) for group, found in embeddings.items()}
        reduction = reduction_of(imported, division, tuple(selections[group] for group in division.groups))
        written = write(imported, division, reduction)
        bases = [embeddings[group].basis for group in division.groups]
        deviation = deviation_of(imported, division, reduction, bases, written.observed, self.inputs)
        return ReducedOrder(written.imported, division.first, deviation)


def _observe(
    imported: Imported, inputs: Array, rank: int, rows: int, first: int | None, sketch: SketchKind | None
) -> _Observed:
    """Divide a network, at its cheapest where no beginning is said, and look at what its stages make."""
    inputs = _checked(imported, inputs)
    division = cheapest(imported.graph, rows) if first is None else divide(imported.graph, first)
    for i, op in enumerate(imported.graph.ops[: division.first]):
        if not keeps_samples(op):
            raise InvalidInput(f"{op.kind!r} works across samples", field=f"graph.ops[{i}]")
    if not division.stages:
        raise InvalidInput("there is nothing to reduce behind it", field="first", remedy="begin earlier")
    return _Observed(imported, division, inputs, _embeddings(imported, division, inputs, rank, sketch))


def _typical_rows(graph: Graph, macs: int) -> int:
    """Return for how many rows to look for the cheapest beginning, where only the multiply-accumulates are known."""
    rows = TYPICAL_ROWS
    while rows > 1:
        with contextlib.suppress(InvalidInput):  # too many rows, or a network that is refused in the end
            if reduced_macs(graph, cheapest(graph, rows), rows) <= macs:
                break
        rows //= 2
    return rows


def cheapest(graph: Graph, rows: int) -> Division:
    """Return the division whose reduced network has the fewest multiply-accumulates, ``rows`` elements a stage.

    Raises :class:`~leti.core.errors.InvalidInput` where none has fewer than the network as it is.
    """
    best, fewest, refused = None, graph.macs, None
    for first, op in enumerate(graph.ops):
        if not op.macs:
            continue
        try:
            division = divide(graph, first)
        except InvalidInput as error:
            refused = error
            continue
        macs = reduced_macs(graph, division, rows)
        if division.stages and macs < fewest:
            best, fewest = division, macs
    if best is not None:
        return best
    raise refused or InvalidInput(
        f"no layer is cheaper with {rows} elements", field="rows", remedy="fewer rows, or another method"
    )


def _checked(imported: Imported, inputs: Array) -> Array:
    graph = imported.graph
    if len(graph.inputs) != 1:
        raise InvalidInput(f"the network has {len(graph.inputs)} inputs", field="model", remedy="one input")
    if graph.batch != 1:
        raise InvalidInput(f"the network has a batch of {graph.batch}", field="model", remedy="import it with one of 1")
    for i, op in enumerate(graph.ops):
        if op.macs and any(t.dtype != "float32" for t in (*op.inputs, *op.outputs)):
            raise InvalidInput(f"{op.kind!r} is not in float32", field=f"graph.ops[{i}]")
    inputs = np.asarray(inputs, dtype=np.float32)
    if not len(inputs) or inputs.shape[1:] != graph.inputs[0].shape[1:]:
        raise InvalidInput(
            f"have the shape {inputs.shape}, the network takes {graph.inputs[0].shape[1:]} a sample", field="inputs"
        )
    return inputs.reshape(len(inputs), -1)


def _embeddings(
    imported: Imported, division: Division, inputs: Array, rank: int, kind: SketchKind | None
) -> dict[int, Embedding]:
    """Return the embedding of each group of stages; what stages of a group make lies in one space."""
    types = imported.graph.value_types
    sizes = {group: types[division.stages[group].value].elements for group in division.groups}
    sketches = {group: sketch_for(size, rank, kind) for group, size in sizes.items()}
    part = Part(imported, (0,), [stage.value for stage in division.stages])
    for start in range(0, len(inputs), CHUNK):
        for group, made in zip(division.groups, part(inputs[start : start + CHUNK]), strict=True):
            sketches[group].add(made)
    return {group: sketch.embedding() for group, sketch in sketches.items()}
