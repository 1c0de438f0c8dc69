"""Probes, and the end of a process: /healthz, /readyz, and what SIGTERM does with requests in flight."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from leti.core.errors import VersionMismatch
from leti.service import readiness
from leti.service.database import Database
from leti.service.settings import Settings
from leti.service.store import Store

DATABASES = ("sqlite", "postgresql")


@pytest.fixture(autouse=True)
def always_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "FRESH_S", -1.0)
    monkeypatch.setattr(readiness, "WRITTEN_FRESH_S", -1.0)


def test_a_service_is_ready_while_its_schema_fits(house: Any, problem_of: Any) -> None:
    assert house.client.get("/healthz").text == "ok\n"
    assert house.client.get("/readyz").text == "ready\n"
    with house.store._database.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0004'")
    said = problem_of(house.client.get("/readyz"), 503, "unavailable")
    assert "the schema is 0004, this release needs 00" in said["detail"]
    assert house.client.get("/healthz").status_code == 200
    with pytest.raises(VersionMismatch, match="leti migrate"):
        house.store._database.check_schema()


@pytest.mark.sqlite
def test_it_says_what_is_missing_and_nothing_secret(house: Any, problem_of: Any, monkeypatch: Any) -> None:
    house.store._database._engine.dispose()
    monkeypatch.setattr(
        house.store, "_database", Database("postgresql://leti:horse@127.0.0.1:1/secret?connect_timeout=2")
    )
    monkeypatch.setattr(house.app.state.parts.readiness._artifacts, "_parts", Path("/proc/nowhere"))
    said = problem_of(house.client.get("/readyz"), 503, "unavailable")
    assert said["detail"] == "the database cannot be reached; artifacts cannot be written"
    assert "leti doctor" in said["remedy"]


@pytest.mark.sqlite
def test_it_is_not_ready_once_it_is_told_to_stop(house: Any, problem_of: Any) -> None:
    house.app.state.parts.readiness.stopping.set()
    assert problem_of(house.client.get("/readyz"), 503)["detail"] == "the service is stopping"


@pytest.mark.sqlite
def test_nobody_waits_on_once_it_is_told_to_stop(house: Any) -> None:
    binary = {"content-type": "application/octet-stream"}
    sent = house.client.post("/v1/uploads", params={"format": "tflite"}, content=b"TFL3", headers=binary).json()
    house.app.state.parts.readiness.stopping.set()
    started_s = time.monotonic()
    assert house.get(f"/uploads/{sent['id']}", wait_s=30).json()["state"] == "received"
    assert house.get(f"/tasks/{sent['task_id']}", wait_s=30).json()["state"] == "queued"
    assert time.monotonic() - started_s < 25


@pytest.mark.sqlite
@pytest.mark.skipif(sys.platform == "win32", reason="permissions are POSIX's")
def test_a_home_that_is_made_is_its_users_own(tmp_path: Path) -> None:
    Store.open(Settings(tmp_path / "home")).close()
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700


@pytest.mark.sqlite
def test_a_service_that_may_not_migrate_refuses_an_older_schema(tmp_path: Path) -> None:
    settings = Settings(tmp_path, migrate_on_start=False)
    with pytest.raises(VersionMismatch, match=r"schema is missing, this release needs .*leti migrate"):
        Store.open(settings)
    Store.open(Settings(tmp_path)).close()
    Store.open(settings).close()


PROGRAM = """
import sys
from pathlib import Path
from leti.service.routes import health
from leti.service.server import serve
from leti.service.settings import Settings

@health.router.get("/slow", response_model=None)
def slow() -> str:
    print("slow has begun", flush=True)
    sys.stdin.readline()
    return "whole"

settings = Settings(Path(sys.argv[1]), auth=False, drain_s=float(sys.argv[2]), stop_s=120, log_level="debug")
serve(settings, on_ready=lambda url: print(url, flush=True))
"""


@pytest.fixture
def served(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A service in a process of its own, with a route that answers once a line is written to its standard input."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "home"), str(getattr(request, "param", 0.0))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
    ) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.mark.sqlite
@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize("served", [3600.0], indirect=True)
def test_sigterm_turns_readiness_then_ends_what_is_in_flight(served: tuple[subprocess.Popen[str], str]) -> None:
    process, url = served
    assert process.stdout is not None
    answers: list[httpx.Response] = []
    with httpx.Client(base_url=url, timeout=60) as http:
        assert http.get("/readyz").status_code == 200
        slow = threading.Thread(target=lambda: answers.append(httpx.get(f"{url}/v1/slow", timeout=60)))
        slow.start()
        assert process.stdout.readline() == "slow has begun\n"
        process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 120
        while (ready := http.get("/readyz")).status_code == 200:
            assert time.monotonic() < deadline
        assert ready.json()["detail"] == "the service is stopping"
        assert http.get("/v1/platforms").status_code == 200  # it drains: whoever still comes is answered
        process.send_signal(signal.SIGTERM)  # enough of it
        while True:
            try:
                http.get("/healthz")
            except httpx.TransportError:
                break
            assert time.monotonic() < deadline
            time.sleep(0.01)  # each is a line of the log, which nobody reads yet
    assert not answers
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    slow.join()
    assert (answers[0].status_code, answers[0].json()) == (200, "whole")
    _, logged = process.communicate(timeout=120)
    assert process.returncode == 0
    lines = [json.loads(line) for line in logged.splitlines()]
    assert [line["event"] for line in lines if line["logger"] == "leti.service.server"] == ["started", "stopped"]
    assert "/v1/slow" in [line.get("route") for line in lines]
    assert not [line for line in lines if line["level"] in ("warning", "error")]


@pytest.mark.sqlite
@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_an_agent_that_waits_for_jobs_is_told_that_there_are_none(
    served: tuple[subprocess.Popen[str], str], house: Any
) -> None:
    from leti.client import LatencyClient
    from leti.core.codec import to_json
    from leti.core.farm import LeaseRequest

    process, url = served
    with LatencyClient(url) as client:
        platform = client.register_platform(house.platform)
    answers: list[httpx.Response] = []
    body = to_json(LeaseRequest("waits", platform.id, 1))
    waits = threading.Thread(
        target=lambda: answers.append(httpx.post(f"{url}/v1/leases?wait_s=50", json=body, timeout=60))
    )
    waits.start()
    in_flight = "leti_requests_in_flight 2.0"  # this one's own, and the wait
    deadline = time.monotonic() + 120
    while in_flight not in httpx.get(f"{url}/metrics", timeout=60).text:
        assert time.monotonic() < deadline
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    waits.join()
    assert process.wait(120) == 0
    assert answers[0].status_code == 204
    assert time.monotonic() - began < 40  # not the 50 s that it would have waited
