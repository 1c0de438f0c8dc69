"""``leti search``: the networks of a space that keep latency budgets, and the front of what they are worth."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from leti.cli.options import (
    DEFAULT_URL,
    ConfigOption,
    JsonFile,
    SeedOption,
    Url,
    ZeroOption,
    choose_platform,
    connect,
    read_config,
)
from leti.cli.report import new_bars, new_console, new_table, write_json
from leti.core.codec import to_json
from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.core.searching import LatencyLimit

if TYPE_CHECKING:
    from leti.client import LatencyClient
    from leti.compression.architecture.generations import Step
    from leti.compression.architecture.results import SearchResult


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(search)


def search(
    space: Annotated[str, typer.Option(help="Search space.")],
    budget: Annotated[str, typer.Option(help="Most that a network may take, as in 12ms; or one for each platform.")],
    objective: Annotated[
        str,
        typer.Option(
            help="package.module:function, from this folder or Python's path: called with a spec and its graph, "
            "returns a number that is to be large, or several by name."
        ),
    ],
    platform: Annotated[
        str, typer.Option(help="Platforms' ids, with commas between; may be left out where the service knows one only.")
    ] = "",
    strategy: Annotated[str, typer.Option(help="evolution, random or nsga2.")] = "evolution",
    generations: Annotated[int, typer.Option(min=1, help="Generations.")] = 10,
    population: Annotated[int, typer.Option(min=1, help="Networks that a generation asks the objective of.")] = 20,
    draws: Annotated[
        int | None,
        typer.Option(min=1, help="Networks that a generation asks the service of.  [default: 2000; 200 with nsga2]"),
    ] = None,
    confidence: Annotated[float, typer.Option(help="Probability that a network keeps its budget.")] = 0.9,
    only: Annotated[
        str,
        typer.Option(help="Options of positions, as in 0=24/1=0,1; positions that are not named have all of theirs."),
    ] = "",
    config: ConfigOption = "",
    zero: ZeroOption = "execute",
    seed: SeedOption = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of what the objective said; a search that was cut off goes on there.", file_okay=False
        ),
    ] = None,
    url: Url = DEFAULT_URL,
    json_file: JsonFile = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", help="Also write a row for each network that was evaluated.", dir_okay=False)
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Also draw objectives over latencies, as this name with .png and .html.")
    ] = None,
) -> None:
    """Search a space for networks that keep a latency budget on every platform and are worth most."""
    with needs("compression"):
        from leti.compression.architecture.search import search as run
    sys.path.append(str(Path.cwd()))  # where the user's objective is; the script's own folder stands there otherwise
    console = new_console()
    with connect(url) as client, new_bars(console) as bars:
        limits = _limits(client, platform, budget, confidence)
        task = bars.add_task("searching", total=generations * population)

        def progress(step: Step) -> None:
            done = (step.generation - 1) * population + step.evaluated
            told = f"generation {step.generation}/{step.generations}: {step.fitting} of {step.drawn} fit"
            bars.update(task, completed=done, description=told)

        found = run(
            space,
            client=client,
            limits=limits,
            objective=objective,
            strategy=strategy,
            generations=generations,
            population=population,
            draws=draws,
            seed=seed,
            config=read_config(config),
            only=_read_only(only),
            zero=zero,
            out=out,
            progress=progress,
        )
    _show(console, found, out)
    write_json(json_file, to_json(found))
    _write_csv(csv_file, found)
    if plot is not None and found.objectives:
        from leti.cli.search_plot import plot_search

        for path in plot_search(found, plot):
            console.print(f"plot: {path}", soft_wrap=True)


def _limits(client: LatencyClient, platforms: str, budgets: str, confidence: float) -> tuple[LatencyLimit, ...]:
    """Return a limit for each platform, of its own budget or of the only one."""
    from leti.compression.budgets import Within, read_budget

    ids = [choose_platform(client, name.strip()) for name in platforms.split(",")]
    read = [read_budget(text) for text in budgets.split(",")]
    if len(read) == 1:
        read *= len(ids)
    if len(read) != len(ids):
        raise InvalidInput(
            f"are {len(read)} for {len(ids)} platforms", field="--budget", remedy="give one for all, or one for each"
        )
    limits = []
    for name, budget in zip(ids, read, strict=True):
        if not isinstance(budget, Within):
            raise InvalidInput("is of no network here", field="--budget", remedy="give a time, such as 12ms")
        limits.append(LatencyLimit(name, budget.latency_ms, confidence))
    return tuple(limits)


def _read_only(text: str) -> dict[int, tuple[int, ...]]:
    """Return the options of positions."""
    try:
        return {
            int(place): tuple(map(int, options.split(",")))
            for place, options in (part.split("=") for part in text.split("/") if part)
        }
    except ValueError:
        raise InvalidInput(f"cannot be {text!r}", field="--only", remedy="position=option,option/position=…") from None


def _show(console: Console, found: SearchResult, out: Path | None) -> None:
    if found.front:
        console.print(_table(found))
    counts, told = found.counts, f", {found.counts.reused} more from {out}" if found.counts.reused else ""
    seconds = ", ".join(f"{name} {spent:.1f} s" for name, spent in counts.seconds.items())
    console.print(
        f"{counts.drawn} networks drawn, {counts.fitting} keep every budget; {counts.latencies} latencies asked in "
        f"{counts.requests} requests; {counts.evaluated} evaluations{told}; {seconds}",
        soft_wrap=True,
    )
    for note in found.notes:
        console.print(f"note: {note}", soft_wrap=True)
    if not found.counts.fitting:
        for name, least in found.least_ms.items():
            console.print(f"least bound that was drawn on {name}: {least:.3f} ms", soft_wrap=True)


def _table(found: SearchResult) -> Table:
    table = new_table(f"The front of {len(found.points)} networks: none of the others beats one of these in everything")
    table.add_column("network", overflow="fold")
    for name in found.objectives:
        table.add_column(name, justify="right", no_wrap=True)
    several = len(found.limits) > 1
    for number, limit in enumerate(found.limits, 1):
        table.add_column(f"{f'{number}: ' if several else ''}of {limit.at_most_ms:g} ms", justify="right", no_wrap=True)
        table.add_column(f"at {limit.confidence:.0%}", justify="right", no_wrap=True)
    if several:
        table.caption = "; ".join(f"{number}: {limit.platform_id}" for number, limit in enumerate(found.limits, 1))
    for point in found.front:
        latencies = [text for one in point.latencies for text in (f"{one.latency_ms:.3f}", f"{one.bound_ms:.3f}")]
        table.add_row(point.text, *(f"{point.values[name]:.4f}" for name in found.objectives), *latencies)
    return table


def _write_csv(path: Path | None, found: SearchResult) -> None:
    if path is None:
        return
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(_rows(found))
    except OSError as error:
        raise InvalidInput(f"cannot be written: {error.strerror}", field="--csv") from None


def _rows(found: SearchResult) -> Iterator[list[object]]:
    columns = ("latency_ms", "low_ms", "high_ms", "bound_ms", "source")
    of_limits = [f"{limit.platform_id} {column}" for limit in found.limits for column in columns]
    yield ["network", "generation", "front", *found.objectives, *of_limits, "failure"]
    front = {point.choices for point in found.front}
    for point in found.points:
        values = [point.values.get(name, "") for name in found.objectives]
        latencies = [getattr(one, column) for one in point.latencies for column in columns]
        on_front = "yes" if point.choices in front else "no"
        yield [point.text, point.generation, on_front, *values, *latencies, point.failure]
