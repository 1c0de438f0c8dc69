"""How far a reduced network is from the whole one, layer by layer, and how far it can be at most."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from leti.compression.reduced_order.dense import DenseMap, Reduction
from leti.compression.reduced_order.running import CHUNK, Part
from leti.compression.reduced_order.stages import Affine, Division, steepness
from leti.core.extras import needs
from leti.generator.importers import Imported
from leti.generator.weights import Array

with needs("compression"):
    import numpy as np


@final
@dataclass(frozen=True, slots=True)
class ReducedLayer:
    """A stage: the whole network's ``operator`` that ends it, and its name; its elements, rank, and rows computed.

    Errors are relative, ``‖Ẑ - Z‖ / ‖Z‖`` over all calibration samples. ``tail`` is what the embedding loses,
    ``projection_error`` what is lost where all elements are made of the right selected ones, which never exceeds
    ``projection_bound``, the tail times ``‖(S V)⁺‖`` (2-norm). ``error`` is that of the reduced network, in which the
    selected elements carry the errors of the layers before.
    """

    operator: int
    name: str
    size: int
    rank: int
    rows: int
    tail: float
    projection_bound: float
    projection_error: float
    error: float


@final
@dataclass(frozen=True, slots=True)
class Deviation:
    """Layers in order; the relative error of what leaves them, on the calibration data, and its bound.

    The bound adds up, by the triangle inequality, what each layer does wrong by itself, times the norms of all the
    dense layers that it passes through and the steepness of the functions between them.
    """

    layers: tuple[ReducedLayer, ...]
    output_error: float
    output_bound: float


def deviation_of(
    imported: Imported,
    division: Division,
    reduction: Reduction,
    bases: Sequence[Array],
    observed: Imported,
    inputs: Array,
) -> Deviation:
    """Return how far a reduced network, ``observed`` at its stages and exits, is from the whole one.

    ``bases`` (size, rank) are the stages' embeddings, ``inputs`` (samples, elements) the calibration data.
    """
    sums = _Sums(imported, division, reduction, bases)
    reduced = Part(observed, range(len(observed.graph.inputs)), observed.graph.outputs)
    for start in range(0, len(inputs), CHUNK):
        chunk = inputs[start : start + CHUNK]
        sums.add(chunk, reduced(chunk))
    return sums.deviation()


@final
class _Sums:
    """Squared norms, summed over samples."""

    def __init__(self, imported: Imported, division: Division, reduction: Reduction, bases: Sequence[Array]) -> None:
        self._imported, self._division, self._reduction, self._bases = imported, division, reduction, bases
        affine = (*(stage.affine for stage in division.stages), *division.exits)
        self._affine: tuple[Affine, ...] = affine
        self._maps: tuple[DenseMap, ...] = (*reduction.maps, *reduction.exits)
        values = {stage.value for stage in division.stages}
        values.update(value for one in affine for value in (one.value, *one.sources))
        self._values = sorted(values)
        self._part = Part(imported, (0,), self._values)
        count = len(division.stages)
        self._energy, self._tail, self._projection, self._error = np.zeros((4, count))
        self._defect = np.zeros(len(affine))
        self._exit_energy = self._exit_error = 0.0

    def add(self, inputs: Array, reduced: Sequence[Array]) -> None:
        """Add samples: inputs, and what the reduced network makes of them, stages first, then exits."""
        whole = dict(zip(self._values, self._part(inputs), strict=True))
        rows = dict(whole)
        stages = self._division.stages
        for i, (stage, selection) in enumerate(zip(stages, self._reduction.selections, strict=True)):
            values, basis = whole[stage.value], self._bases[i]
            rows[stage.value] = values[:, selection.rows]
            self._energy[i] += _square(values)
            self._tail[i] += _square(values - values @ basis @ basis.T)
            self._projection[i] += _square(values - rows[stage.value] @ selection.coefficients.T)
            self._error[i] += _square(values - reduced[i] @ selection.coefficients.T)
        for i, (affine, dense) in enumerate(zip(self._affine, self._maps, strict=True)):
            self._defect[i] += _square(whole[affine.value][:, dense.elements] - dense.apply(rows))
        for leaving, made in zip(self._division.exits, reduced[len(stages) :], strict=True):
            self._exit_energy += _square(whole[leaving.value])
            self._exit_error += _square(whole[leaving.value] - made)

    def deviation(self) -> Deviation:
        """Return the relative errors, and the bound of those that leave the stages."""
        layers, spread = [], dict[int, float]()
        count = len(self._division.stages)
        for i, stage in enumerate(self._division.stages):
            selection, size = self._reduction.selections[i], self._bases[i].shape[0]
            tail, projection, error = (
                _relative(sums[i], self._energy[i]) for sums in (self._tail, self._projection, self._error)
            )
            bound = tail * float(np.linalg.norm(selection.coefficients, 2))
            last = stage.then[-1]
            name, rank = self._imported.names[last], self._bases[i].shape[1]
            rows = len(selection.rows)
            layers.append(ReducedLayer(last, name, size, rank, rows, tail, bound, projection, error))
            steep = math.prod(steepness(self._imported.graph.ops[k]) for k in stage.then)
            spread[stage.value] = steep * (_spread(self._maps[i], spread) + math.sqrt(self._defect[i]))
        leaving = [
            _spread(dense, spread) + math.sqrt(defect)
            for dense, defect in zip(self._maps[count:], self._defect[count:], strict=True)
        ]
        bound = _relative(sum(each**2 for each in leaving), self._exit_energy)
        return Deviation(tuple(layers), _relative(self._exit_error, self._exit_energy), bound)


def _spread(dense: DenseMap, spread: Mapping[int, float]) -> float:
    """Return the most that errors of a dense map's sources make of it; whole values have none."""
    carried = sum(float(np.linalg.norm(m, 2)) * spread[s] for s, m in dense.matrices.items() if s in spread)
    return carried + sum(spread[source] for source in dense.passed)


def _square(values: Array) -> float:
    return float((values**2).sum())


def _relative(squares: float, energy: float) -> float:
    return math.sqrt(squares / energy) if energy else 0.0
