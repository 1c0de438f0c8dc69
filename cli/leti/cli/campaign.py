"""``leti campaign``: say what is to be measured, and watch it being done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from leti.cli.network import read_network
from leti.cli.options import (
    DEFAULT_URL,
    ConfigOption,
    PlatformId,
    SeedOption,
    Url,
    ZeroOption,
    choose_platform,
    connect,
    read_config,
    read_json,
)
from leti.cli.report import new_console, new_table
from leti.core.codec import to_json
from leti.core.errors import InvalidInput
from leti.core.farm import Campaign, CampaignRequest, Sample, Sampling
from leti.core.patches import CompressedSample
from leti.core.spec import NetworkConfig
from leti.core.wire import NetworkInput

_ALWAYS: Final = ("networks", "jobs", "done", "queued", "leased")
_NUMBERS: Final = (*_ALWAYS, "failed", "poison", "cancelled", "noisy", "priority")
"""The columns: the last ones where there is anything to show."""

MAX_DIGITS = 18
"""Digits of a count."""

campaigns = typer.Typer(help="Create, list and show campaigns: what is to be measured, where.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the command group."""
    app.add_typer(campaigns, name="campaign")


@campaigns.command()
def create(
    name: Annotated[str, typer.Argument(help="Name; the same name with the same content is the same campaign.")],
    sample: Annotated[
        list[str] | None, typer.Option(help="SPACE:COUNT, for example nasbench201:100; may be repeated.")
    ] = None,
    networks: Annotated[
        Path | None,
        typer.Option(help="JSON array of specs and architecture strings.", exists=True, dir_okay=False),
    ] = None,
    compressed_of: Annotated[
        list[str] | None,
        typer.Option(help="NETWORK:COUNT: compressed forms of an architecture or fingerprint; may be repeated."),
    ] = None,
    baseline: Annotated[
        str,
        typer.Option(
            help="Network to measure the others beside: a model or spec file, an architecture string or a fingerprint."
        ),
    ] = "",
    config: ConfigOption = "",
    seed: SeedOption = 0,
    repeats: Annotated[int, typer.Option(min=1, help="How often a repeated network is measured.")] = 4,
    repeat_share: Annotated[float, typer.Option(min=0, max=1, help="Share of networks that are repeated.")] = 0.2,
    sampling: Annotated[
        Sampling, typer.Option(help="Draw the samples, or choose: networks unlike each other, or that tell most.")
    ] = "random",
    zero: ZeroOption = "execute",
    priority: Annotated[int, typer.Option(help="-100 to 100: jobs of a higher one are lent out first.")] = 0,
    profile: Annotated[
        bool, typer.Option("--profile/--no-profile", help="Also measure each network's operators once, in a run apart.")
    ] = True,
    platform: PlatformId = "",
    url: Url = DEFAULT_URL,
) -> None:
    """Create a campaign of sampled and given networks, and of compressed forms of networks."""
    samples = tuple(_sample(text, seed, read_config(config)) for text in sample or ())
    given = _networks(networks) if networks else ()
    beside = _baseline(baseline) if baseline else None
    with connect(url) as client:
        request = CampaignRequest(
            name=name,
            platform_id=choose_platform(client, platform),
            samples=samples,
            networks=given,
            zero=zero,
            repeats=repeats,
            repeat_share=repeat_share,
            priority=priority,
            profile=profile,
            sampling=sampling,
            compressed=tuple(_compressed(text, seed) for text in compressed_of or ()),
            baseline=beside,
        )
        created = client.create_campaign(request)
        _show([created])
        if created.remark:
            typer.echo(created.remark)


@campaigns.command(name="list")
def list_(url: Url = DEFAULT_URL) -> None:
    """List the campaigns."""
    with connect(url) as client:
        _show(client.campaigns())


@campaigns.command()
def show(campaign_id: Annotated[int, typer.Argument(help="Number of the campaign.")], url: Url = DEFAULT_URL) -> None:
    """Show how far a campaign has come, and which networks could not be measured."""
    with connect(url) as client:
        _show([client.campaign(campaign_id)])
        for job in client.failures(campaign_id):
            typer.echo(f"job {job.id}, network {job.fingerprint[:12]}: {job.kind}: {job.message}")


def _sample(text: str, seed: int, config: NetworkConfig | None) -> Sample:
    space, _, count = text.partition(":")
    return Sample(space, _count(count, "--sample", f"SPACE:COUNT, not {text[:80]!r}", "nasbench201:100"), seed, config)


def _compressed(text: str, seed: int) -> CompressedSample:
    network, _, count = text.rpartition(":")
    wanted, example = f"NETWORK:COUNT, not {text[:80]!r}", "nasbench201:3,1,2,4,3,1:20"
    return CompressedSample(network, _count(count if network else "", "--compressed-of", wanted, example), seed)


def _count(text: str, option: str, wanted: str, example: str) -> int:
    if not text.isdecimal() or len(text) > MAX_DIGITS:
        raise InvalidInput(f"must be {wanted}", field=option, remedy=f"for example {example}")
    return int(text)


def _networks(path: Path) -> tuple[NetworkInput, ...]:
    data = read_json(path.read_bytes(), "--networks")
    if not isinstance(data, list) or not all(isinstance(item, str | dict) for item in data):
        raise InvalidInput("must hold an array of specs and architecture strings", field="--networks")
    return tuple(data)


def _baseline(text: str) -> NetworkInput:
    """Return the network of a file; what is none, the service knows by name."""
    path = Path(text)
    if not path.is_file():
        return text
    if path.suffix != ".json":
        return {"graph": to_json(read_network(text).graph)}
    data = read_json(path.read_bytes(), "--baseline")
    if not isinstance(data, str | dict):
        raise InvalidInput("must hold one spec, graph or architecture string", field="--baseline")
    return data


def _show(found: Sequence[Campaign]) -> None:
    """Print a table for each platform, under its id in full: that is what `--platform` takes."""
    console = new_console()
    for platform_id in dict.fromkeys(campaign.platform_id for campaign in found):
        its = [campaign for campaign in found if campaign.platform_id == platform_id]
        columns = [name for name in _NUMBERS if name in _ALWAYS or any(getattr(campaign, name) for campaign in its)]
        console.print(platform_id, soft_wrap=True, highlight=False)
        table = new_table("")
        table.add_column("id")
        table.add_column("name", overflow="fold")
        for column in columns:
            table.add_column(column, justify="right", no_wrap=True)
        for campaign in its:
            table.add_row(str(campaign.id), campaign.name, *(str(getattr(campaign, name)) for name in columns))
        console.print(table)
