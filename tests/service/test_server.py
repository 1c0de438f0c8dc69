"""The real server on a real socket, with the real client."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest

pytest.importorskip("uvicorn", reason="needs the extra service")

import httpx

from leti.client import LatencyClient
from leti.core.errors import LeaseLost, NotFound, TooFewMeasurements, Unavailable, VersionMismatch
from leti.core.farm import CampaignRequest, LeaseRequest, Sample
from leti.core.queries import PredictionRequest
from leti.core.training import TrainingRequest
from leti.core.wire import PROTOCOL_VERSION, NetworksRequest
from leti.service.server import running
from leti.service.settings import Settings

HEAVY = ("tensorflow", "torch", "xgboost", "sklearn", "scipy", "ai_edge_litert")


def test_the_client_speaks_with_the_server(settings, house):
    with running(settings) as url, LatencyClient(url) as client:
        assert client.health().status == "ok"
        info = client.register_platform(house.platform)
        assert client.platforms() == (info,)
        (network,) = client.add_networks(NetworksRequest((house.architecture,)))
        assert client.network(network.fingerprint) == network
        model = client.model(network.fingerprint)
        assert hashlib.sha256(model).hexdigest() == hashlib.sha256(client.model(network.fingerprint)).hexdigest()
        request = CampaignRequest("first", info.id, (Sample("nasbench201", 3),), repeats=1)
        campaign = client.create_campaign(request)
        assert client.create_campaign(request) == campaign
        lease = client.lease(LeaseRequest("agent", info.id))
        client.heartbeat(lease.id, lease.token)
        receipt = client.post_result(house_result(house, lease))
        assert client.post_result(house_result(house, lease)).status == "duplicate"
        assert client.measurement(receipt.measurement_id).fingerprint == lease.jobs[0].fingerprint
        client.release(lease.id, lease.token)
        assert client.campaign(campaign.id).done == 1
        assert len(client.measurements(campaign_id=campaign.id).items) == 1
        with pytest.raises(LeaseLost):
            client.heartbeat(lease.id, lease.token)
        with pytest.raises(TooFewMeasurements) as few:
            client.train(TrainingRequest(info.id))
        assert few.value.details["measured"] == 1
        with pytest.raises(NotFound, match="predictor"):
            client.predict(PredictionRequest((info.id,), (house.architecture,))).only()


def house_result(house, lease):
    return house.result(lease, lease.jobs[0], ratio=0.7)


def test_a_hundred_megabytes_are_refused_and_the_sender_reads_why(settings):
    with running(settings) as url, httpx.Client(base_url=url, timeout=60) as http:
        headers = {"content-type": "application/json"}
        big = b"x" * (100 * 1024 * 1024)
        for content in (big, iter([big[:1_000_000]] * 100)):
            answer = http.post("/v1/networks", content=content, headers=headers)
            assert answer.status_code == 413
            assert answer.json()["type"] == "urn:leti:problem:too-large"
        assert http.get("/v1/health").status_code == 200


def test_who_stalls_is_sent_away(tmp_path):
    body_to_come = b"POST /v1/networks HTTP/1.1\r\nhost: [::1]\r\ncontent-length: 50\r\ncontent-type: a/json\r\n\r\n"
    with running(Settings(tmp_path, auth=False, receive_timeout_s=2.0)) as url, ExitStack() as opened:
        connections = [opened.enter_context(sending(url, begun)) for begun in (b"", b"GET / HT", body_to_come)]
        assert [connection.recv(4096)[:12] for connection in connections] == [b"", b"", b"HTTP/1.1 408"]


def test_a_head_that_never_ends_is_refused(settings):
    head = b"GET /v1/health HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * 65_536
    with running(settings) as url:
        with sending(url, head) as connection:
            assert connection.recv(4096)[:12] == b"HTTP/1.1 431"
        headers = {"x": "a" * 30_000}
        with httpx.Client(base_url=url, headers=headers, timeout=60) as http:  # each head of a connection counts anew
            assert [http.get("/v1/health").status_code for _ in range(4)] == [200] * 4


def sending(url, content):
    """Connect to a server, and send it what may be only the beginning of something."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=60)
    connection.sendall(content)
    return connection


def test_an_occupied_port_is_a_clear_error(settings):
    with running(settings) as url:
        port = int(url.rsplit(":", 1)[1])
        with pytest.raises(Unavailable, match="cannot listen"), running(settings, port=port):
            pass


def test_another_protocol_is_a_version_mismatch_for_the_client(settings, monkeypatch):
    monkeypatch.setattr("leti.client.exchange.PROTOCOL_VERSION", PROTOCOL_VERSION - 1)
    with running(settings) as url, LatencyClient(url) as client, pytest.raises(VersionMismatch):
        client.health()


def test_serve_starts_light_on_an_empty_folder_and_stops_on_a_signal(tmp_path):
    program = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from leti.service.server import serve\n"
        "from leti.service.settings import Settings\n"
        "def ready(url):\n"
        f"    heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "    print(json.dumps([url, heavy]), flush=True)\n"
        "serve(Settings(Path(sys.argv[1]), auth=False), on_ready=ready)\n"
    )
    command = [sys.executable, "-W", "error", "-c", program, str(tmp_path / "new home")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ}) as process:
        try:
            url, heavy = json.loads(process.stdout.readline())
            assert heavy == []
            with LatencyClient(url) as client:
                assert client.health().status == "ok"
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (0, -signal.SIGTERM)


def test_killing_an_agent_loses_nothing(tmp_path, house):
    """A lease whose owner fell silent runs out by the real clock, and its jobs are lent again."""
    lease_s = 0.5
    with running(Settings(tmp_path / "killed", auth=False, lease_s=lease_s)) as url, LatencyClient(url) as client:
        info = client.register_platform(house.platform)
        client.create_campaign(CampaignRequest("c", info.id, (Sample("nasbench201", 3),), repeats=1))
        at = time.time()
        lost = client.lease(LeaseRequest("killed", info.id))
        while (found := client.lease(LeaseRequest("next", info.id))) is None:
            time.sleep(0.1)
        assert time.time() >= at + lease_s, "lent again while the lease was in force"
        assert {job.id for job in found.jobs} == {job.id for job in lost.jobs}
        assert {job.attempt for job in found.jobs} == {2}
