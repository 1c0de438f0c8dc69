"""``leti train``: predictors from what has been measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from leti.cli.options import DEFAULT_URL, JsonFile, PlatformId, SeedOption, Url, choose_platform, connect
from leti.cli.report import LEGEND, metrics_table, new_bars, new_console, repeatability_line, write_json
from leti.core.codec import from_json, to_json
from leti.core.errors import InvalidInput, LetiError
from leti.core.tasks import Task
from leti.core.training import TrainingReport, TrainingRequest

if TYPE_CHECKING:
    from leti.client import LatencyClient


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(train)


def train(
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help="Kind of predictor; where left out, all but the costly; where few networks are measured, from 6 on, "
            "also adapted, which starts from the predictors of other platforms."
        ),
    ] = None,
    holdout_share: Annotated[float, typer.Option(min=0.05, max=0.9, help="Share of classes kept for judging.")] = 0.25,
    seed: SeedOption = 0,
    dataset: Annotated[
        int | None, typer.Option(min=1, help="Train on this dataset with its own split, instead of freezing a new one.")
    ] = None,
    platform: PlatformId = "",
    every_platform: Annotated[
        bool,
        typer.Option("--every-platform", help="Train every platform, as many at a time as there are workers for."),
    ] = False,
    url: Url = DEFAULT_URL,
    json_file: JsonFile = None,
) -> None:
    """Have a worker train predictors of a platform, and judge them on classes held out.

    The best in cross-validation is activated if it is better than the one that serves.
    """
    if every_platform and (platform or dataset is not None):
        raise InvalidInput("goes with neither --platform nor --dataset", field="--every-platform")
    console = new_console()
    with connect(url) as client, new_bars(console) as bars:
        chosen = [info.id for info in client.platforms()] if every_platform else [choose_platform(client, platform)]
        requests = [TrainingRequest(one, tuple(kind or ()), holdout_share, seed, dataset_id=dataset) for one in chosen]
        if every_platform:
            reports = _train_all(client, requests, console, bars)
        else:
            reports = [train_and_show(client, requests[0], bars)]
    for report in reports:
        show_training(console, report)
    write_json(json_file, to_json(reports if every_platform else reports[0]))


def _train_all(
    client: LatencyClient, requests: Sequence[TrainingRequest], console: Console, bars: Progress
) -> list[TrainingReport]:
    """Queue all trainings, then wait for each; say of those that cannot be why."""
    bar = bars.add_task("training platforms", total=len(requests))
    queued: list[tuple[str, Task]] = []
    reports = []
    for request in requests:
        try:
            queued.append((request.platform_id, client.start_training(request)))
        except LetiError as error:
            console.print(f"{request.platform_id} is not trained: {error}", style="dim", highlight=False)
            bars.advance(bar)
    for platform_id, task in queued:
        try:
            reports.append(from_json(TrainingReport, client.wait_for_task(task.id).report))
        except LetiError as error:
            console.print(f"{platform_id} is not trained: {error}", style="dim", highlight=False)
        bars.advance(bar)
    return reports


def train_and_show(client: LatencyClient, request: TrainingRequest, bars: Progress) -> TrainingReport:
    """Have predictors trained, show how far that is, and return the report."""
    training = bars.add_task("training", total=None)

    def show(task: Task) -> None:
        stage = {"queued": "waiting for a worker", "running": task.progress.stage or "begun"}.get(task.state, "ended")
        total = task.progress.total or None
        bars.update(training, description=f"training: {stage}", completed=task.progress.done, total=total)

    report = client.train(request, on_progress=show)
    bars.update(training, description="training", completed=len(report.predictors), total=len(report.predictors))
    return report


def show_training(console: Console, report: TrainingReport) -> None:
    """Print a training's table."""
    active = next((p.kind for p in report.predictors if p.active), "")
    metrics = {p.kind: p.metrics for p in report.predictors}
    first = next(iter(metrics.values()))
    title = f"{report.platform_id}: trained on {first.n_train} networks, judged on {first.n_test} of other classes"
    console.print(metrics_table(title, metrics, report.repeatability, active))
    notes = [LEGEND, f"* active: chosen in cross-validation inside the training part ({active})" if active else ""]
    notes.append(repeatability_line(report.repeatability) if report.repeatability else "")
    for note in filter(None, [*notes, *report.remarks]):
        console.print(note, style="dim", highlight=False)
