"""``leti dataset``: datasets of a service, written to files and read from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from leti.cli.options import DEFAULT_URL, JsonFile, Url, connect
from leti.cli.report import new_bars, new_console, new_table, write_json
from leti.core.codec import to_json
from leti.core.datasets import DatasetFormat, DatasetInfo
from leti.core.errors import InvalidInput
from leti.core.tasks import Task

datasets = typer.Typer(help="List, export and import datasets: measurements that are frozen.", no_args_is_help=True)

_FORMATS: Final[dict[str, DatasetFormat]] = {".parquet": "parquet", ".csv": "csv"}


def register(app: typer.Typer) -> None:
    """Add the command group."""
    app.add_typer(datasets, name="dataset")


@datasets.command(name="list")
def list_(
    platform: Annotated[str, typer.Option("--platform", help="Id of the platform; else of all.")] = "",
    url: Url = DEFAULT_URL,
    json_file: JsonFile = None,
) -> None:
    """List frozen and imported datasets."""
    found: list[DatasetInfo] = []
    with connect(url) as client:
        page = client.datasets(platform or None)
        found += page.items
        while page.next is not None:
            page = client.datasets(platform or None, cursor=page.next)
            found += page.items
    _show(found)
    write_json(json_file, to_json(found))


@datasets.command(name="export")
def export_(
    dataset_id: Annotated[int, typer.Argument(help="Number of the dataset.", min=1)],
    file: Annotated[Path, typer.Argument(help="File to write; .parquet or .csv says which kind.", dir_okay=False)],
    url: Url = DEFAULT_URL,
) -> None:
    """Write a dataset to a file, with all that it takes to train on it elsewhere."""
    form = _format(file)
    with connect(url) as client:
        client.export_dataset(dataset_id, file, format=form)
    typer.echo(f"{file}: {file.stat().st_size} bytes")


@datasets.command(name="import")
def import_(
    file: Annotated[Path, typer.Argument(help="File that was exported.", exists=True, dir_okay=False)],
    url: Url = DEFAULT_URL,
    json_file: JsonFile = None,
) -> None:
    """Have a worker read a dataset from a file; the same file is the same dataset."""
    form = _format(file)
    with connect(url) as client, new_bars(new_console()) as bars:
        reading = bars.add_task("importing", total=None)

        def show(task: Task) -> None:
            stage = {"queued": "waiting for a worker"}.get(task.state, task.progress.stage or "begun")
            total = task.progress.total or None
            bars.update(reading, description=f"importing: {stage}", completed=task.progress.done, total=total)

        found = client.import_dataset(file, format=form, on_progress=show)
    _show([found])
    write_json(json_file, to_json(found))


def _format(file: Path) -> DatasetFormat:
    form = _FORMATS.get(file.suffix.lower())
    if form is None:
        raise InvalidInput(f"{file.name} is neither .parquet nor .csv", field="FILE", remedy="name it by its kind")
    return form


def _show(found: list[DatasetInfo]) -> None:
    table = new_table("datasets")
    for name in ("id", "train", "held out", "created", "platform", "from"):
        table.add_column(name, justify="right" if name in ("id", "train", "held out") else "left", no_wrap=True)
    for info in found:
        origin = "" if info.origin is None else f"dataset {info.origin.dataset_id} of {info.origin.created_at}"
        counts = map(str, (info.networks_train, info.networks_holdout))
        table.add_row(str(info.id), *counts, info.created_at, info.platform_id, origin)
    new_console().print(table)
