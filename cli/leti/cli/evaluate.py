"""``leti evaluate``: how good the predictors are on a table that somebody else measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from leti.cli.options import JsonFile, ZeroOption
from leti.cli.report import LEGEND, metrics_table, write_json
from leti.core.codec import to_json
from leti.core.errors import InvalidInput, TooFewMeasurements
from leti.core.extras import needs
from leti.core.prediction import Metrics, Progress

if TYPE_CHECKING:
    from leti.cli.table import Measured

Split = Literal["isomorphism", "random"]

_COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(evaluate)


def evaluate(
    table: Annotated[Path, typer.Option(help="CSV file, or .csv.gz, one measured network a row.")],
    latency_column: Annotated[str, typer.Option(help="Column of latencies in milliseconds.")],
    space: Annotated[str, typer.Option(help="Search space of the architectures.")] = "nasbench201",
    arch_column: Annotated[str, typer.Option(help="Column of architecture strings.")] = "arch",
    where: Annotated[list[str] | None, typer.Option(help="COLUMN=VALUE: use these rows only; may be repeated.")] = None,
    train: Annotated[int, typer.Option(min=1, help="Rows to train on; the others are predicted.")] = 1000,
    split: Annotated[
        Split, typer.Option(help="Keep isomorphic networks together; random leaks twins, to reproduce protocols.")
    ] = "isomorphism",
    seed: Annotated[int, typer.Option(help="Seed of the split and of the predictors.")] = 0,
    predictors: Annotated[str, typer.Option(help="Kinds, separated by commas, or all.")] = "all",
    coverage: Annotated[float, typer.Option(help="Probability that intervals are to hold the latency.")] = 0.9,
    zero: ZeroOption = "execute",
    one_per_class: Annotated[
        bool, typer.Option("--one-per-class", help="Use the first row of each isomorphism class only.")
    ] = False,
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
    console = Console()
    with Bars(*_COLUMNS, console=console, transient=True) as bars:
        measured = read_table(
            table,
            space,
            arch_column,
            latency_column,
            where=[_condition(text) for text in where or ()],
            zero=zero,
            keep_degenerate=keep_degenerate,
            one_per_class=one_per_class,
            progress=_bar(bars, "reading networks"),
        )
        metrics = _judge(measured, chosen, split, train, seed, coverage, bars)
    first = next(iter(metrics.values()))
    protocol = f"{split} split, seed {seed}, none = {zero}, {first.n_train} to train, {first.n_test} to test"
    console.print(metrics_table(f"{table.name}: {protocol}", metrics))
    console.print(LEGEND, style="dim", highlight=False, markup=False)
    for reason, lines in measured.skipped.rows.items():
        shown = ", ".join(map(str, lines[:5])) + (", …" if len(lines) > 5 else "")
        console.print(f"left out {len(lines)} rows: {reason} (lines {shown})")
    data = {
        "table": table.name,
        "where": list(where or ()),
        "space": space,
        "zero": zero,
        "split": split,
        "seed": seed,
        "rows_used": len(measured.graphs),
        "skipped": measured.skipped.to_json(),
        "predictors": to_json(metrics),
    }
    write_json(json_file, data)


def _judge(
    measured: Measured, chosen: Sequence[str], split: Split, train: int, seed: int, coverage: float, bars: Bars
) -> dict[str, Metrics]:
    from leti.predictors.evaluation import Sample, judge, split_by_group, split_randomly

    count = len(measured.graphs)
    if train >= count:
        message = f"{train} rows to train on, and {count} can be used in all"
        raise TooFewMeasurements(message, field="--train", remedy="train on fewer")
    indices = (
        split_by_group(measured.groups, train_count=train, seed=seed)
        if split == "isomorphism"
        else split_randomly(count, train_count=train, seed=seed)
    )
    train_part, test_part = (
        Sample(
            tuple(measured.graphs[i] for i in part),
            tuple(measured.latencies_ms[i] for i in part),
            tuple(measured.groups[i] for i in part),
        )
        for part in indices
    )
    metrics: dict[str, Metrics] = {}
    for kind in chosen:
        progress = _bar(bars, f"fitting {kind}")
        metrics[kind] = judge(kind, train_part, test_part, coverage=coverage, seed=seed, progress=progress).metrics
    return metrics


def _kinds(text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    if text == "all":
        return known
    chosen = tuple(part.strip() for part in text.split(","))
    for kind in chosen:
        if kind not in known:
            raise InvalidInput(f"no predictor {kind!r}", field="--predictors", remedy=f"all, or of {', '.join(known)}")
    return chosen


def _bar(bars: Bars, description: str) -> Progress:
    task = bars.add_task(description, total=None)
    return lambda done, total: bars.update(task, completed=done, total=total)


def _condition(text: str) -> tuple[str, str]:
    column, equals, value = text.partition("=")
    if not equals or not column:
        raise InvalidInput(f"must be COLUMN=VALUE, not {text!r}", field="--where")
    return column, value
