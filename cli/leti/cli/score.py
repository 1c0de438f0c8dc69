"""``leti score``: predicted latencies of many networks of a space, written as Parquet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from leti.cli.options import (
    CoverageOption,
    DatabaseUrl,
    SeedOption,
    ServiceHome,
    SettingsFile,
    ZeroOption,
    read_config,
    service_settings,
)
from leti.cli.report import new_console
from leti.core.errors import InvalidInput, NotFound
from leti.core.extras import needs


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(score)


def score(
    space: Annotated[str, typer.Option(help="Search space.")],
    count: Annotated[int, typer.Option(min=1, help="Networks to score.")],
    out: Annotated[Path, typer.Option(help="Folder of the Parquet files; a run that was cut off goes on there.")],
    platform: Annotated[str, typer.Option(help="The platform's id.")],
    engine: Annotated[str, typer.Option(help="local: processes of this machine; ray: a Ray cluster.")] = "local",
    processes: Annotated[
        int | None, typer.Option(min=1, help="How many score at a time.  [default: cores of this machine]")
    ] = None,
    seed: SeedOption = 0,
    zero: ZeroOption = "execute",
    coverage: CoverageOption = 0.9,
    shard_size: Annotated[int, typer.Option(min=1, help="Networks in a file.")] = 10_000,
    network_config: Annotated[
        str, typer.Option(help="What cells are stacked into, as JSON; else the space's own.")
    ] = "",
    home: ServiceHome = None,
    database_url: DatabaseUrl = None,
    settings_file: SettingsFile = None,
) -> None:
    """Score networks of a space by a platform's active predictor, without a service; it reads the service's database.

    What is measured is not looked up: every latency is the predictor's.
    """
    with needs("service"):
        from leti.generator.spaces import get_space
        from leti.service.scoring import ENGINES, ScoringPlan
        from leti.service.scoring import score as run
        from leti.service.store import Store
    if engine not in ENGINES:
        raise InvalidInput(f"{engine!r} is no engine", field="--engine", remedy=f"one of {', '.join(ENGINES)}")
    settings = service_settings(settings_file, home=home, database_url=database_url)
    store = Store.open(settings)
    try:
        known = store.platforms.platform(platform)
        active = store.predictors.active(platform)
        if active is None:
            raise NotFound(f"no predictor is active on {platform}", field="--platform", remedy="train one: leti train")
        files = store_files(settings, active.artifact_sha256)
    finally:
        store.close()
    plan = ScoringPlan(
        space,
        count,
        seed,
        zero,
        read_config(network_config, "--network-config") or get_space(space).default_config,
        platform,
        known.model_precision,
        active.kind,
        active.version,
        active.artifact_sha256,
        coverage,
        shard_size,
    )
    console = new_console()
    columns = (TextColumn("networks"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("score", total=count)
        report = run(
            plan,
            files,
            out,
            ENGINES[engine],
            processes=processes or len(os.sched_getaffinity(0)),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    told = f" ({report.found} were there)" if report.found else ""
    console.print(
        f"{report.scored} networks scored{told}: {report.files} files in {out}, by {active.kind} {active.version}"
    )


def store_files(settings: Any, sha256: str) -> dict[str, bytes]:
    """Return the files of a predictor."""
    from leti.service.scoring.run import read_files

    return read_files(settings.predictors / sha256)
