"""``leti agent enrol``: from this machine, or a phone that is plugged in, to a predictor with a score."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from leti.cli.learning import curve_json, show_curve
from leti.cli.report import new_console, write_json
from leti.cli.train import show_training
from leti.client import LatencyClient
from leti.core.codec import to_json
from leti.core.errors import Conflict, InvalidInput
from leti.core.wire import Campaign, CampaignRequest, PlatformInfo, Sample, TrainingReport, TrainingRequest

if TYPE_CHECKING:
    from leti.device_agents.bench import Bench

INTERRUPTED: Final = 130
GLANCE_S: Final = 1.0

_COLUMNS: Final = (
    SpinnerColumn(),
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TimeRemainingColumn(),
)


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What is measured first: ``sample`` of a space, under the name ``campaign``."""

    sample: Sample
    campaign: str = ""
    repeats: int = 4
    repeat_share: float = 0.2

    def request(self, platform_id: str) -> CampaignRequest:
        """Return the campaign; the same enrolment of the same platform is the same campaign."""
        sample = self.sample
        name = self.campaign or f"enrol-{sample.space}-{sample.count}-{sample.seed}"
        return CampaignRequest(
            name, platform_id, (sample,), repeats=self.repeats, repeat_share=self.repeat_share, priority=1
        )


@final
class Enroller:
    """Measures the first sample of one platform with an agent of its own, and trains on it."""

    def __init__(
        self, client: LatencyClient, bench: Bench, *, spool: Path, max_jobs: int, stop: threading.Event
    ) -> None:
        self._client = client
        self._bench = bench
        self._spool = spool
        self._max_jobs = max_jobs
        self._stop = stop

    def enrol(self, enrolment: Enrolment, json_file: Path | None) -> None:
        """Register, measure, train, and show what came of it."""
        console = new_console()
        platform = self._client.register_platform(self._bench.platform)
        console.print(f"platform {platform.id}", soft_wrap=True, highlight=False)
        with Progress(*_COLUMNS, console=console) as bars:
            campaign = self._measure(platform, enrolment, bars)
            if not campaign.finished:
                typer.echo("what was measured is kept: the same command goes on from there", err=True)
                raise typer.Exit(INTERRUPTED)
            report = self._train(platform, enrolment, bars)
        measured = self._client.platform(platform.id)
        self._show_failures(console, campaign)
        show_training(console, report)
        curve, metrics = report.learning_curve, report.predictors[0].metrics
        counts = (metrics.n_train, metrics.n_test)
        if curve is not None:
            show_curve(console, curve, *counts)
        console.print(f"{measured.networks_measured} networks, {measured.measurements} measurements", highlight=False)
        advised = None if curve is None else curve_json(curve, *counts)
        write_json(
            json_file,
            {
                "platform": to_json(measured),
                "campaign": to_json(campaign),
                "training": to_json(report),
                "advice": advised,
            },
        )

    def _measure(self, platform: PlatformInfo, enrolment: Enrolment, bars: Progress) -> Campaign:
        """Return the campaign once it is finished, or as it stands when the user stops."""
        from leti.device_agents.worker import Agent

        exporting = bars.add_task("generating, exporting", total=None)
        campaign = self._client.create_campaign(enrolment.request(platform.id))
        bars.update(exporting, completed=campaign.networks, total=campaign.networks)
        measuring = bars.add_task("measuring", total=campaign.jobs, completed=_ended(campaign))
        agent = Agent(
            self._client,
            [self._bench],
            spool=self._spool,
            max_jobs=self._max_jobs,
            idle_s=GLANCE_S,
            poll_s=GLANCE_S / 2,
            on_result=lambda job, result: bars.advance(measuring),
        )
        while not campaign.finished:
            agent.run(self._stop, until_idle=True)
            campaign = self._client.campaign(campaign.id)
            bars.update(measuring, completed=_ended(campaign))
            if self._stop.is_set():
                break
            if not campaign.finished:  # another agent is at it, or one that died was, until its lease runs out
                self._refuse_quarantine()
                self._stop.wait(GLANCE_S)
        return campaign

    def _refuse_quarantine(self) -> None:
        name = self._bench.platform.device.name
        for info in self._client.devices():
            if info.device.name == name and info.state == "quarantined":
                raise Conflict(
                    f"the service lends {name!r} no jobs: {info.reason}", remedy=f"leti devices release '{name}'"
                )

    def _train(self, platform: PlatformInfo, enrolment: Enrolment, bars: Progress) -> TrainingReport:
        training = bars.add_task("training, learning curve", total=None)
        started = time.monotonic()
        request = TrainingRequest(platform.id, seed=enrolment.sample.seed, learning_curve=True)
        report = self._client.train(request)
        bars.update(training, completed=len(report.predictors), total=len(report.predictors))
        bars.console.print(f"trained in {time.monotonic() - started:.0f} s", highlight=False)
        return report

    def _show_failures(self, console: Console, campaign: Campaign) -> None:
        if campaign.failed + campaign.poison:
            kinds = Counter(job.kind for job in self._client.failures(campaign.id))
            said = ", ".join(f"{kind} {count}" for kind, count in kinds.items())
            console.print(f"{campaign.failed + campaign.poison} jobs failed: {said}", highlight=False)
        if campaign.noisy:
            console.print(f"{campaign.noisy} measurements were noisy, and are not trained on", highlight=False)


def only_bench(benches: Sequence[Bench]) -> Bench:
    """Return the one bench; raise :class:`InvalidInput` where the options name several platforms."""
    if len(benches) != 1:
        named = ", ".join(bench.platform.id for bench in benches)
        raise InvalidInput(f"name {len(benches)} platforms, enrol takes one: {named}", field="options")
    return benches[0]


def _ended(campaign: Campaign) -> int:
    return campaign.jobs - campaign.queued - campaign.leased
