"""The official tool in the sandbox, and a real phone: where they are at hand.

``LETI_BENCHMARK_MODEL`` is the path of an official ``linux_x86-64_benchmark_model``; ``ANDROID_SERIAL`` the serial of
a phone that adb knows, ``LETI_ANDROID_BENCHMARK_MODEL`` the path of a benchmark_model of its ABI.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import measuring
import pytest
from phone import Phone

from leti.device_agents.android.adb import Adb
from leti.device_agents.android.bench import AndroidBench
from leti.device_agents.android.tool import Loops
from leti.device_agents.timing import Protocol

PROTOCOL = Protocol(warmup_invokes=1, settle=0, pass_invokes=1, reference_invokes=1, passes=2, retries=0)


def path_in(variable: str) -> Path:
    """Return the path that an environment variable names; skip the test where it names none."""
    value = os.environ.get(variable, "")
    if not value:
        pytest.skip(f"{variable} names no benchmark_model")
    return Path(value)


@pytest.mark.parametrize("delegate", ["xnnpack", "none"])
def test_the_official_tool_is_understood(
    request: pytest.FixtureRequest, models: dict[str, bytes], delegate: str
) -> None:
    binary = path_in("LETI_BENCHMARK_MODEL")
    phone: Phone = request.getfixturevalue("android_device")
    benches: Callable[..., AndroidBench] = request.getfixturevalue("benches")
    bench = benches(phone, binary=binary, delegate=delegate, protocol=PROTOCOL, memory=True)
    damaged = models["large"][: len(models["large"]) // 2]
    large, bad = measuring.outcomes(bench, models["large"], damaged, reference=models["small"], profile=True)
    found = measuring.finding(large)
    assert found.passes[0].ratio > 1.5
    assert found.init_ms is not None
    assert len(found.operator_times) > 5
    assert {each.unit for each in found.operator_times} <= {"xnnpack", "builtin"}
    assert measuring.failure(bad) == "bad-model"
    measuring.untouched(phone)


def test_a_real_phone_is_measured(models: dict[str, bytes], tmp_path: Path) -> None:
    serial = os.environ.get("ANDROID_SERIAL", "")
    if not serial:
        pytest.skip("ANDROID_SERIAL names no phone")
    binary = path_in("LETI_ANDROID_BENCHMARK_MODEL")
    adb = Adb()
    loops = Loops(num_runs=20, min_secs=0.2, warmup_min_secs=0.1, max_secs=10)
    bench = AndroidBench(
        serial, binary, protocol=PROTOCOL, loops=loops, rest_s=0.5, adb=adb, lock_folder=tmp_path / "locks"
    )
    try:
        damaged = models["large"][: len(models["large"]) // 2]
        large, bad = measuring.outcomes(bench, models["large"], damaged, reference=models["small"], profile=True)
    finally:
        bench.close()
    assert measuring.finding(large).passes[0].ratio > 1
    assert measuring.failure(bad) == "bad-model"
    left = adb.link(serial).shell("ls /data/local/tmp").stdout
    assert "leti-" not in left
