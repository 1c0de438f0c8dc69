"""Jobs and agents as a user handles them, over a real service, where nothing has been measured yet."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

for module, extra in (("fastapi", "service"), ("ai_edge_litert", "agent")):
    pytest.importorskip(module, reason=f"needs leti[{extra}]")

from leti.cli.processes import ServiceProcess
from leti.client import LatencyClient
from leti.core.device import Device, Platform
from leti.core.farm import CampaignRequest, JobSelection, Sample

BOX = Platform(Device("box", "desktop", "soc", 2), "litert", "2.3.0", "xnnpack")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LatencyClient]:
    with ServiceProcess(tmp_path_factory.mktemp("unmeasured")) as service, LatencyClient(service.url) as client:
        yield client


def test_jobs_are_listed_cancelled_and_retried(leti, client: LatencyClient, tmp_path: Path) -> None:
    url = ("--url", client.base_url)
    platform = client.register_platform(BOX)
    over = client.create_campaign(CampaignRequest("over", platform.id, (Sample("nasbench201", 2, 8),), repeats=1))
    client.cancel_jobs(JobSelection(campaign_id=over.id))
    sample = Sample("nasbench201", 3, 9)
    waiting = client.create_campaign(CampaignRequest("waiting", platform.id, (sample,), repeats=1))
    of_it = ("--campaign", str(waiting.id))
    out = tmp_path / "jobs.json"
    ran = leti("jobs", "list", "--limit", "700", "--json", out, *url)
    assert ran.returncode == 0, ran.stderr
    listed = json.loads(out.read_text())
    assert len(listed) == sum(campaign.jobs for campaign in client.campaigns())
    assert platform.id in ran.stdout
    ran = leti("jobs", "list", "--state", "queued", "--json", out, *url)
    queued = json.loads(out.read_text())
    assert [job["campaign_id"] for job in queued] == [waiting.id] * 3
    assert "there are more" in leti("jobs", "list", "--limit", "2", *url).stdout
    ran = leti("jobs", "cancel", str(queued[0]["id"]), *url)
    assert ran.stdout == "1 jobs cancelled\n"
    assert leti("jobs", "cancel", *of_it, *url).stdout.startswith("2 jobs cancelled")
    assert client.campaign(waiting.id).cancelled == 3
    assert leti("jobs", "retry", *of_it, *url).stdout.startswith("3 jobs queued again")
    assert client.campaign(waiting.id).queued == 3
    assert leti("jobs", "cancel", *of_it, *url).returncode == 0
    ran = leti("jobs", "failures", "--by", "device", *url)
    assert ran.returncode == 0, ran.stderr
    assert "Failures by device" in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("retry",), "names no job"),
        (("cancel", "987654"), "987654"),
        (("retry", "1", "--kind", "bad luck"), "bad luck"),
        (("list", "--campaign", "987654"), "987654"),
        (("list", "--platform", "abacus"), "abacus"),
    ],
)
def test_mistakes_with_jobs_are_one_line(leti, client: LatencyClient, arguments: tuple[str, ...], words: str) -> None:
    ran = leti("jobs", *arguments, "--url", client.base_url)
    assert ran.returncode == 2, ran.stdout
    assert words in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_an_agent_finds_out_what_its_machine_can_measure(leti, client: LatencyClient, tmp_path: Path) -> None:
    from leti.device_agents.discovery import Wish, ways

    ran = leti(
        "agent", "run", "--until-idle", "--device-name", "bench two", "--spool", tmp_path / "spool",
        more={"LETI_URL": client.base_url, "LETI_TOKEN": "abc"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    known = [info for info in client.platforms() if info.platform.device.name == "bench two"]
    assert len(known) == len(ways(Wish()))
    for info in known:
        assert f"LETI agent measures as {info.id}\n" in ran.stdout
    assert "0 measured (0 noisy) and 0 failed" in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--backend", "abacus"), "one of litert"),
        (("--backend", "litert", "--delegate", "cuda"), "xnnpack"),
        (("--precision", "fp64"), "one of fp32"),
        (("--model-precision", "int4"), "full_integer"),
        (("--backend", "android"), "--benchmark-binary"),
        (
            ("--benchmark-binary", sys.executable, "--backend", "android", "--precision", "fp16"),
            "xnnpack does not compute",
        ),
        (
            ("--benchmark-binary", sys.executable, "--backend", "android", "--delegate", "cuda"),
            "xnnpack, none, gpu, nnapi",
        ),
        (("--serial", "FAKE0001"), "--benchmark-binary"),
    ],
)
def test_mistakes_with_agents_are_one_line(
    leti, client: LatencyClient, arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    for command in ("run", "enrol"):
        ran = leti("agent", command, *arguments, "--url", client.base_url, "--spool", tmp_path / "spool")
        assert ran.returncode == 2, ran.stdout
        assert words in ran.stderr
        assert len(ran.stderr.splitlines()) == 1


def test_enrol_without_a_service_says_so_at_once(leti, tmp_path: Path) -> None:
    ran = leti("agent", "enrol", "--url", "http://127.0.0.1:9", "--spool", tmp_path)
    assert ran.returncode == 2
    assert "127.0.0.1:9" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_agent_alone_shows_what_it_can_do(leti) -> None:
    ran = leti("agent")
    assert "run" in ran.stdout + ran.stderr
    assert "enrol" in ran.stdout + ran.stderr


def test_few_networks_are_refused_before_they_are_measured_where_there_is_none(
    leti, client: LatencyClient, tmp_path: Path
) -> None:
    before = client.campaigns()
    enrol = ("agent", "enrol", "--networks", "8", "--device-name", "bench three", "--spool", tmp_path / "spool")
    ran = leti(*enrol, "--sampling", "active", "--url", client.base_url)
    assert (ran.returncode, client.campaigns()) == (2, before)
    assert "no other platform has an active predictor" in ran.stderr
    assert "measure 40 or more" in ran.stderr
