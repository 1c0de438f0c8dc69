"""Phones behind an agent and the real service: found, listed, measured, unplugged in the middle, and back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from adb_server import AdbServer
from phone import Phone

pytest.importorskip("fastapi", reason="the service's extra is not installed")

from leti.cli.processes import ServiceProcess
from leti.client import Backoff, LatencyClient
from leti.core.farm import CampaignRequest, Sample
from leti.core.spec import NetworkConfig
from leti.device_agents.android.bench import AndroidBench
from leti.device_agents.fleet import Fleet
from leti.device_agents.worker import Agent

Benches = Callable[..., AndroidBench]
SMALL = NetworkConfig(stem_channels=4, modules_per_stack=1)
SOON = Backoff(0.1, 0.5)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[LatencyClient]:
    with ServiceProcess(tmp_path / "service") as service, LatencyClient(service.url) as client:
        yield client


def campaign_of(client: LatencyClient, bench: AndroidBench, networks: int) -> CampaignRequest:
    sample = Sample("nasbench201", networks, 1, SMALL)
    client.register_platform(bench.platform)
    return CampaignRequest(bench.platform.device.name, bench.platform.id, (sample,), repeats=1, repeat_share=0.0)


def agent_of(client: LatencyClient, bench: AndroidBench, spool: Path, **options: object) -> Agent:
    usual: dict[str, object] = {"backoff": SOON, "device_backoff": SOON, "poll_s": 0.1, "idle_s": 0.5}
    folder = spool / bench.platform.device.name.replace(" ", "-")
    return Agent(client, [bench], spool=folder, **{**usual, **options})  # type: ignore[arg-type]


def wait_until(condition: Callable[[], bool], within_s: float = 90.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.1)


def test_two_phones_are_measured_at_once(
    phones: Callable[..., Phone], benches: Benches, client: LatencyClient, tmp_path: Path
) -> None:
    both = [benches(phones()), benches(phones())]
    campaigns = [client.create_campaign(campaign_of(client, bench, 2)) for bench in both]
    summary = Fleet([agent_of(client, bench, tmp_path / "spool") for bench in both]).run(until_idle=True)
    assert (summary.measured, summary.failed) == (4, 0)
    for bench, campaign in zip(both, campaigns, strict=True):
        assert client.campaign(campaign.id).done == 2
        row = client.measurements(platform_id=bench.platform.id).items[0]
        measurement = client.measurement(row.id)
        assert measurement.grain == "process"
        assert measurement.operator_times
        assert dict(measurement.recipe.facts)["binary_sha256"]
    assert {info.state for info in client.devices()} == {"available"}


def test_a_phone_that_is_unplugged_gives_its_jobs_back_and_goes_on_when_it_is_back(
    android_device: Phone, adb_server: AdbServer, benches: Benches, client: LatencyClient, tmp_path: Path
) -> None:
    phone, bench = android_device, benches(android_device, back_s=1.0)
    campaign = client.create_campaign(campaign_of(client, bench, 3))
    unplugged = threading.Event()

    def unplug(job: object, result: object) -> None:
        if not unplugged.is_set():
            phone.power_off()
            unplugged.set()

    stop = threading.Event()
    agent = agent_of(client, bench, tmp_path / "spool", max_jobs=1, on_result=unplug)
    thread = threading.Thread(target=agent.run, args=(stop,))
    thread.start()
    try:
        wait_until(lambda: client.devices()[0].state == "gone")
        told = client.devices()[0]
        assert told.failures
        assert sum(told.failures.values()) == 1, "one job was given back; the others stayed in the queue"
        assert client.campaign(campaign.id).queued == 2
        phone.start()
        adb_server.connect(phone.serial)
        wait_until(lambda: client.campaign(campaign.id).finished)
    finally:
        stop.set()
        thread.join(60)
    assert client.campaign(campaign.id).done == 3
    assert client.devices()[0].state == "available"


def test_the_command_lists_phones_and_measures_those_that_can_be(
    phones: Callable[..., Phone], adb_server: AdbServer, tool: Path, client: LatencyClient, tmp_path: Path
) -> None:
    good, refusing = phones(), phones(connected=False, auth="deny")
    adb_server.connect(refusing.serial, "unauthorized")
    environment = {
        **os.environ,
        **{name: adb_server.environment[name] for name in ("HOME", "TMPDIR", "ANDROID_ADB_SERVER_PORT", "ADB_MDNS")},
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "COLUMNS": "200",
    }

    def leti(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "leti.cli", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)

    ran = leti("devices", "--json", str(tmp_path / "devices.json"))
    assert ran.returncode == 0, ran.stderr
    listed = {each["serial"]: each for each in json.loads((tmp_path / "devices.json").read_text())["phones"]}
    assert listed[good.serial]["reason"] == ""
    assert any(way.startswith("xnnpack on big") for way in listed[good.serial]["platforms"])
    assert "accept" in listed[refusing.serial]["reason"]
    assert good.serial in ran.stdout
    assert refusing.serial in ran.stdout

    measuring = ("agent", "run", "--until-idle", "--backend", "android", "--benchmark-binary", str(tool))
    spool = ("--url", client.base_url, "--spool", str(tmp_path / "spool"))
    ran = leti(*measuring, *spool)
    assert ran.returncode == 0, ran.stderr
    (info,) = client.platforms()
    assert (info.platform.device.kind, info.platform.delegate) == ("android", "xnnpack")
    assert f"LETI agent measures as {info.id}\n" in ran.stdout
    assert f"({refusing.serial}) cannot be used" in ran.stderr
    assert [info.state for info in client.devices()] == ["available"]

    for wrong, words in (
        (("--serial", refusing.serial), "accept"),
        (("--delegate", "tensorrt"), "xnnpack"),
        (("--cluster", "huge"), "big"),
    ):
        ran = leti(*measuring, *spool, *wrong)
        assert ran.returncode == 2, ran.stdout
        assert words in ran.stderr.splitlines()[-1]
        assert "Traceback" not in ran.stderr
