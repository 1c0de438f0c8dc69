"""One table: predictors side by side on the rows that they were not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichBars

from leti.cli.protocols import Split
from leti.cli.report import LEGEND, metrics_table, new_console, write_json
from leti.core.codec import to_json
from leti.core.errors import LetiError, TooFewMeasurements
from leti.core.prediction import Metrics, Progress
from leti.core.spec import NetworkConfig

if TYPE_CHECKING:
    from rich.console import Console

    from leti.cli.judging import Fitted
    from leti.cli.split_table import Bars, SplitTable, ZeroChoice, ZeroTried
    from leti.cli.table import Measured

_COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())


@final
@dataclass(frozen=True, slots=True)
class TableRun:
    """What ``leti evaluate --table`` is asked for."""

    table: Path
    latency_column: str
    space: str
    arch_column: str
    where: tuple[tuple[str, str], ...]
    config: NetworkConfig | None
    keep_degenerate: bool
    one_per_class: bool
    train: int
    split: Split
    seed: int
    kinds: tuple[str, ...]
    coverage: float
    zero: ZeroChoice

    def run(self, json_file: Path | None) -> None:
        """Judge each kind, print the table, and write the JSON where one is asked for.

        A kind that fails is told, and the others go on; where all fail, the first one's error is raised.
        """
        from leti.cli.split_table import SplitTable
        from leti.cli.table import read_table

        console = new_console()
        with RichBars(*_COLUMNS, console=console, transient=True) as rich_bars:
            bars = _bars(rich_bars)
            measured = read_table(
                self.table,
                self.space,
                self.arch_column,
                self.latency_column,
                where=self.where,
                config=self.config,
                keep_degenerate=self.keep_degenerate,
                one_per_class=self.one_per_class,
                progress=bars("reading"),
            )
            split = SplitTable(measured, self.split, self.train, self.seed, bars)
            tried = split.choose_zero(self.zero, split.train_rows)
            metrics, failed = self._judge(split, tried, bars)
        self._show(console, measured, split, tried, metrics, failed)
        data = {
            "table": self.table.name,
            "where": ["=".join(condition) for condition in self.where],
            "space": self.space,
            "zero": tried.zero,
            "zero_cross_validation_error": dict(tried.errors) or None,
            "split": self.split,
            "seed": self.seed,
            "rows_used": len(measured.specs),
            "skipped": measured.skipped.to_json(),
            "predictors": to_json(metrics),
            "failed": failed,
        }
        write_json(json_file, data)

    def _judge(self, split: SplitTable, tried: ZeroTried, bars: Bars) -> tuple[dict[str, Metrics], dict[str, str]]:
        from leti.cli.judging import fit_and_judge, last_stacks

        train, test = split.sample(split.train_rows, tried.zero), split.sample(split.test_rows, tried.zero)
        fitted: dict[str, Fitted] = {}
        failed: dict[str, LetiError] = {}
        for kind in last_stacks(self.kinds):
            progress = bars(f"fitting {kind}")
            try:
                fitted[kind] = fit_and_judge(
                    kind, train, test, coverage=self.coverage, seed=self.seed, fitted=fitted, progress=progress
                )
            except TooFewMeasurements as error:
                failed[kind] = TooFewMeasurements(
                    f"{len(train)} rows are too few: {error.message}", field="--train", remedy="train on more"
                )
            except LetiError as error:
                failed[kind] = error
        if not fitted:
            raise next(iter(failed.values()))
        metrics = {kind: fitted[kind].metrics for kind in self.kinds if kind in fitted}
        return metrics, {kind: str(error) for kind, error in failed.items()}

    def _show(
        self,
        console: Console,
        measured: Measured,
        split: SplitTable,
        tried: ZeroTried,
        metrics: dict[str, Metrics],
        failed: dict[str, str],
    ) -> None:
        parts = f"{len(split.train_rows)} to train, {len(split.test_rows)} to test"
        title = f"{self.table.name}: {self.split} split, seed {self.seed}, none = {tried.zero}, {parts}"
        console.print(metrics_table(title, metrics))
        if tried.errors:
            errors = ", ".join(f"{meaning} {100 * error:.2f} %" for meaning, error in tried.errors.items())
            judged = f"mean error of {tried.judge} in cross-validation inside the training part"
            console.print(f"none = {tried.zero}: {judged}: {errors}")
        console.print(LEGEND, style="dim", highlight=False)
        for kind, error in failed.items():
            console.print(f"{kind} failed: {error}")
        for reason, lines in measured.skipped.rows.items():
            shown = ", ".join(map(str, lines[:5])) + (", …" if len(lines) > 5 else "")
            console.print(f"left out {len(lines)} rows: {reason} (lines {shown})")


def _bars(bars: RichBars) -> Bars:
    def bar(description: str) -> Progress:
        task = bars.add_task(description, total=None)
        return lambda done, total: bars.update(task, completed=done, total=total)

    return bar
