"""A bench of a phone: three networks beside a reference, over real adb, run by LiteRT; and nothing left behind."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import measuring
import pytest
from adb_server import every_adb, until
from phone import Phone

from leti.core.errors import DeviceFault, InvalidInput
from leti.device_agents.android.adb import Adb
from leti.device_agents.android.bench import AndroidBench
from leti.device_agents.bench import Finding, Wanted
from leti.device_agents.timing import Protocol

Benches = Callable[..., AndroidBench]
TWO_PASSES = Protocol(warmup_invokes=1, settle=0, pass_invokes=1, reference_invokes=1, passes=2, retries=0)


def test_three_networks_are_measured_beside_a_reference(
    android_device: Phone, benches: Benches, models: dict[str, bytes], tool: Path
) -> None:
    phone, bench = android_device, benches(android_device, protocol=TWO_PASSES)
    large, small, other = measuring.outcomes(
        bench, models["large"], models["small"], models["other"], reference=models["small"]
    )
    for outcome, model in ((large, models["large"]), (small, models["small"]), (other, models["other"])):
        found = measuring.finding(outcome)
        assert found.grain == "process"
        assert len(found.passes) == 2
        assert len(found.processes) == 2
        for one, process in zip(found.passes, found.processes, strict=True):
            assert one.samples_ms == (process.typical_ms,)
            assert len(one.reference_ms) == 2
            assert process.count >= 5
            assert process.median_ms is not None
            assert 0 < process.min_ms <= process.median_ms <= process.max_ms
        recipe = found.recipe
        assert recipe.model_sha256 == hashlib.sha256(model).hexdigest()
        assert recipe.command[:2] == ("taskset", f"{sum(1 << core for core in bench.platform.affinity):x}")
        assert "--use_xnnpack=true" in recipe.command
        for conditions in (recipe.before, recipe.after):
            assert conditions.thermal_status == 0
            assert conditions.battery_c == pytest.approx(30.1)
            assert conditions.battery_percent == 87
            assert conditions.charging is True
            assert conditions.temperature_c == pytest.approx(38.2)
            assert conditions.frequency_cap_mhz == pytest.approx(2841.6)
        facts = measuring.facts(found)
        assert facts["binary_sha256"] == hashlib.sha256(tool.read_bytes()).hexdigest()
        assert facts["fingerprint"] == phone.properties["ro.build.fingerprint"]
        assert facts["redone"] == ""
        assert found.init_ms is not None
        assert found.init_ms > 0
        assert found.first_inference_ms is not None
        assert found.peak_memory_bytes is not None
        assert found.peak_memory_bytes > 1 << 20
    assert max(one.ratio for one in measuring.finding(large).passes) > 2, "ten times the work, and no slower?"
    effort = bench.effort()
    assert effort["candidates"] > 0
    assert effort["reference"] > 0
    assert sum(effort.values()) > 1
    measuring.untouched(phone)


def test_the_platform_says_all_that_a_latency_depends_on(android_device: Phone, benches: Benches, tool: Path) -> None:
    bench = benches(android_device, model_precision="int8")
    platform = bench.platform
    assert platform.device.kind == "android"
    assert platform.device.soc == "FS8000"
    assert "FAKE0001" in platform.device.name
    assert platform.delegate == "xnnpack"
    assert platform.threads == 1
    assert platform.affinity
    assert platform.model_precision == "int8"
    assert hashlib.sha256(tool.read_bytes()).hexdigest().startswith(platform.runtime_version)
    with pytest.raises(InvalidInput) as raised:
        benches(android_device, cluster="huge")
    assert raised.value.field == "cluster"
    assert "big" in raised.value.remedy


@every_adb
def test_what_is_not_pinned_is_measured_too(
    android_device: Phone, benches: Benches, models: dict[str, bytes], adb: Adb
) -> None:
    bench = benches(android_device, cluster="any")
    (found,) = measuring.outcomes(bench, models["large"], reference=models["small"])
    assert bench.platform.affinity == ()
    assert measuring.finding(found).recipe.command[0] == "./benchmark_model"
    assert measuring.facts(found)["adb"] == adb.version()
    measuring.untouched(android_device)


def test_operators_and_memory_are_told_by_processes_of_their_own(
    android_device: Phone, benches: Benches, models: dict[str, bytes]
) -> None:
    # An older tool writes its tables otherwise, and knows the older flags alone.
    newer = ["op_profiling_output_mode", "op_profiling_output_file"]
    android_device.tool(models["small"], generation="2020", forgotten=newer)
    bench = benches(android_device, memory=True)
    outcome, older = measuring.outcomes(
        bench, models["large"], models["small"], reference=models["other"], profile=True
    )
    found = measuring.finding(outcome)
    assert "Fully Connected (NC, F32) GEMM" in [each.name for each in measuring.finding(older).operator_times]
    assert "enable_op_profiling" not in " ".join(found.recipe.command)
    names = [operator.name for operator in found.operator_times]
    assert len(names) > 5
    assert "Convolution (NHWC, F32) IGEMM" in names, names
    assert {operator.unit for operator in found.operator_times} == {"xnnpack"}
    convolutions_us = sum(
        operator.times_us[0] for operator in found.operator_times if operator.name.startswith("Convolution")
    )
    whole_us = sum(operator.times_us[0] for operator in found.operator_times)
    assert convolutions_us > whole_us / 2
    # One wild run among the tool's few moves its averages: the order of magnitude is what must hold.
    assert 0.1 < whole_us / 1e3 / found.passes[0].samples_ms[0] < 20
    assert int(measuring.facts(found)["peak_memory_bytes"]) > found.peak_memory_bytes > 0  # type: ignore[operator]
    measuring.untouched(android_device)


def test_without_a_delegate_operators_are_the_runtimes_own(
    android_device: Phone, benches: Benches, models: dict[str, bytes]
) -> None:
    bench = benches(android_device, delegate="none")
    (outcome,) = measuring.outcomes(bench, models["small"], reference=models["small"], profile=True)
    found = measuring.finding(outcome)
    assert bench.platform.delegate == "none"
    assert {operator.unit for operator in found.operator_times} == {"builtin"}
    assert any("CONV" in operator.name.upper() for operator in found.operator_times)


def test_stopping_ends_what_runs_and_leaves_nothing(
    android_device: Phone, benches: Benches, models: dict[str, bytes]
) -> None:
    phone, bench = android_device, benches(android_device)
    phone.tool(end="hang", at="runs")
    stop = threading.Event()
    result: list[object] = ["nothing yet"]

    def measure() -> None:
        wanted = [Wanted(models["large"])]
        result[0] = bench.measure(
            wanted, models["small"], keep_going=lambda: not stop.is_set(), waiting=lambda reason: None
        )

    measuring_thread = threading.Thread(target=measure)
    measuring_thread.start()
    until(lambda: any("benchmark_model" in line for line in phone.processes()), "nothing runs")
    stop.set()
    measuring_thread.join(30)
    assert result == [None]
    until(lambda: phone.processes() == [], "it runs on")
    measuring.untouched(phone)


def test_a_batch_says_at_what_it_waits_and_sets_back_what_kept_the_phone_awake(
    android_device: Phone, benches: Benches, models: dict[str, bytes]
) -> None:
    android_device.write("settings/global/stay_on_while_plugged_in", 3)
    android_device.temperature(status=2)
    said: list[str] = []

    def waiting(reason: str) -> None:
        said.append(reason)
        android_device.temperature(status=0)

    measuring.outcomes(benches(android_device), models["small"], reference=models["small"], waiting=waiting)
    assert "thermal status 2" in said[0]
    assert said[-1] == ""
    assert android_device.read("settings/global/stay_on_while_plugged_in") == "3"
    assert android_device.read("input") == "keyevent KEYCODE_WAKEUP"


def test_several_phones_measure_at_the_same_time(
    phones: Callable[..., Phone], benches: Benches, models: dict[str, bytes]
) -> None:
    made = [benches(phones()) for _ in range(2)]
    assert len({bench.platform.device.name for bench in made}) == 2
    found: dict[str, Finding] = {}

    def measure(bench: AndroidBench) -> None:
        (outcome,) = measuring.outcomes(bench, models["small"], reference=models["small"])
        found[bench.platform.device.name] = measuring.finding(outcome)

    threads = [threading.Thread(target=measure, args=(bench,)) for bench in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert found.keys() == {bench.platform.device.name for bench in made}


HOLD = """
import json, sys, time
from pathlib import Path
from leti.device_agents.android.lock import PhoneLock
lock = PhoneLock(sys.argv[1], Path(sys.argv[2]))
print("held", flush=True)
time.sleep(600)
"""


def test_a_phone_on_which_another_process_measures_is_locked_and_others_are_not(
    phones: Callable[..., Phone], benches: Benches, tmp_path: Path
) -> None:
    one, other = phones(), phones()
    command = [sys.executable, "-c", HOLD, one.serial_number, str(tmp_path / "locks")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(DeviceFault) as raised:
                benches(one)
            assert measuring.fault_of(raised) == ("device-gone", "locked")
            assert str(holder.pid) in str(raised.value)
            benches(other)
        finally:
            holder.kill()
    benches(one)


def test_what_a_phone_says_of_itself_is_only_data(phones: Callable[..., Phone], benches: Benches) -> None:
    evil = {"ro.product.model": "$(reboot) `id` '\"; rm -rf /data; \\n", "ro.soc.model": "x" * 5000}
    phone = phones(serial_number="../../evil $(x)", properties=evil)
    bench = benches(phone)
    assert bench.platform.device.name.startswith("$(reboot) `id`")
    assert len(bench.platform.device.name) <= 200
    assert (phone.root / "data" / "local").is_dir()


def test_gone_benches_free_their_phone(android_device: Phone, benches: Benches) -> None:
    bench = benches(android_device)
    bench.close()
    bench.close()
    benches(android_device)


def test_listing_and_choosing(adb: Adb, phones: Callable[..., Phone]) -> None:
    serials = {phones().serial, phones().serial}
    assert {device.serial for device in adb.devices()} == serials
    assert {device.state for device in adb.devices()} == {"device"}
    assert json.dumps([dict(device.facts) for device in adb.devices()]).count("Fake_Phone") == 2
