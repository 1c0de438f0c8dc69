"""Schemathesis asks everything that the API's document describes: no 5xx, nothing undocumented, nothing let through.

Bounded by examples for each operation, which are the same each time. ``LETI_SCHEMATHESIS_SECONDS=900`` asks on for so
long, with each role, and without authentication.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("schemathesis", reason="needs the extra dev")

from leti.cli.processes import LetiProcess
from leti.core.access import ROLES, TokenRequest
from leti.core.codec import to_json
from leti.core.queries import PredictionRequest
from leti.core.wire import NetworksRequest
from leti.generator.export.formats import export_model
from leti.generator.lowering import lower
from leti.generator.spaces import get_space
from leti.service.routes.examples.networks import CELL, SPEC
from leti.service.routes.examples.values import ARCHITECTURE, FINGERPRINT, PLATFORM

HERE = Path(__file__).parent
SECONDS = int(os.environ.get("LETI_SCHEMATHESIS_SECONDS", "0"))
EXAMPLES = 300 if SECONDS else 6
SEED = 20_260_131
NOBODY = "nobody"

UNREACHED = {
    "POST /v1/leases/{lease_id}/heartbeat": "asks for the number of a lease and its token together",
    "DELETE /v1/leases/{lease_id}": "asks for the number of a lease and its token together",
    "POST /v1/results": "asks for a measurement that belongs to a lease",
}
"""Operations that a generated request succeeds in by luck alone; their own tests go further."""


def prepared(house: Any) -> dict[str, Any]:
    """Fill a house with something of everything, as far as it goes under the numbers that the document's examples name.

    Returns what the run needs to know of it.
    """
    house.add_campaign("measured", count=60)  # the examples make one that is called first
    house.measure_all()
    house.train("lookup_table", "linear")
    assert house.post("/networks", NetworksRequest((ARCHITECTURE, SPEC))).status_code == 200
    assert house.post("/predictions", PredictionRequest((house.platform_id,), (ARCHITECTURE,))).status_code == 200
    (spec,) = get_space("nasbench201").sample(1, 3, house.small)
    sent = house.client.post(
        "/v1/uploads?format=tflite",
        content=export_model(lower(spec)),
        headers={"content-type": "application/octet-stream"},
    )
    assert sent.status_code == 201, sent.text
    house.run_tasks()
    house.add_campaign("second", 4, seed=9)
    assert house.lease(2, agent="build-box") is not None
    graph = to_json(house.store.networks.graphs([FINGERPRINT])[0])
    encodings = "nasbench201:3,1,2,4,3,1", "fbnet:" + ",".join("0" * 22)
    networks = [ARCHITECTURE, SPEC, CELL, FINGERPRINT, {"fingerprint": FINGERPRINT}, {"graph": graph}, *encodings]
    return {"platform_id": house.platform_id, "networks": networks}


@contextmanager
def served(home: Path, *options: str) -> Iterator[str]:
    """Serve a home by the command, in a process of its own; yield the address."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LETI_")}
    environment |= dict.fromkeys(("LETI_RATE_LIMIT", "LETI_AGENT_RATE_LIMIT", "LETI_FAILURE_LIMIT"), "")
    command = ["serve", "--home", str(home), "--port", "0", "--workers", "0", *options]
    with LetiProcess(command, log=home / "log", environment=environment) as process:
        while not process.first_line():
            process.check()
            time.sleep(0.05)
        yield process.first_line().split()[2]
        process.check()


def ask(url: str, known: dict[str, Any], folder: Path, *options: str) -> tuple[dict[str, Any], str]:
    """Run Schemathesis over the whole document; return its report and what it printed."""
    report = folder / "report.json"
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml")]
    command += ["run", f"{url}/openapi.json", "--checks", "all", "--max-examples", str(EXAMPLES), "--seed", str(SEED)]
    command += ["--report", "json", "--report-json-path", str(report), "--no-color", *options]
    if SECONDS:
        command += ["--max-time", str(SECONDS)]
    hooks = {"SCHEMATHESIS_HOOKS": str(HERE / "schemathesis_hooks.py"), "LETI_KNOWN": json.dumps(known)}
    done = subprocess.run(command, cwd=folder, env={**os.environ, **hooks}, capture_output=True, text=True, check=False)
    assert report.exists(), done.stdout + done.stderr
    found: dict[str, Any] = json.loads(report.read_text())
    return found, done.stdout + done.stderr


@pytest.mark.timeout(1800 + 2 * SECONDS)
@pytest.mark.parametrize("role", [*reversed(ROLES), NOBODY] if SECONDS else ["admin"])
def test_whatever_is_asked_is_answered_as_documented(
    role: Any, house_on: Callable[[Any], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    house = house_on(PLATFORM)
    known = prepared(house)
    options: tuple[str, ...] = ()
    if role == NOBODY:
        known["token_id"] = ""
    else:
        made = house.store.tokens.create(TokenRequest("the run", role))
        known["token_id"] = made.info.id
        options = ("--header", f"Authorization: Bearer {made.token}")
    house.close()
    with served(house.settings.home, *(("--no-auth",) if role == NOBODY else ())) as url:
        report, said = ask(url, known, tmp_path, *options)
    with capsys.disabled():
        print(
            f"\nSchemathesis {report['schemathesis_version']} as {role}, seed {report['seed']}: "
            f"{report['operations']['tested']} operations, {report['test_cases']['generated']} cases, "
            f"{report['test_cases']['unique_failures']} failures, {report['running_time']:.0f} s"
        )
    assert report["failures"] == [], said
    assert report["errors"] == [], said
    assert report["operations"]["tested"] == report["operations"]["total"] > 50, said
    if role in ("admin", NOBODY):
        reached = {
            name for name, phases in report["valid_rates"].items() if any(p["accepted"] for p in phases.values())
        }
        assert set(report["valid_rates"]) - reached <= set(UNREACHED), said
