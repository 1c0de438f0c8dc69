"""A reduced network written down: fully connected operators, and the functions that stood between the whole ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from leti.compression.reduced_order.dense import DenseMap, Reduction
from leti.compression.reduced_order.stages import Division, Stage
from leti.core.extras import needs
from leti.core.graph import TensorType
from leti.generator.importers import Imported
from leti.generator.importers.draft import Constant, Draft

with needs("compression"):
    import numpy as np


@final
@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """A reduced network, and the same one that returns what each stage computes, then what each exit does, as rows."""

    imported: Imported
    observed: Imported


def write(imported: Imported, division: Division, reduction: Reduction) -> Written:
    """Return the reduced network: operators before the first stage as they were, then stages, then the rest."""
    return _Writer(imported, division).written(reduction)


@final
class _Writer:
    """Places operators; ``_values`` are the draft's values by those of the whole network."""

    def __init__(self, imported: Imported, division: Division) -> None:
        self._imported = imported
        self._division = division
        self._graph = imported.graph
        self._weights = imported.loaded_weights()
        self._types = imported.graph.value_types
        self._firsts = imported.graph.first_values()
        self._draft = Draft()
        self._values = {i: self._draft.input(t) for i, t in enumerate(self._graph.inputs)}
        self._rows: dict[int, int] = {}  # what stages compute, and whole values as rows

    def written(self, reduction: Reduction) -> Written:
        for i in range(self._division.first):
            self._copy(i)
        computed = []
        for stage, dense in zip(self._division.stages, reduction.maps, strict=True):
            self._rows[stage.value] = self._stage(stage, dense)
            computed.append(self._rows[stage.value])
        for leaving, dense in zip(self._division.exits, reduction.exits, strict=True):
            made = self._dense(dense, self._name(leaving.value))
            computed.append(made)
            self._values[leaving.value] = self._shaped(made, self._types[leaving.value].shape)
        for i in self._division.rest:
            self._copy(i)
        draft = self._draft
        draft.outputs = computed
        observed = draft.finish(weights=True)
        draft.outputs = [self._values[value] for value in self._graph.outputs]
        return Written(draft.finish(weights=True), observed)

    def _copy(self, number: int) -> None:
        """Place an operator of the whole network as it was."""
        op, first = self._graph.ops[number], self._firsts[number]
        made = self._draft.place_many(
            op.kind,
            [self._values[value] for value in self._graph.wiring[number]],
            op.outputs,
            weights=[Constant.of(array) for array in self._weights[number]],
            name=self._imported.names[number],
            **dict(op.attributes),
        )
        self._values.update(zip(range(first, first + len(made)), made, strict=True))

    def _stage(self, stage: Stage, dense: DenseMap) -> int:
        value = self._dense(dense, self._name(stage.affine.value))
        for i in stage.then:
            op, name = self._graph.ops[i], self._imported.names[i]
            shape = self._draft.types[value].shape
            if i == stage.pool:
                places = len(dense.elements) // self._window(i)
                value = self._shaped(value, (1, self._window(i), places))
                value = self._draft.place("reduce_max", (value,), TensorType((1, places)), name=name, axes=(1,))
            else:
                value = self._draft.place(
                    op.kind, (value,), TensorType(shape), weights=(), name=name, **dict(op.attributes)
                )
        return value

    def _dense(self, dense: DenseMap, name: str) -> int:
        """Place a fully connected operator a matrix, and their sum."""
        output = TensorType((1, len(dense.offset)))
        offset = Constant.of(dense.offset.astype(np.float32))
        terms: list[int] = []
        for source, matrix in dense.matrices.items():
            weight, with_bias = Constant.of(matrix.astype(np.float32)), not terms
            terms.append(
                self._draft.place(
                    "fully_connected",
                    (self._row(source),),
                    output,
                    weights=(weight, offset) if with_bias else (weight,),
                    name=name,
                    bias=with_bias,
                )
            )
        terms += [self._row(source) for source in sorted(dense.passed)]
        total = terms[0]
        for term in terms[1:]:
            total = self._draft.place("add", (total, term), output, name=name)
        if not dense.matrices and dense.offset.any():
            total = self._draft.place("shift", (total,), output, weights=(offset,), name=name)
        return total

    def _row(self, value: int) -> int:
        """Return what is computed of a value: a stage's selected elements, or all of a whole one."""
        if value not in self._rows:
            self._rows[value] = self._shaped(self._values[value], (1, self._types[value].elements))
        return self._rows[value]

    def _shaped(self, value: int, shape: tuple[int, ...]) -> int:
        if self._draft.types[value].shape == shape:
            return value
        return self._draft.place("reshape", (value,), TensorType(shape))

    def _window(self, number: int) -> int:
        height, width = self._graph.ops[number].integers("kernel")
        return height * width

    def _name(self, value: int) -> str:
        """Return the name of the operator that makes a value of the whole network."""
        made = [i for i, first in enumerate(self._firsts) if first <= value]
        return self._imported.names[made[-1]] if made else ""
