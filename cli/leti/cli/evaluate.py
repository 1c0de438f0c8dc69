"""``leti evaluate``: how good the predictors are, on a table that somebody else measured, or by published protocols."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from leti.cli.options import ConfigOption, CoverageOption, JsonFile, SeedOption, read_config
from leti.cli.protocols import ADAPTATION_COUNTS, CURVE_SIZES, Split, chosen_protocols, load_part
from leti.core.errors import InvalidInput
from leti.core.extras import needs

ZeroChoice = Literal["auto", "execute", "fold", "prune"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(evaluate)


def evaluate(
    table: Annotated[Path | None, typer.Option(help="CSV file, or .csv.gz, one measured network a row.")] = None,
    latency_column: Annotated[str, typer.Option(help="Column of latencies in milliseconds.")] = "",
    space: Annotated[str, typer.Option(help="Search space of the architectures.")] = "nasbench201",
    arch_column: Annotated[
        str, typer.Option(help="Column of architecture strings, of specs as JSON, or of the space's choices in a row.")
    ] = "arch",
    where: Annotated[list[str] | None, typer.Option(help="COLUMN=VALUE: use these rows only; may be repeated.")] = None,
    train: Annotated[
        int | None, typer.Option(min=1, help="Rows to train on; the others are predicted. 1,000 where not given.")
    ] = None,
    split: Annotated[
        Split, typer.Option(help="Keep isomorphic networks together; random leaks twins, to reproduce protocols.")
    ] = "isomorphism",
    seed: SeedOption = 0,
    predictors: Annotated[str, typer.Option(help="Kinds, separated by commas, or all.")] = "all",
    coverage: CoverageOption = 0.9,
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
    protocol: Annotated[
        list[str] | None,
        typer.Option(help="A, B, C, D, E or all, on the public tables in --data, instead of a table."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the public tables.", file_okay=False)] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for accuracy.md, accuracy.json, pictures and each result.", file_okay=False)
    ] = Path("leti-accuracy"),
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Protocols are run with so many seeds, from 0 on.")] = 3,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Parts of protocols that run side by side.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Keep the results that are in --out already.")] = False,
    curve: Annotated[
        str, typer.Option(help="Training sizes of the learning curve, separated by commas, beside the protocol's own.")
    ] = ",".join(map(str, CURVE_SIZES)),
    samples: Annotated[
        str, typer.Option(help="Numbers of samples of a new device, separated by commas; 10, or a curve in protocol D.")
    ] = "",
    test: Annotated[
        int | None, typer.Option(min=1, help="Predict this many rows of a public table at most: for a quick look.")
    ] = None,
    adapt: Annotated[
        bool,
        typer.Option("--adapt", help="Instead of a table: from --sources to a --target of few measurements."),
    ] = False,
    sources: Annotated[Path | None, typer.Option(help="Table of the devices to start from.")] = None,
    source_columns: Annotated[str, typer.Option(help="Their columns of latencies, separated by commas.")] = "",
    target: Annotated[Path | None, typer.Option(help="Table of the new device.")] = None,
    target_column: Annotated[str, typer.Option(help="Its column of latencies.")] = "",
    trim_middle: Annotated[
        float,
        typer.Option(min=0.01, max=1, help="Share of its networks that stay, the middle by latency."),
    ] = 1.0,
    pool: Annotated[str, typer.Option(help="Rows to draw samples from, FIRST:END, counted from 0.")] = "",
    query: Annotated[str, typer.Option(help="Rows to predict, FIRST:END.")] = "",
) -> None:
    """Train on a part of a table of measured latencies, and predict the rest of it; or do as published protocols do."""
    if (table is not None) + bool(protocol) + adapt != 1:
        remedy = "one of --table FILE, --protocol A and --adapt"
        raise InvalidInput("give a table, protocols, or devices to adapt from and to", field="--table", remedy=remedy)
    with needs("boosting"):
        from leti.predictors.registry import kinds

    letters = chosen_protocols(protocol or [])
    chosen = _kinds(predictors, kinds())
    if table is not None:
        from leti.cli.evaluate_table import TableRun

        TableRun(
            table=table,
            latency_column=_given(latency_column, "--latency-column", "the column of latencies in milliseconds"),
            space=space,
            arch_column=arch_column,
            where=tuple(_condition(text) for text in where or ()),
            config=read_config(config),
            keep_degenerate=keep_degenerate,
            one_per_class=one_per_class,
            train=train or 1000,
            split=split,
            seed=seed,
            kinds=chosen,
            coverage=coverage,
            zero=zero,
        ).run(json_file)
        return
    if adapt:
        asked: dict[str, Any] = {
            "space": space,
            "arch_column": arch_column,
            "config": read_config(config),
            "sources": Path(_given(str(sources or ""), "--sources", "the table of the devices to start from")),
            "source_columns": tuple(_given(source_columns, "--source-columns", "columns of latencies").split(",")),
            "target": Path(_given(str(target or ""), "--target", "the table of the new device")),
            "target_column": _given(target_column, "--target-column", "its column of latencies"),
            "counts": _counts(samples or "10", "--samples"),
            "trim_middle": trim_middle,
            "pool": _rows(pool, "--pool"),
            "query": _rows(query, "--query"),
            "zero": zero,
            "seed": seed,
        }
        load_part("leti.cli.evaluate_adaptation", "--adapt").evaluate_adaptation(**asked, json_file=json_file)
        return
    from leti.cli.evaluate_protocols import evaluate_protocols
    from leti.cli.protocol_runs import Plan

    folder = Path(_given(str(data or ""), "--data", "the folder of the public tables"))
    plan = Plan(
        data=folder,
        out=out,
        protocols=letters,
        kinds=chosen,
        curve=_counts(curve, "--curve"),
        counts=_counts(samples, "--samples") or ADAPTATION_COUNTS,
        seeds=seeds,
        coverage=coverage,
        zero=zero,
        train=train,
        test=test,
        resume=resume,
        jobs=jobs,
        started=time.time(),
    )
    evaluate_protocols(plan, json_file)


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


def _given(text: str, option: str, remedy: str) -> str:
    if not text:
        raise InvalidInput("must be given", field=option, remedy=remedy)
    return text


def _counts(text: str, option: str) -> tuple[int, ...]:
    """Return whole numbers above zero, ascending, each once; an empty text is none."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isascii() and part.isdigit() and 0 < int(part) <= 1_000_000 for part in parts):
        raise InvalidInput(f"must be whole numbers separated by commas, not {text[:80]!r}", field=option)
    return tuple(sorted({int(part) for part in parts}))


def _rows(text: str, option: str) -> tuple[int, int]:
    """Return FIRST and END of a range of rows."""
    first, _, end = text.partition(":")
    if not all(part.isascii() and part.isdigit() for part in (first, end)) or int(first) >= int(end):
        raise InvalidInput(f"must be FIRST:END, such as 0:900, not {text[:80]!r}", field=option)
    return int(first), int(end)


def _condition(text: str) -> tuple[str, str]:
    column, equals, value = text.partition("=")
    if not equals or not column:
        raise InvalidInput(f"must be COLUMN=VALUE, not {text!r}", field="--where")
    return column, value
