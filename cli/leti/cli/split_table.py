"""A table of measured networks in two parts: what predictors train on, and what they have never seen."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

from leti.cli.protocols import Split
from leti.cli.table import Measured
from leti.core.errors import TooFewMeasurements
from leti.core.extras import needs
from leti.core.graph import Graph
from leti.core.prediction import Progress
from leti.core.spec import NetworkSpec
from leti.core.wire import Zero

with needs("boosting"):
    from leti.cli.judging import lowering_error
    from leti.generator.lowering import ZEROS, lower
    from leti.predictors.evaluation import Sample, split_by_group, split_randomly

ZeroChoice = Literal["auto", "execute", "fold", "prune"]

Bars = Callable[[str], Progress]
"""Makes a report of progress for what it is told."""


@final
@dataclass(frozen=True, slots=True)
class ZeroTried:
    """The meaning of ``none`` that was chosen, the error of each that was tried, and the kind that judged them.

    ``errors`` are those of :func:`~leti.cli.judging.lowering_error`, out of fold inside the training part; empty where
    there was nothing to choose.
    """

    zero: Zero
    errors: Mapping[str, float]
    judge: str = ""


def meanings_of(specs: Iterable[NetworkSpec], zero: ZeroChoice) -> tuple[Zero, ...]:
    """Return what ``none`` may have meant: what is asked for; for ``auto`` anything, where networks have it."""
    if zero != "auto":
        return (zero,)
    return ZEROS if any(layer.name == "none" for spec in specs for layer in spec.layers) else ZEROS[:1]


def best_meaning(tried: Mapping[Zero, float]) -> Zero:
    """Return the meaning with the least error; of those that tie, the first, as the reference does."""
    return min(tried, key=lambda meaning: round(tried[meaning], 4))


@final
class SplitTable:
    """Rows of a table in a training and a test part, lowered when they are asked for, once each."""

    def __init__(
        self, measured: Measured, split: Split, train: int, seed: int, bars: Bars, test: int | None = None
    ) -> None:
        """Split; ``test`` bounds the rows of the test part."""
        count = len(measured.specs)
        if train >= count:
            message = f"{train} rows to train on, and {count} can be used in all"
            raise TooFewMeasurements(message, field="--train", remedy="train on fewer")
        self._measured, self._split, self._bars, self.seed = measured, split, bars, seed
        self.train_rows, rest = self._divide(range(count), train)
        self.test_rows = rest if test is None or test >= len(rest) else self._divide(rest, test)[0]
        self._graphs: dict[tuple[int, Zero], Graph] = {}

    def training_rows(self, count: int) -> tuple[int, ...]:
        """Return ``count`` of the training rows, drawn as the split was; smaller parts lie inside larger ones."""
        return self.train_rows if count >= len(self.train_rows) else self._divide(self.train_rows, count)[0]

    def choose_zero(self, zero: ZeroChoice, rows: Sequence[int]) -> ZeroTried:
        """Return what ``none`` meant: what was asked for, or what cross-validation in these training rows favours."""
        meanings = meanings_of(self._measured.specs, zero)
        if len(meanings) == 1:
            return ZeroTried(meanings[0], {})
        judge = "xgboost" if importlib.util.find_spec("xgboost") else "flops"
        trying = self._bars("what is none?")
        tried: dict[Zero, float] = {}
        for meaning in meanings:
            trying(len(tried), len(meanings))
            try:
                tried[meaning] = lowering_error(judge, self.sample(rows, meaning), self.seed)
            except TooFewMeasurements as error:
                message = f"{len(rows)} rows are too few to cross-validate: {error.message}"
                raise TooFewMeasurements(message, field="--train", remedy="train on more, or give --zero") from None
        trying(len(tried), len(meanings))
        return ZeroTried(best_meaning(tried), {str(meaning): error for meaning, error in tried.items()}, judge)

    def sample(self, rows: Sequence[int], zero: Zero) -> Sample:
        """Return rows as measured graphs."""
        lowering = self._bars(f"lowering ({zero})")
        graphs = []
        for done, row in enumerate(rows):
            lowering(done, len(rows))
            if (row, zero) not in self._graphs:
                self._graphs[row, zero] = lower(self._measured.specs[row], zero)
            graphs.append(self._graphs[row, zero])
        lowering(len(rows), len(rows))
        latencies = tuple(self._measured.latencies_ms[row] for row in rows)
        return Sample(tuple(graphs), latencies, tuple(self._measured.groups[row] for row in rows))

    def _divide(self, rows: Sequence[int], count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return ``count`` of these rows and the others, both ascending."""
        first, others = (
            split_by_group([self._measured.groups[row] for row in rows], train_count=count, seed=self.seed)
            if self._split == "isomorphism"
            else split_randomly(len(rows), train_count=count, seed=self.seed)
        )
        return tuple(rows[i] for i in first), tuple(rows[i] for i in others)
