"""``leti agent enrol``: from this machine, or a phone that is plugged in, to a predictor with a score."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

import typer
from rich.console import Console
from rich.progress import Progress

from leti.cli.benches import stopped_by_signals
from leti.cli.learning import curve_json, show_curve
from leti.cli.report import new_bars, new_console, write_json
from leti.cli.restless import MOST_AGAIN, never_calm
from leti.cli.train import show_training, train_and_show
from leti.core.codec import to_json
from leti.core.errors import Conflict, InvalidInput, TooFewMeasurements
from leti.core.farm import Campaign, CampaignRequest, Sample, Sampling
from leti.core.training import TrainingReport, TrainingRequest
from leti.core.wire import NetworkInput, PlatformInfo

if TYPE_CHECKING:
    from leti.client import LatencyClient
    from leti.device_agents.bench import Bench

INTERRUPTED: Final = 130
GLANCE_S: Final = 1.0

PRIORITY: Final = 1
"""Before campaigns of the usual priority: somebody sits and waits."""

ALONE: Final = 40
"""Fewest networks to measure where there are no predictors of other platforms that could be adapted."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What is measured first: ``sample`` of a space, a share of its networks several times."""

    sample: Sample
    repeats: int = 4
    repeat_share: float = 0.2
    sampling: Sampling = "random"

    @property
    def name(self) -> str:
        """What its campaign is called; the same enrolment of the same platform is the same campaign, others are not."""
        usual = Enrolment(Sample(self.sample.space, self.sample.count, self.sample.seed))
        name = f"enrol-{self.sample.space}-{self.sample.count}-{self.sample.seed}"
        digest = hashlib.sha256(json.dumps(to_json(self), sort_keys=True).encode()).hexdigest()
        return name if self == usual else f"{name}-{digest[:6]}"

    def first(self, platform_id: str) -> CampaignRequest:
        """Return the campaign."""
        return CampaignRequest(
            self.name,
            platform_id,
            (self.sample,),
            repeats=self.repeats,
            repeat_share=self.repeat_share,
            priority=PRIORITY,
            sampling=self.sampling,
        )

    def again(self, platform_id: str, number: int, networks: tuple[NetworkInput, ...]) -> CampaignRequest:
        """Return a campaign of networks that were measured before, and never calmly."""
        name = f"{self.name}-again-{number}"
        return CampaignRequest(
            name, platform_id, networks=networks, repeats=1, repeat_share=0.0, priority=PRIORITY, profile=False
        )


@final
class Enroller:
    """Measures the first sample of one platform with an agent of its own, and trains on it."""

    def __init__(self, client: LatencyClient, bench: Bench, *, spool: Path, max_jobs: int) -> None:
        self._client = client
        self._bench = bench
        self._spool = spool
        self._max_jobs = max_jobs
        self._stop = threading.Event()

    def enrol(self, enrolment: Enrolment, json_file: Path | None) -> None:
        """Register, measure, train, and show what came of it."""
        console = new_console()
        platform = self._client.register_platform(self._bench.platform)
        console.print(f"platform {platform.id}", soft_wrap=True, highlight=False)
        self._check(platform, enrolment.sample.count)
        with new_bars(console) as bars:
            with stopped_by_signals() as self._stop:
                campaigns = self._campaigns(platform, enrolment, bars)
            if self._stop.is_set():
                typer.echo("what was measured is kept: the same command goes on from there", err=True)
                raise typer.Exit(INTERRUPTED)
            report = self._train(platform, enrolment, bars)
        measured = self._client.platform(platform.id)
        self._show_failures(console, campaigns)
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
                "campaigns": to_json(campaigns),
                "training": to_json(report),
                "advice": advised,
            },
        )

    def _check(self, platform: PlatformInfo, count: int) -> None:
        """Refuse what would be too few in the end, before it is measured."""
        if platform.networks_measured + count >= ALONE:
            return
        precision = platform.platform.model_precision
        alike = {other.id for other in self._client.platforms() if other.platform.model_precision == precision}
        sources = [
            known
            for known in self._client.predictors()
            if known.active and known.kind != "adapted" and known.platform_id in alike - {platform.id}
        ]
        if not sources:
            raise TooFewMeasurements(
                f"{count} networks are too few: no other platform has an active predictor that could be adapted",
                field="--networks",
                remedy=f"measure {ALONE} or more",
                given=count,
                needed=ALONE,
            )

    def _campaigns(self, platform: PlatformInfo, enrolment: Enrolment, bars: Progress) -> list[Campaign]:
        """Measure the sample, and again what was never measured calmly; return what was done until the user stops."""
        done: list[Campaign] = []
        request = enrolment.first(platform.id)
        for number in range(1, 2 + MOST_AGAIN):
            done.append(self._measure(request, bars))
            restless = () if self._stop.is_set() else never_calm(self._client, done)
            if not restless:
                break
            request = enrolment.again(platform.id, number, restless)
        return done

    def _measure(self, request: CampaignRequest, bars: Progress) -> Campaign:
        """Return the campaign once it is finished, or as it stands when the user stops."""
        from leti.device_agents.worker import Agent

        first = bool(request.samples)
        measuring = bars.add_task("measuring" if first else "measuring again, calmly", total=None)
        campaign = self._client.create_campaign(request)
        if campaign.remark:
            bars.console.print(campaign.remark, soft_wrap=True, highlight=False)
        bars.update(measuring, total=campaign.jobs, completed=_ended(campaign))
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
                    f"the service lends {name!r} no jobs: {info.reason}",
                    remedy=f"leti devices release '{name}' --url {self._client.base_url}",
                )

    def _train(self, platform: PlatformInfo, enrolment: Enrolment, bars: Progress) -> TrainingReport:
        started = time.monotonic()
        request = TrainingRequest(platform.id, seed=enrolment.sample.seed, learning_curve=True)
        report = train_and_show(self._client, request, bars)
        bars.console.print(f"trained in {time.monotonic() - started:.0f} s", highlight=False)
        return report

    def _show_failures(self, console: Console, campaigns: Sequence[Campaign]) -> None:
        failures = [job for campaign in campaigns for job in self._client.failures(campaign.id)]
        if failures:
            kinds = Counter(job.kind for job in failures)
            said = ", ".join(f"{kind} {count}" for kind, count in kinds.items())
            console.print(f"{len(failures)} jobs failed: {said}", highlight=False)
        if noisy := sum(campaign.noisy for campaign in campaigns):
            console.print(f"{noisy} measurements were noisy, and are not trained on", highlight=False)


def only_bench(benches: Sequence[Bench]) -> Bench:
    """Return the one bench; raise :class:`InvalidInput` where the options name several platforms."""
    if len(benches) != 1:
        named = ", ".join(bench.platform.id for bench in benches)
        raise InvalidInput(f"name {len(benches)} platforms, enrol takes one: {named}", field="options")
    return benches[0]


def _ended(campaign: Campaign) -> int:
    return campaign.jobs - campaign.queued - campaign.leased
