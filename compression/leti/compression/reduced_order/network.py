"""Reduced-order networks: of a stage's elements few are computed, those that span the others on calibration data.

Gusak, Daulbaev, Ponomarev, Cichocki, Oseledets, "Reduced-Order Modeling of Deep Neural Networks" (2021). What a stage
makes lies near a space of few dimensions, ``z ≈ V c``. Its selected rows give ``c``, so that the next stage's selected
rows are a small dense layer of them: ``s' = σ(S' A V (S V)⁺ s + S' b)``. Nothing is trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from leti.compression.reduced_order.dense import reduction_of
from leti.compression.reduced_order.deviation import Deviation, deviation_of
from leti.compression.reduced_order.embeddings import Embedding, SketchKind, sketch_for
from leti.compression.reduced_order.maxvol import rectangular_maxvol
from leti.compression.reduced_order.running import CHUNK, Part, types_of
from leti.compression.reduced_order.stages import Division, divide, keeps_samples, reduced_macs
from leti.compression.reduced_order.writing import write
from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.generator.importers import Imported
from leti.generator.weights import Array

with needs("compression"):
    import numpy as np


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
    tail: float = 0.0,
    first: int | None = None,
    sketch: SketchKind | None = None,
) -> ReducedOrder:
    """Return a network of dense layers of at most ``rows`` elements that computes nearly the same, without training.

    ``inputs`` (samples, \\*shape) are calibration data as the graph's only input has them, float32. ``rank`` is the
    most dimensions of an embedding, fewer where they lose no more than the share ``tail`` of the energy; ``rows`` the
    elements that a stage computes, a third more than ``rank`` where it is not said. ``first`` is the operator from
    which on the network is reduced; without it, the one that leaves the fewest multiply-accumulates. ``sketch`` says
    how embeddings are found.

    Raises :class:`~leti.core.errors.InvalidInput` naming the operator that cannot be reduced, or where no beginning
    makes the network cheaper, and :class:`~leti.core.errors.TooLarge` for a dense layer that is.
    """
    inputs = _checked(imported, inputs)
    rows = max(rank + rank // 3, 1) if rows is None else rows
    if rank < 1 or rows < rank:
        raise InvalidInput("must be at least 1, and no more than the rows", field="rank")
    division = cheapest(imported, rows) if first is None else divide(imported.graph, first)
    for i, op in enumerate(imported.graph.ops[: division.first]):
        if not keeps_samples(op):
            raise InvalidInput(f"{op.kind!r} works across samples", field=f"graph.ops[{i}]")
    if not division.stages:
        raise InvalidInput("there is nothing to reduce behind it", field="first", remedy="begin earlier")
    embeddings = _embeddings(imported, division, inputs, rank, tail, sketch)
    selections = {group: rectangular_maxvol(found.basis, rows) for group, found in embeddings.items()}
    reduction = reduction_of(imported, division, tuple(selections[group] for group in division.groups))
    written = write(imported, division, reduction)
    bases = [embeddings[group].basis for group in division.groups]
    deviation = deviation_of(imported, division, reduction, bases, written.observed, inputs)
    return ReducedOrder(written.imported, division.first, deviation)


def cheapest(imported: Imported, rows: int) -> Division:
    """Return the division whose reduced network has the fewest multiply-accumulates, ``rows`` elements a stage.

    Raises :class:`~leti.core.errors.InvalidInput` where none has fewer than the network as it is.
    """
    graph = imported.graph
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
    imported: Imported, division: Division, inputs: Array, rank: int, tail: float, kind: SketchKind | None
) -> dict[int, Embedding]:
    """Return the embedding of each group of stages; what stages of a group make lies in one space."""
    types = types_of(imported.graph)
    sizes = {group: types[division.stages[group].value].elements for group in division.groups}
    sketches = {group: sketch_for(size, rank, kind) for group, size in sizes.items()}
    part = Part(imported, (0,), [stage.value for stage in division.stages])
    for start in range(0, len(inputs), CHUNK):
        for group, made in zip(division.groups, part(inputs[start : start + CHUNK]), strict=True):
            sketches[group].add(made)
    return {group: sketch.embedding(tail=tail) for group, sketch in sketches.items()}
