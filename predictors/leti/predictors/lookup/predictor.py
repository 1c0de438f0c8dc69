"""Look-up table: the latency of a network as the sum of its kernels' latencies, corrected.

The table is built from kernels that were measured one by one, where there are such measurements; where there are none
it is solved from the latencies of whole networks, by non-negative least squares on relative error that draws each
kernel to what its work and traffic let expect, so that kernels which always come together share what they take in a
sensible way. An affine correction from the sum to the network is fitted on end-to-end times. How firmly kernels are
drawn to what was measured or expected is chosen by grouped cross-validation inside the training data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, cast, final

from typing_extensions import override

from leti.core.codec import Json, from_json, to_json
from leti.core.errors import ArtifactError, InvalidInput
from leti.core.extras import needs
from leti.core.prediction import Share
from leti.predictors.additive import FLOOR
from leti.predictors.batch import Batch, Vector
from leti.predictors.calibrated import Arrays, CalibratedPredictor, Examples, Model
from leti.predictors.lookup.correction import OVERHEAD, SUM, Correction
from leti.predictors.lookup.fitting import Evidence, fit_table
from leti.predictors.lookup.table import FEATURES, Grain, KernelTable, Occurrences, Roofline, TableRow, remarks_of
from leti.predictors.splits import cross_splits

with needs("boosting"):
    import numpy as np

STIFFNESS: Final = (1.0, 0.1, 1e-2, 1e-3, 1e-4)
"""How firmly kernels are drawn to what was measured or expected, in networks' worth of relative error."""

_CAP: Final = 0.5
"""A network counts as at most this far off: a stray is a miss, not for how far it lies."""

_FEW_ROUNDS: Final = 3
_FOLDS: Final = 3


@final
@dataclass(frozen=True, slots=True)
class TableEncoder:
    """Takes graphs apart into kernels, or into operators as if none were fused."""

    grain: Grain = "kernel"

    def encode(self, batch: Batch) -> Occurrences:
        """Return the kernels of each graph."""
        return Occurrences.of(batch, self.grain)


@final
@dataclass(frozen=True, slots=True, eq=False)
class TableModel(Model[Occurrences]):
    """A table, a correction from its sums to networks, and the least that any network takes, in ms."""

    table: KernelTable
    correction: Correction
    floor_ms: float

    @override
    def latencies_ms(self, encoded: Occurrences) -> Vector:
        prices, _ = self._prices(encoded)
        return np.maximum(self.correction.latencies_ms(encoded.sums(prices), encoded.features), self.floor_ms)

    @override
    def unknown(self, encoded: Occurrences) -> Sequence[tuple[str, ...]]:
        return remarks_of(encoded, self._prices(encoded)[1])

    @override
    def shares(self, encoded: Occurrences, batch: Batch, encoder: Any) -> Sequence[tuple[Share, ...]]:
        """Return a share for each kernel with its operators, the overhead, and what else the correction adds."""
        prices, _ = self._prices(encoded)
        each = prices[encoded.numbers] * self.correction.factor
        parts = self.correction.parts_ms(encoded.sums(prices), encoded.features)
        lacking = np.maximum(self.floor_ms - parts.sum(axis=1), 0.0)
        operators = _operators(batch, encoder.grain)
        starts = np.cumsum(encoded.lengths) - encoded.lengths
        found: list[tuple[Share, ...]] = []
        for graph, (start, length) in enumerate(zip(starts.tolist(), encoded.lengths.tolist(), strict=True)):
            of_kernels = (
                Share(encoded.kernels[encoded.numbers[k]].name, float(each[k]), operators[k])
                for k in range(start, start + length)
            )
            rest = (
                Share(term, float(parts[graph, i]) + (float(lacking[graph]) if term == OVERHEAD else 0.0))
                for i, term in enumerate(self.correction.terms)
                if term != SUM
            )
            found.append((*of_kernels, *rest))
        return found

    def _prices(self, encoded: Occurrences) -> tuple[Vector, Sequence[str]]:
        """Return what each distinct kernel takes, and what is to be said of it; of those alone that occur."""
        used = np.bincount(encoded.numbers, minlength=1).nonzero()[0]
        prices, remarks = np.zeros(len(encoded.kernels)), [""] * len(encoded.kernels)
        prices[used], found = self.table.price([encoded.kernels[number] for number in used.tolist()])
        for number, remark in zip(used.tolist(), found, strict=True):
            remarks[number] = remark
        return prices, remarks

    @override
    def to_parts(self) -> tuple[Json, Arrays, Mapping[str, bytes]]:
        rows = self.table.rows
        data = {
            "rows": [
                [row.name, row.shapes, row.kind, row.macs, row.traffic_bytes, row.count, row.source] for row in rows
            ],
            "roofline": {kind: list(line) for kind, line in self.table.roofline.coefficients.items()},
            "correction": to_json(self.correction),
            "floor_ms": self.floor_ms,
        }
        return cast("Json", data), {"kernel_ms": np.array([row.latency_ms for row in rows])}, {}


@final
class LookupTablePredictor(CalibratedPredictor[TableEncoder, Occurrences]):
    """A table of kernels (or of operators, with ``grain="operator"``), summed up and corrected.

    Operators take the times of kernels that are one operator; what runs fused is solved for.
    """

    kind: ClassVar[str] = "lookup_table"
    encoder_type: ClassVar[type[Any]] = TableEncoder

    def __init__(self, grain: Grain = "kernel") -> None:
        super().__init__()
        if grain not in ("kernel", "operator"):
            raise InvalidInput(f"must be kernel or operator, not {str(grain)[:80]!r}", field="grain")
        self._grain: Grain = grain

    @override
    def learn_encoder(self, batch: Batch) -> TableEncoder:
        return TableEncoder(self._grain)

    @override
    def learn(self, examples: Examples[TableEncoder, Occurrences], *, seed: int) -> Model[Occurrences]:
        evidence = _evidence(examples)
        strengths = (np.inf, *STIFFNESS) if evidence.has_measured else STIFFNESS
        table, correction = fit_table(evidence, _choose(examples, strengths, seed))
        return TableModel(table, correction, FLOOR * float(examples.latencies_ms.min()))

    @classmethod
    @override
    def read_model(cls, data: Json, arrays: Arrays, files: Mapping[str, bytes]) -> Model[Occurrences]:
        state = cast("dict[str, Any]", data)
        times = arrays["kernel_ms"]
        if times.shape != (len(state["rows"]),) or not np.all(np.isfinite(times) & (times >= 0)):
            raise ArtifactError("does not fit the rows of the table", field="kernel_ms")
        rows = []
        for (name, shapes, kind, macs, traffic, count, source), latency in zip(
            state["rows"], times.tolist(), strict=True
        ):
            row = {"name": name, "shapes": shapes, "kind": kind, "macs": macs, "traffic_bytes": traffic}
            try:
                rows.append(from_json(TableRow, {**row, "latency_ms": latency, "count": count, "source": source}))
            except InvalidInput as error:
                raise ArtifactError(str(error), field="rows") from error
        lines = {str(kind): _line(line) for kind, line in state["roofline"].items()}
        if "" not in lines:
            raise ArtifactError("has no line for kinds that it does not name", field="roofline")
        try:
            correction = from_json(Correction, state["correction"])
        except InvalidInput as error:
            raise ArtifactError(str(error), field="correction") from error
        if not {OVERHEAD, SUM, *FEATURES}.issuperset(correction.terms):
            raise ArtifactError("names terms that are not known", field="correction")
        return TableModel(KernelTable(tuple(rows), Roofline(lines)), correction, float(state["floor_ms"]))

    def table(self) -> tuple[TableRow, ...]:
        """Return a row for each kernel, by name and shapes, with what it takes in ms before the correction."""
        return cast("TableModel", self.fitted.model).table.rows


def _evidence(examples: Examples[TableEncoder, Occurrences]) -> Evidence:
    return Evidence.of(examples.encoded, examples.latencies_ms, examples.operator_times)


def _choose(examples: Examples[TableEncoder, Occurrences], strengths: Sequence[float], seed: int) -> float:
    """Return the strength with the least mean relative error in grouped cross-validation."""
    if len(set(examples.groups)) < 2:
        return strengths[0]
    errors = np.zeros(len(strengths))
    for rest, fold in cross_splits(examples.groups, _FOLDS, seed=seed):
        evidence, held = _evidence(examples.part(rest)), examples.part(fold)
        for i, strength in enumerate(strengths):
            table, correction = fit_table(evidence, strength, rounds=_FEW_ROUNDS)
            predicted = TableModel(table, correction, 0.0).latencies_ms(held.encoded)
            errors[i] += np.minimum(np.abs(predicted / held.latencies_ms - 1), _CAP).sum()
    return strengths[int(errors.argmin())]


def _operators(batch: Batch, grain: Grain) -> tuple[tuple[int, ...], ...]:
    """Return the numbers, in its graph, of the operators of each kernel (or of each operator) of a batch."""
    counts = np.bincount(batch.op_graphs, minlength=len(batch))
    local = np.arange(len(batch.op_graphs)) - (np.cumsum(counts) - counts)[batch.op_graphs]
    if grain == "operator":
        return tuple((number,) for number in local.tolist())
    members: list[list[int]] = [[] for _ in range(len(batch.numbers))]
    for kernel, number in zip(batch.op_kernels.tolist(), local.tolist(), strict=True):
        members[kernel].append(number)
    return tuple(map(tuple, members))


def _line(values: Any) -> tuple[float, float, float]:
    launch, mac, byte = (float(value) for value in values)
    if not all(math.isfinite(value) and value >= 0 for value in (launch, mac, byte)):
        raise ArtifactError("holds numbers that are negative, or none", field="roofline")
    return launch, mac, byte
