"""``leti evaluate``: how good the predictors are on a table that somebody else measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from leti.cli.options import ConfigOption, JsonFile, SeedOption, read_config
from leti.cli.report import LEGEND, metrics_table, new_console, write_json
from leti.core.codec import to_json
from leti.core.errors import InvalidInput, TooFewMeasurements
from leti.core.extras import needs
from leti.core.prediction import Metrics, Progress
from leti.core.wire import Zero

if TYPE_CHECKING:
    from leti.cli.table import Measured
    from leti.predictors.evaluation import Sample

Split = Literal["isomorphism", "random"]
ZeroChoice = Literal["auto", "execute", "fold", "prune"]

_STRONGEST = "xgboost"
"""The built-in predictor that finds out what ``none`` meant, where it is among those asked for."""

_COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(evaluate)


def evaluate(
    table: Annotated[Path, typer.Option(help="CSV file, or .csv.gz, one measured network a row.")],
    latency_column: Annotated[str, typer.Option(help="Column of latencies in milliseconds.")],
    space: Annotated[str, typer.Option(help="Search space of the architectures.")] = "nasbench201",
    arch_column: Annotated[
        str, typer.Option(help="Column of architecture strings, of specs as JSON, or of the space's choices in a row.")
    ] = "arch",
    where: Annotated[list[str] | None, typer.Option(help="COLUMN=VALUE: use these rows only; may be repeated.")] = None,
    train: Annotated[int, typer.Option(min=1, help="Rows to train on; the others are predicted.")] = 1000,
    split: Annotated[
        Split, typer.Option(help="Keep isomorphic networks together; random leaks twins, to reproduce protocols.")
    ] = "isomorphism",
    seed: SeedOption = 0,
    predictors: Annotated[str, typer.Option(help="Kinds, separated by commas, or all.")] = "all",
    coverage: Annotated[float, typer.Option(help="Probability that intervals are to hold the latency.")] = 0.9,
    zero: Annotated[
        ZeroChoice,
        typer.Option(help="What `none` was to the exporter; auto: what cross-validation in the training part favours."),
    ] = "auto",
    one_per_class: Annotated[
        bool, typer.Option("--one-per-class", help="Use the first row of each isomorphism class only.")
    ] = False,
    config: ConfigOption = "",
    keep_degenerate: Annotated[
        bool, typer.Option("--keep-degenerate", help="Keep cells whose output no input reaches.")
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Train on a part of a table of measured latencies, and predict the rest of it."""
    with needs("boosting"):
        from leti.cli.table import read_table
        from leti.predictors.registry import kinds

    chosen = _kinds(predictors, kinds())
    console = new_console()
    with Bars(*_COLUMNS, console=console, transient=True) as bars:
        measured = read_table(
            table,
            space,
            arch_column,
            latency_column,
            where=[_condition(text) for text in where or ()],
            config=read_config(config),
            keep_degenerate=keep_degenerate,
            one_per_class=one_per_class,
            progress=_bar(bars, "reading"),
        )
        protocol = _Protocol(measured, split, train, seed, coverage, bars)
        judge = _STRONGEST if _STRONGEST in chosen else chosen[-1]
        tried = protocol.cross_validate(judge, _meanings(measured, zero))
        best = min(tried, key=lambda meaning: round(tried[meaning], 4))  # a tie: the first, as the reference does
        metrics = protocol.judge(chosen, best)
    parts = f"{protocol.counts[0]} to train, {protocol.counts[1]} to test"
    console.print(metrics_table(f"{table.name}: {split} split, seed {seed}, none = {best}, {parts}", metrics))
    if len(tried) > 1:
        errors = ", ".join(f"{meaning} {100 * error:.2f} %" for meaning, error in tried.items())
        console.print(f"none = {best}: MdAPE of {judge} in cross-validation inside the training part: {errors}")
    console.print(LEGEND, style="dim", highlight=False)
    for reason, lines in measured.skipped.rows.items():
        shown = ", ".join(map(str, lines[:5])) + (", …" if len(lines) > 5 else "")
        console.print(f"left out {len(lines)} rows: {reason} (lines {shown})")
    data = {
        "table": table.name,
        "where": list(where or ()),
        "space": space,
        "zero": best,
        "zero_cross_validation_mdape": tried if len(tried) > 1 else None,
        "split": split,
        "seed": seed,
        "rows_used": len(measured.specs),
        "skipped": measured.skipped.to_json(),
        "predictors": to_json(metrics),
    }
    write_json(json_file, data)


class _Protocol:
    """A split of a table: lowers its networks, and judges predictors on the part that they were not trained on."""

    def __init__(self, measured: Measured, split: Split, train: int, seed: int, coverage: float, bars: Bars) -> None:
        from leti.predictors.evaluation import split_by_group, split_randomly

        count = len(measured.specs)
        if train >= count:
            message = f"{train} rows to train on, and {count} can be used in all"
            raise TooFewMeasurements(message, field="--train", remedy="train on fewer")
        self._parts = (
            split_by_group(measured.groups, train_count=train, seed=seed)
            if split == "isomorphism"
            else split_randomly(count, train_count=train, seed=seed)
        )
        self.counts = (len(self._parts[0]), len(self._parts[1]))
        self._measured, self._seed, self._coverage, self._bars = measured, seed, coverage, bars
        self._train_of: dict[Zero, Sample] = {}

    def cross_validate(self, kind: str, meanings: Sequence[Zero]) -> dict[Zero, float]:
        """Return the error of a kind of predictor inside the training part for each meaning of ``none``."""
        from leti.predictors.evaluation import cross_validate

        if len(meanings) == 1:
            return {meanings[0]: 0.0}
        trying = _bar(self._bars, "what is none?")
        tried: dict[Zero, float] = {}
        for meaning in meanings:
            trying(len(tried), len(meanings))
            try:
                tried[meaning] = cross_validate(kind, self._train(meaning), seed=self._seed)
            except TooFewMeasurements as error:
                message = f"{self.counts[0]} rows are too few to cross-validate: in one fold, {error.message}"
                raise TooFewMeasurements(message, field="--train", remedy="train on more, or give --zero") from None
        trying(len(tried), len(meanings))
        return tried

    def judge(self, chosen: Sequence[str], zero: Zero) -> dict[str, Metrics]:
        """Return how each kind of predictor does on the test part."""
        from leti.predictors.evaluation import judge

        train, test = self._train(zero), self._sample(self._parts[1], zero)
        metrics: dict[str, Metrics] = {}
        for kind in chosen:
            progress = _bar(self._bars, f"fitting {kind}")
            judged = judge(kind, train, test, coverage=self._coverage, seed=self._seed, progress=progress)
            metrics[kind] = judged.metrics
        return metrics

    def _train(self, zero: Zero) -> Sample:
        if zero not in self._train_of:
            self._train_of[zero] = self._sample(self._parts[0], zero)
        return self._train_of[zero]

    def _sample(self, part: Sequence[int], zero: Zero) -> Sample:
        from leti.generator.lowering import lower
        from leti.predictors.evaluation import Sample

        lowering = _bar(self._bars, f"lowering ({zero})")
        graphs = []
        for done, i in enumerate(part):
            lowering(done, len(part))
            graphs.append(lower(self._measured.specs[i], zero))
        lowering(len(part), len(part))
        latencies = tuple(self._measured.latencies_ms[i] for i in part)
        return Sample(tuple(graphs), latencies, tuple(self._measured.groups[i] for i in part))


def _meanings(measured: Measured, zero: ZeroChoice) -> tuple[Zero, ...]:
    """Return the meanings of ``none`` to choose from: the one that was asked for, or all where networks have it."""
    from leti.generator.lowering import ZEROS

    if zero != "auto":
        return (zero,)
    has_none = any(layer.name == "none" for spec in measured.specs for layer in spec.layers)
    return ZEROS if has_none else ZEROS[:1]


def _kinds(text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    if text == "all":
        return known
    chosen = tuple(part.strip() for part in text.split(","))
    for i, kind in enumerate(chosen):
        if kind not in known or kind in chosen[:i]:
            raise InvalidInput(
                f"no predictor {kind!r}, or named twice", field="--predictors", remedy=f"all, or of {', '.join(known)}"
            )
    return chosen


def _bar(bars: Bars, description: str) -> Progress:
    task = bars.add_task(description, total=None)
    return lambda done, total: bars.update(task, completed=done, total=total)


def _condition(text: str) -> tuple[str, str]:
    column, equals, value = text.partition("=")
    if not equals or not column:
        raise InvalidInput(f"must be COLUMN=VALUE, not {text!r}", field="--where")
    return column, value
