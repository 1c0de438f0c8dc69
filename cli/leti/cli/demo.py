"""``leti demo``: the whole loop on this machine, over REST, on an embedded database."""

from __future__ import annotations

import math
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from leti.cli.options import DEFAULT_HOME, Home, JsonFile
from leti.cli.processes import LetiProcess, ServiceProcess
from leti.cli.report import new_bars, new_console, predictions_table, scatter, write_json
from leti.cli.restless import MOST_AGAIN, never_calm
from leti.cli.train import show_training, train_and_show
from leti.core.codec import to_json
from leti.core.errors import MeasurementFailed
from leti.core.extras import needs
from leti.core.farm import Campaign, CampaignRequest, Sample
from leti.core.queries import PredictionItem, PredictionRequest
from leti.core.spec import NetworkConfig
from leti.core.training import TrainingReport, TrainingRequest
from leti.core.wire import PlatformInfo

if TYPE_CHECKING:
    from leti.client import LatencyClient

SMALL_MACRO = NetworkConfig(stem_channels=16, modules_per_stack=1)
"""The macro network that the demo gives NAS-Bench-101 cells; its own (stem 128, 3 modules) takes 100 times as long."""

_SHORT = {
    "none": "none",
    "skip_connect": "skip",
    "nor_conv_1x1": "1x1",
    "nor_conv_3x3": "3x3",
    "avg_pool_3x3": "pool",
}
"""How the operations of a NAS-Bench-201 cell are shown, edge by edge."""

SEED = 0
QUERIES = 6
AGENT_DEADLINE_S = 300.0
_PLAIN: dict[str, Any] = {"soft_wrap": True, "highlight": False}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(
    networks: Annotated[int, typer.Option(min=40, max=5000, help="Networks to measure, a third NAS-Bench-101.")] = 165,
    home: Home = DEFAULT_HOME,
    json_file: JsonFile = None,
) -> None:
    """Generate networks, measure them here, train predictors, judge them, and query what was never measured."""
    home = home.resolve()
    try:
        _run(networks, home, json_file)
    except KeyboardInterrupt:
        typer.echo("what was measured is kept: the same command goes on from there", err=True)
        raise


def _run(networks: int, home: Path, json_file: Path | None) -> None:
    from leti.client import LatencyClient

    console = new_console()
    started = time.monotonic()
    with new_bars(console) as bars:
        starting = bars.add_task("starting", total=2)
        with ServiceProcess(home) as service, LatencyClient(service.url) as client:
            bars.advance(starting)
            with _start_agent(home, service.url) as agent:
                platform = _await_platform(client, agent)
                bars.advance(starting)
                bars.console.print(
                    f"service {service.url} (without authentication, on loopback only), its log {service.log}", **_PLAIN
                )
                bars.console.print(f"agent {platform.id}, its log {agent.log}", **_PLAIN)
                campaigns = _measure(client, agent, platform, networks, bars)
            report = _train(client, platform, bars)
            names, items = _query(client, report, bars)
            plots = _plot(client, report, home, bars)
            measured = client.platform(platform.id)
            serving = next((p.kind for p in client.predictors(platform.id) if p.active), None)
    duration_s = time.monotonic() - started
    show_training(console, report)
    console.print(predictions_table("Networks that were never measured, and one that was", names, items))
    _farewell(console, home, plots, measured, duration_s)
    write_json(json_file, _summary(campaigns, measured, report, serving, names, items, plots, home, duration_s))


def _start_agent(home: Path, url: str) -> LetiProcess:
    return LetiProcess(
        ["agent", "run", "--backend", "litert", "--url", url, "--spool", str(home / "spool")], log=home / "agent.log"
    )


def _await_platform(client: LatencyClient, agent: LetiProcess) -> PlatformInfo:
    """Return the platform that the agent registers; it prints the id once it has looked at the machine."""
    deadline = time.monotonic() + AGENT_DEADLINE_S
    while time.monotonic() < deadline:
        agent.check()
        for word in agent.first_line().split():
            for info in client.platforms():
                if info.id == word:
                    return info
        time.sleep(0.2)
    raise MeasurementFailed(f"the agent did not register within {AGENT_DEADLINE_S:.0f} s", remedy=f"see {agent.log}")


def _measure(
    client: LatencyClient, agent: LetiProcess, platform: PlatformInfo, networks: int, bars: Progress
) -> list[Campaign]:
    """Create the campaign, or find it again, have it measured, and again what was never measured calmly."""
    small = math.ceil(networks / 3)
    name = f"demo-{networks}"
    exporting = bars.add_task("generating, exporting", total=None)
    campaign = client.create_campaign(
        CampaignRequest(
            name=name,
            platform_id=platform.id,
            samples=(
                Sample("nasbench201", networks - small, SEED),
                Sample("nasbench101", small, SEED, SMALL_MACRO),
            ),
            profile=False,
        )
    )
    bars.update(exporting, completed=campaign.networks, total=campaign.networks)
    measured = [_measured(client, agent, campaign, bars, "measuring")]
    for number in range(1, 1 + MOST_AGAIN):
        if not (restless := never_calm(client, measured)):
            break
        again = CampaignRequest(
            f"{name}-again-{number}", platform.id, networks=restless, repeats=1, repeat_share=0.0, profile=False
        )
        measured.append(_measured(client, agent, client.create_campaign(again), bars, "measuring again, calmly"))
    return measured


def _measured(client: LatencyClient, agent: LetiProcess, campaign: Campaign, bars: Progress, what: str) -> Campaign:
    """Return a campaign once the agent has measured it."""
    measuring = bars.add_task(what, total=campaign.jobs, completed=campaign.done)
    while not campaign.finished:
        agent.check()
        time.sleep(0.5)
        campaign = client.campaign(campaign.id)
        bars.update(measuring, completed=campaign.jobs - campaign.queued - campaign.leased)
    bars.update(measuring, completed=campaign.jobs)
    return campaign


def _train(client: LatencyClient, platform: PlatformInfo, bars: Progress) -> TrainingReport:
    return train_and_show(client, TrainingRequest(platform.id, seed=SEED), bars)


def _query(client: LatencyClient, report: TrainingReport, bars: Progress) -> tuple[list[str], list[PredictionItem]]:
    """Ask for networks of classes that were not measured, and last for one that was."""
    with needs("export"):
        from leti.generator.spaces import get_space

    asking = bars.add_task("asking", total=QUERIES + 1)
    specs = get_space("nasbench201").sample(10 * QUERIES, SEED + 1, NetworkConfig())
    answers = client.predict(PredictionRequest((report.platform_id,), tuple(spec.to_json() for spec in specs))).only()
    new = [(spec, item) for spec, item in zip(specs, answers, strict=True) if item.source == "predicted"][:QUERIES]
    known = next((item for item in reversed(answers) if item.source == "measured"), None)
    if known is None:
        row = client.dataset_rows(report.dataset_id, limit=1).items[0]
        known = client.predict(PredictionRequest((report.platform_id,), (row.fingerprint,))).only()[0]
    bars.update(asking, completed=QUERIES + 1)
    names = [" ".join(_SHORT[layer.name] for layer in spec.layers[1:-1]) for spec, _ in new]
    return [*names, "(measured) " + known.fingerprint[:12]], [*(item for _, item in new), known]


def _plot(client: LatencyClient, report: TrainingReport, home: Path, bars: Progress) -> tuple[Path, Path]:
    drawing = bars.add_task("drawing", total=1)
    points = {p.kind: client.holdout(p.id) for p in report.predictors}
    title = f"{report.platform_id}: networks of classes never seen in training"
    written = scatter(points, title, home / "predicted-against-measured")
    bars.advance(drawing)
    return written


def _farewell(console: Console, home: Path, plots: Sequence[Path], platform: PlatformInfo, duration_s: float) -> None:
    lines = (
        f"{platform.networks_measured} networks, {platform.measurements} measurements, {duration_s:.0f} s",
        *(f"plot:     {path}" for path in plots),
        f"database: {home / 'leti.sqlite'}",
        f"serve it again: {_this_command()} serve --no-auth --home {shlex.quote(str(home))}",
    )
    for line in lines:
        console.print(line, **_PLAIN)


def _this_command() -> str:
    """Return how the shell finds this `leti`: it need not be on the path."""
    beside = Path(sys.executable).with_name("leti")
    return shlex.quote(str(beside)) if beside.exists() and shutil.which("leti") != str(beside) else "leti"


def _summary(
    campaigns: Sequence[Campaign],
    platform: PlatformInfo,
    report: TrainingReport,
    serving: str | None,
    names: Sequence[str],
    items: Sequence[PredictionItem],
    plots: Sequence[Path],
    home: Path,
    duration_s: float,
) -> dict[str, Any]:
    return {
        "platform": to_json(platform),
        "campaign": to_json(campaigns[0]),
        "again": to_json(campaigns[1:]),
        "predictors": {p.kind: to_json(p.metrics) for p in report.predictors},
        "active": serving,
        "repeatability": to_json(report.repeatability),
        "queries": [{"network": name, **to_json(item)} for name, item in zip(names, items, strict=True)],
        "plots": [str(path) for path in plots],
        "database": str(home / "leti.sqlite"),
        "duration_s": duration_s,
    }
