"""``leti jobs``: what is queued, lent, done and failed, and why; to try again or to take out of the queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal

import typer

from leti.cli.options import DEFAULT_URL, JsonFile, Url, connect
from leti.cli.report import new_console, new_table, write_json
from leti.core.codec import to_json
from leti.core.farm import JobInfo, JobsChanged, JobSelection, JobState

PAGE: Final = 500
"""Jobs in one request."""

SHORT: Final = 12
"""Digits of a fingerprint that are shown: enough for `--network`."""

LAST: Final = "who, why"
"""The column that folds."""

jobs = typer.Typer(help="List, retry and cancel jobs; count failures.", no_args_is_help=True)

PlatformFilter = Annotated[str | None, typer.Option("--platform", help="Of this platform only.")]
CampaignFilter = Annotated[int | None, typer.Option("--campaign", min=1, help="Of this campaign only.")]
JobIds = Annotated[list[int] | None, typer.Argument(min=1, help="Numbers of jobs.", show_default=False)]
OfCampaign = Annotated[int | None, typer.Option("--campaign", min=1, help="All jobs of this campaign.")]
Kinds = Annotated[
    list[str] | None, typer.Option("--kind", help="Only those that failed so, such as timeout; may be repeated.")
]


def register(app: typer.Typer) -> None:
    """Add the command group."""
    app.add_typer(jobs, name="jobs")


@jobs.command(name="list")
def list_(
    platform: PlatformFilter = None,
    campaign: CampaignFilter = None,
    state: Annotated[JobState | None, typer.Option(help="In this state only.")] = None,
    network: Annotated[str | None, typer.Option(help="Of the network with this fingerprint only; 8 digits do.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many at most.")] = 50,
    url: Url = DEFAULT_URL,
    json_file: JsonFile = None,
) -> None:
    """List jobs in the order in which they were made, each with how it last failed and who holds it now."""
    found: list[JobInfo] = []
    cursor: int | None = None
    with connect(url) as client:
        while True:
            page = client.jobs(
                platform_id=platform,
                campaign_id=campaign,
                state=state,
                fingerprint=network,
                cursor=cursor,
                limit=min(PAGE, limit - len(found)),
            )
            found += page.items
            cursor = page.next
            if cursor is None or len(found) >= limit:
                break
    _show(found)
    if cursor is not None:
        typer.echo(f"the first {len(found)}: there are more, see --limit")
    write_json(json_file, to_json(found))


@jobs.command()
def retry(job_ids: JobIds = None, campaign: OfCampaign = None, kind: Kinds = None, url: Url = DEFAULT_URL) -> None:
    """Queue jobs again that failed, were set aside as poison, or were cancelled."""
    with connect(url) as client:
        _say("queued again", client.retry_jobs(_selection(job_ids, campaign, kind)))


@jobs.command()
def cancel(job_ids: JobIds = None, campaign: OfCampaign = None, kind: Kinds = None, url: Url = DEFAULT_URL) -> None:
    """Take jobs out of the queue, also those that an agent is at: what it still sends counts as late."""
    with connect(url) as client:
        _say("cancelled", client.cancel_jobs(_selection(job_ids, campaign, kind)))


@jobs.command()
def failures(
    by: Annotated[Literal["network", "device"], typer.Option(help="What to count by.")] = "network",
    platform: PlatformFilter = None,
    campaign: CampaignFilter = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 50,
    url: Url = DEFAULT_URL,
    json_file: JsonFile = None,
) -> None:
    """Count how often each network, or each device, failed in which way."""
    with connect(url) as client:
        counts = client.failure_counts(by=by, platform_id=platform, campaign_id=campaign, limit=limit)
    table = new_table(f"Failures by {by}")
    for column in (by, "kind", "count"):
        table.add_column(column, justify="right" if column == "count" else "left", overflow="fold")
    for each in counts:
        table.add_row(each.subject[:SHORT] if by == "network" else each.subject, each.kind, str(each.count))
    new_console().print(table)
    write_json(json_file, to_json(counts))


def _selection(job_ids: Sequence[int] | None, campaign: int | None, kinds: Sequence[str] | None) -> JobSelection:
    return JobSelection(tuple(job_ids or ()), campaign, tuple(kinds or ()))


def _say(what: str, changed: JobsChanged) -> None:
    skipped = f", {changed.skipped} left as they are" if changed.skipped else ""
    typer.echo(f"{changed.changed} jobs {what}{skipped}")


def _show(found: Sequence[JobInfo]) -> None:
    """Print a table for each campaign, under its platform's id in full: that is what `--platform` takes."""
    console = new_console()
    groups: dict[tuple[str, int], list[JobInfo]] = {}
    for job in found:
        groups.setdefault((job.platform_id, job.campaign_id), []).append(job)
    for (platform_id, campaign_id), its in groups.items():
        urgent = f", priority {its[0].priority}" if its[0].priority else ""
        console.print(f"campaign {campaign_id} of {platform_id}{urgent}", soft_wrap=True, highlight=False)
        table = new_table("")
        columns = _columns(its)
        for name in columns:
            left = name in ("network", "state", LAST)
            table.add_column(name, justify="left" if left else "right", no_wrap=name != LAST, overflow="fold")
        for row in zip(*columns.values(), strict=True):
            table.add_row(*row)
        console.print(table)
    if not found:
        typer.echo("no jobs")


def _columns(its: Sequence[JobInfo]) -> dict[str, list[str]]:
    """Return what is shown of jobs; where none has died, the reasons have the room."""
    deaths = {"deaths": [str(job.deaths) for job in its]} if any(job.deaths for job in its) else {}
    return {
        "job": [str(job.id) for job in its],
        "network": [job.fingerprint[:SHORT] for job in its],
        "repeat": [str(job.repeat) for job in its],
        "state": [job.state for job in its],
        "attempts": [str(job.attempts) for job in its],
        **deaths,
        LAST: ["; ".join(filter(None, (job.agent, job.kind and f"{job.kind}: {job.message}"))) for job in its],
    }
