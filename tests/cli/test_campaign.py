"""``leti campaign create`` as a user types it, over a real service: which networks are drawn, and which chosen."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

for module, extra in (("scipy", "boosting"), ("fastapi", "service"), ("flatbuffers", "export")):
    pytest.importorskip(module, reason=f"needs leti[{extra}]")

from leti.cli.processes import ServiceProcess
from leti.client import LatencyClient
from leti.core.device import Device, Platform
from leti.core.farm import CampaignRequest, LeaseRequest, Result, Sample
from leti.core.measurement import Measurement, Pass, Recipe
from leti.core.spec import NetworkConfig
from leti.core.training import TrainingRequest
from leti.core.wire import PlatformInfo
from leti.generator.export.formats import export_model
from leti.generator.lowering import lower
from leti.generator.spaces import get_space

SMALL = '{"modules_per_stack": 1}'
OLD, NEW = (Platform(Device(name, "desktop", "soc", 2), "litert", "2.3.0", "xnnpack") for name in ("old", "new"))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LatencyClient]:
    with ServiceProcess(tmp_path_factory.mktemp("service")) as service, LatencyClient(service.url) as client:
        yield client


@pytest.fixture(scope="module")
def new(client: LatencyClient) -> PlatformInfo:
    client.register_platform(OLD)
    return client.register_platform(NEW)


def measure(client: LatencyClient, platform: Platform, a_mac: float) -> None:
    """Report what the queue holds, as an agent of this platform would."""
    while (lease := client.lease(LeaseRequest("agent", platform.id, 64))) is not None:
        for job in lease.jobs:
            noise = random.Random(job.fingerprint + platform.id).uniform(0.99, 1.01)
            ratio = (0.1 + a_mac * client.network(job.fingerprint).macs / 1e6) * noise
            passes = tuple(Pass((1.25 * ratio, 1.25 * ratio), (1.25, 1.25)) for _ in range(3))
            recipe = Recipe("0.1.0", "2.3.0", "ab" * 32)
            measured = Measurement(job.fingerprint, platform.id, lease.reference, passes, recipe)
            client.post_result(Result(lease.id, lease.token, job.id, job.repeat, measured))


@pytest.fixture
def unlearnt(client: LatencyClient, new: PlatformInfo, tmp_path: Path) -> Iterator[LatencyClient]:
    """A client of a service that has no predictor: of the module's as long as that has none, else of another."""
    if not client.predictors():
        yield client
        return
    with ServiceProcess(tmp_path / "service") as service, LatencyClient(service.url) as other:
        other.register_platform(new.platform)
        yield other


@pytest.fixture(scope="module")
def learnt(client: LatencyClient, new: PlatformInfo) -> PlatformInfo:
    """The new platform, where the other one has a predictor."""
    config = NetworkConfig(modules_per_stack=1)
    request = CampaignRequest("old", OLD.id, (Sample("nasbench201", 40, 3, config),), repeats=1)
    client.create_campaign(request)
    measure(client, OLD, 0.1)
    client.train(TrainingRequest(OLD.id, ("linear",)))
    return new


def create(leti, client: LatencyClient, name: str, sampling: str | None, count: int = 8):
    arguments = ["--sample", f"nasbench201:{count}", "--config", SMALL, "--repeats", "1", "--no-profile"]
    arguments += [] if sampling is None else ["--sampling", sampling]
    return leti("campaign", "create", name, *arguments, "--platform", NEW.id, "--url", client.base_url)


def test_without_a_predictor_active_sampling_says_what_it_did(leti, unlearnt: LatencyClient) -> None:
    ran = create(leti, unlearnt, "early", "active")
    assert ran.returncode == 0, ran.stderr
    assert "chosen by diversity: no platform has an active predictor" in ran.stdout


def test_training_says_that_few_would_do(leti, unlearnt: LatencyClient) -> None:
    ran = leti("train", "--platform", NEW.id, "--url", unlearnt.base_url)
    assert ran.returncode != 0
    assert "6 are enough to adapt an active predictor of another platform" in ran.stderr
    ran = leti("train", "--kind", "adapted", "--platform", NEW.id, "--url", unlearnt.base_url)
    assert ran.returncode != 0
    assert "no other platform has a predictor that could be adapted" in ran.stderr


def test_ways_to_choose_are_chosen_by_name_and_end_in_a_predictor(
    leti, client: LatencyClient, learnt: PlatformInfo
) -> None:
    for sampling in (None, "diverse", "active"):
        ran = create(leti, client, f"by {sampling}", sampling)
        assert ran.returncode == 0, ran.stderr
        assert "chosen by" not in ran.stdout
        again = create(leti, client, f"by {sampling}", sampling)
        assert re.sub(r"\s+", " ", again.stdout) == re.sub(r"\s+", " ", ran.stdout)
    measure(client, NEW, 0.4)
    campaigns = [found for found in client.campaigns() if found.name.startswith("by ")]
    chosen = [{row.fingerprint for row in client.measurements(campaign_id=found.id).items} for found in campaigns]
    assert [len(of_one) for of_one in chosen] == [8, 8, 8]
    assert len({frozenset(of_one) for of_one in chosen}) == 3
    ran = leti("train", "--platform", learnt.id, "--url", client.base_url)
    assert ran.returncode == 0, ran.stderr
    assert "adapted *" in ran.stdout
    assert f"adapted: learnt from the linear of {OLD.id}" in ran.stdout
    every = leti("train", "--every-platform", "--kind", "adapted", "--url", client.base_url)
    assert every.returncode == 0, every.stderr
    told = re.sub(r"\s+", " ", every.stdout)
    assert f"{learnt.id}: trained on" in told, "it is adapted from the other"
    assert f"{OLD.id} is not trained: " in told, "the other's own sources are adapted themselves"


@pytest.mark.usefixtures("new")
def test_a_way_that_is_none_is_refused(leti, client: LatencyClient) -> None:
    ran = create(leti, client, "by magic", "magic")
    assert ran.returncode == 2
    assert "--sampling" in ran.stderr


@pytest.mark.usefixtures("new")
def test_compressed_forms_are_drawn_of_a_network_by_name(leti, client: LatencyClient) -> None:
    address = ("--repeats", "1", "--platform", NEW.id, "--url", client.base_url)
    ran = leti("campaign", "create", "forms", "--compressed-of", "nasbench201:3,1,2,4,3,1:4", *address)
    assert ran.returncode == 0, ran.stderr
    (campaign,) = [found for found in client.campaigns() if found.name == "forms"]
    assert campaign.networks == 4
    found = [client.network(job.fingerprint) for job in client.jobs(campaign_id=campaign.id).items]
    assert {network.source for network in found} == {"patch"}
    for wrong in ("nasbench201:3,1,2,4,3,1:x", "4"):
        ran = leti("campaign", "create", "more", "--compressed-of", wrong, *address)
        assert ran.returncode != 0
        assert "NETWORK:COUNT" in ran.stderr


@pytest.mark.usefixtures("new")
def test_a_baseline_is_given_by_name_or_as_a_file(leti, client: LatencyClient, tmp_path: Path) -> None:
    spec = get_space("nasbench201").sample(1, 77, NetworkConfig(modules_per_stack=1))[0]
    (tmp_path / "many.json").write_text("[]")
    (tmp_path / "network.tflite").write_bytes(export_model(lower(spec)))
    address = ("--sample", "nasbench201:2", "--repeats", "1", "--platform", NEW.id, "--url", client.base_url)
    given = {"file": tmp_path / "network.tflite", "name": lower(spec).fingerprint()}
    for name, baseline in given.items():
        ran = leti("campaign", "create", f"beside a {name}", *address, "--baseline", str(baseline))
        assert ran.returncode == 0, ran.stderr
    found = {campaign.name: campaign for campaign in client.campaigns()}
    assert {found[f"beside a {name}"].baseline for name in given} == {lower(spec).fingerprint()}
    ran = leti("campaign", "create", "wrong", *address, "--baseline", str(tmp_path / "many.json"))
    assert ran.returncode == 2
    assert "--baseline: must hold one" in ran.stderr
