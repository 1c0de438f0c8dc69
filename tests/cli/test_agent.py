"""Agents and devices as a user handles them, over a real service: a platform is enrolled with real LiteRT."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

for module, extra in (("xgboost", "boosting"), ("fastapi", "service"), ("ai_edge_litert", "agent")):
    pytest.importorskip(module, reason=f"needs leti[{extra}]")

from leti.cli.processes import ServiceProcess
from leti.client import LatencyClient
from leti.core.wire import PlatformInfo

pytestmark = [pytest.mark.alone, pytest.mark.timeout(1800)]  # on a busy machine; half a minute on a free one

NETWORKS = 40
REPEATED = 4
SMALL = '{"modules_per_stack": 1, "stem_channels": 8}'


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("enrolled")


@pytest.fixture(scope="module")
def client(home: Path) -> Iterator[LatencyClient]:
    with ServiceProcess(home / "service") as service, LatencyClient(service.url) as client:
        yield client


@pytest.fixture
def platform(again: subprocess.CompletedProcess[str], client: LatencyClient) -> PlatformInfo:
    return next(info for info in client.platforms() if info.platform.device.name == "bench one")


@pytest.fixture(scope="module")
def again(interrupted, home: Path, client: LatencyClient) -> subprocess.CompletedProcess[str]:
    """An enrolment that was interrupted with Ctrl-C in the middle of measuring, and then run again to its end."""
    return interrupted(
        "agent", "enrol", "--url", client.base_url, "--config", SMALL, "--networks", str(NETWORKS),
        "--device-name", "bench one", "--spool", home / "spool", "--repeats", "2", "--repeat-share", "0.1",
        "--json", home / "enrolled.json", begun=lambda: bool(client.measurements(limit=10).items), folder=home,
    )  # fmt: skip


@pytest.fixture(scope="module")
def enrolled(home: Path, again: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What enrol wrote."""
    if again.returncode == 2 and "training needs" in again.stderr.splitlines()[-1]:
        pytest.skip(f"the machine is too restless to train on what it measures: {again.stderr.splitlines()[-1]}")
    assert again.returncode == 0, again.stdout + again.stderr
    found: dict[str, Any] = json.loads((home / "enrolled.json").read_text())
    return found


def test_enrol_goes_on_from_what_was_there(
    again: subprocess.CompletedProcess[str], client: LatencyClient, platform: PlatformInfo
) -> None:
    assert (platform.platform.device.name, platform.platform.delegate) == ("bench one", "xnnpack")
    assert platform.id in again.stdout
    campaign, *others = client.campaigns()
    assert campaign.networks == NETWORKS
    assert campaign.done == campaign.jobs == NETWORKS + REPEATED
    attempts = [job.attempts for job in client.jobs(campaign_id=campaign.id, limit=200).items]
    assert len(attempts) == campaign.jobs
    assert attempts.count(1) >= campaign.jobs - 16, "what was measured is not measured again after the interruption"
    assert all(other.done == other.networks <= campaign.noisy for other in others), "but what was noisy is"


def test_enrol_trains_and_shows_the_scores(enrolled: dict[str, Any], again: subprocess.CompletedProcess[str]) -> None:
    kinds = [each["kind"] for each in enrolled["training"]["predictors"]]
    assert kinds[0] == "flops"
    assert "xgboost" in kinds
    for each in enrolled["training"]["predictors"]:
        metrics = each["metrics"]
        assert 33 <= metrics["n_train"] + metrics["n_test"] <= NETWORKS
        assert each["kind"] in again.stdout
    assert enrolled["campaigns"][0]["networks"] == NETWORKS
    assert "Learning curve of" in again.stdout


def test_enrol_says_what_more_measurements_would_bring_or_why_it_cannot(
    enrolled: dict[str, Any], again: subprocess.CompletedProcess[str]
) -> None:
    curve, advice = enrolled["training"]["learning_curve"], enrolled["advice"]
    (active,) = [each for each in enrolled["training"]["predictors"] if each["active"]]
    single = [each for each in enrolled["training"]["predictors"] if each["kind"] != "stacked"]
    best = min(single, key=lambda each: each["cross_validation_mdape"])
    assert curve["kind"] == best["kind"]
    last = curve["measured"][-1]
    assert last["mdape"] == pytest.approx(best["cross_validation_mdape"])
    assert last["low"] <= last["mdape"] <= last["high"]
    assert advice["told"] == bool(curve["expected"])
    if advice["told"]:
        counts = [point["networks"] for point in curve["expected"]]
        assert counts == sorted(counts)
        assert counts[0] == active["metrics"]["n_train"]
    else:
        assert curve["reason"] in advice["text"]
        assert advice["more_measurements"] is None
    assert " ".join(advice["text"].split()[:5]) in " ".join(again.stdout.split())


def test_devices_are_listed_stopped_and_released(
    leti, client: LatencyClient, enrolled: dict[str, Any], tmp_path
) -> None:
    url = ("--url", client.base_url)
    out = tmp_path / "devices.json"
    (tmp_path / "no-adb").mkdir()
    ran = leti("devices", "--json", out, *url, more={"PATH": str(tmp_path / "no-adb")})
    assert ran.returncode == 0, ran.stderr
    said = json.loads(out.read_text())
    litert = [each for each in said["runtimes"] if (each["backend"], each["delegate"]) == ("litert", "xnnpack")]
    assert litert[0]["reason"] == ""
    assert (said["phones"], "adb" in said["adb"]) == ([], True), "without adb, it says so"
    (device,) = said["devices"]
    assert device["device"]["name"] == "bench one"
    assert device["state"] in ("available", "gone")
    assert device["measured"] == sum(campaign.done for campaign in client.campaigns())
    assert "bench one" in ran.stdout

    ran = leti("devices", "quarantine", "bench one", "--reason", "the fan rattles", *url)
    assert "quarantined" in ran.stdout
    assert "the fan rattles" in ran.stdout
    enrol = ("agent", "enrol", "--networks", "41", "--device-name", "bench one", "--spool", tmp_path / "spool")
    ran = leti(*enrol, "--config", SMALL, *url)
    assert ran.returncode == 2
    assert "the fan rattles" in ran.stderr.splitlines()[-1]
    assert "leti devices release" in ran.stderr.splitlines()[-1]
    ran = leti("devices", "release", "bench one", *url)
    assert "quarantined" not in ran.stdout
    assert leti("devices", "release", "no such device", *url).returncode == 2


def enrol_with(leti, home: Path, url: str, delegate: str, count: int) -> subprocess.CompletedProcess[str]:
    return leti(
        "agent", "enrol", "--url", url, "--config", SMALL, "--networks", str(count), "--sampling", "active",
        "--device-name", "bench two", "--delegate", delegate, "--repeat-share", "0", "--spool", home / delegate,
        "--json", home / f"{delegate}.json",
    )  # fmt: skip


@pytest.mark.usefixtures("enrolled")
def test_few_networks_will_do_where_there_is_a_predictor_to_adapt(
    leti, home: Path, client: LatencyClient, platform: PlatformInfo
) -> None:
    ran = enrol_with(leti, home, client.base_url, "builtin", 8)
    if ran.returncode == 2 and "training needs" in ran.stderr:
        pytest.skip(f"the machine is too restless to train on what it measures: {ran.stderr.splitlines()[-1]}")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    training = json.loads((home / "builtin.json").read_text())["training"]
    assert [(each["kind"], each["active"]) for each in training["predictors"]] == [("adapted", True)]
    assert any(platform.id in remark for remark in training["remarks"])
    assert "no curve is drawn" in ran.stdout
