"""The chaos benchmark in small: agents and service are killed, answers cut, results repeated; the books balance."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

for module, extra in (("fastapi", "service"), ("flatbuffers", "export")):
    pytest.importorskip(module, reason=f"the extra {extra!r} is not installed")

pytestmark = pytest.mark.timeout(900)  # on a busy machine; half a minute on a free one

CHAOS = Path(__file__).parents[2] / "benchmarks" / "chaos.py"


def test_every_job_ends_once_though_both_sides_are_killed() -> None:
    sizes = {"agents": 3, "networks": 20, "repeats": 2, "service-kills": 2, "lease-s": 2, "deadline-s": 600}
    options = [f"--{name}={value}" for name, value in sizes.items()]
    ran = subprocess.run([sys.executable, str(CHAOS), *options], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    books = json.loads(ran.stdout)
    assert books["faults"] == []
    assert sum(books["states"].values()) == 40
    assert books["service_killed"] == 2
    assert books["agents_killed"] > 0
    assert books["on_time"] == books["states"]["done"]
