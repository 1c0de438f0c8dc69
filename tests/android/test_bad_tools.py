"""What the agent answers where files do not arrive, the model or the tool fails, or the output is odd."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import measuring
import pytest
from adb_server import AdbServer, every_adb
from phone import Phone

from leti.core.errors import DeviceFault, MeasurementFailed
from leti.device_agents.android.bench import AndroidBench
from leti.device_agents.android.process import Ran
from leti.device_agents.android.tool import Loops, Tool
from leti.device_agents.bench import KeepGoing

Benches = Callable[..., AndroidBench]


# Files


def test_without_a_binary_it_is_said(benches: Benches, android_device: Phone, tmp_path: Path) -> None:
    with pytest.raises(DeviceFault) as raised:
        benches(android_device, binary=tmp_path / "nothing")
    assert measuring.fault_of(raised) == ("tool-missing", "no-tool")


ELF_OF_ANOTHER_PROCESSOR = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00\x01\x00\x00\x00" + bytes(200)


@pytest.mark.parametrize(
    "content",
    [ELF_OF_ANOTHER_PROCESSOR, b"\x00\xffjunk\n" * 40, b"#!/no/such/interpreter\n", b""],
    ids=["another ABI", "junk", "no interpreter", "empty"],
)
def test_a_binary_that_cannot_run_is_said_once(
    benches: Benches, android_device: Phone, models: dict[str, bytes], tmp_path: Path, content: bytes
) -> None:
    binary = tmp_path / "benchmark_model"
    binary.write_bytes(content)
    with pytest.raises(DeviceFault) as raised:
        measuring.outcomes(benches(android_device, binary=binary), models["small"], reference=models["small"])
    assert measuring.fault_of(raised) == ("tool-missing", "no-tool")
    assert len(android_device.requests("sync")) <= 4, "it is tried again and again"
    measuring.untouched(android_device)


def test_a_binary_that_is_taken_away_meanwhile_is_said(
    benches: Benches, android_device: Phone, models: dict[str, bytes]
) -> None:
    def clean(reason: str) -> None:
        for path in (android_device.root / "data/local/tmp").glob("*/benchmark_model"):
            path.unlink()
        android_device.temperature(status=0)

    bench = benches(android_device)
    android_device.temperature(status=1)
    with pytest.raises(DeviceFault) as raised:
        measuring.outcomes(bench, models["small"], reference=models["small"], waiting=clean)
    assert measuring.fault_of(raised) == ("tool-missing", "no-tool")
    measuring.untouched(android_device)


def test_too_little_room_is_found_before_anything_is_sent(
    benches: Benches, phones: Callable[..., Phone], models: dict[str, bytes]
) -> None:
    phone = phones(storage_bytes=1 << 19)
    with pytest.raises(DeviceFault) as raised:
        measuring.outcomes(benches(phone), models["large"], reference=models["small"])
    assert measuring.fault_of(raised) == ("no-space", "no-space")
    assert phone.requests("sync") == []


@every_adb
def test_room_that_runs_out_while_sending_is_said_and_given_back(
    benches: Benches, phones: Callable[..., Phone], models: dict[str, bytes], adb_server: AdbServer
) -> None:
    phone = phones(storage_bytes=1 << 19)
    df = phone.root / "system" / "bin" / "df"
    df.unlink()
    df.write_text(
        "#!/system/bin/sh\necho Filesystem 1K-blocks Used Available Use% Mounted on\necho x 9 0 9999999 0% /data\n"
    )
    df.chmod(0o755)
    with pytest.raises(DeviceFault) as raised:
        measuring.outcomes(benches(phone), models["large"], reference=models["small"])
    assert measuring.fault_of(raised) == ("no-space", "no-space")
    assert adb_server("-s", phone.serial, "shell", "ls -A /data/local/tmp").stdout == ""


def test_a_push_that_was_cut_is_made_once_more(
    benches: Benches, android_device: Phone, models: dict[str, bytes]
) -> None:
    android_device.fault("push", after_bytes=200_000)
    (outcome,) = measuring.outcomes(benches(android_device), models["large"], reference=models["small"])
    measuring.finding(outcome)
    assert len(android_device.requests("fault")) == 1
    measuring.untouched(android_device)


@pytest.mark.parametrize("times", [1, 2])
def test_a_file_that_arrived_damaged_is_sent_once_more(
    benches: Benches, android_device: Phone, models: dict[str, bytes], times: int
) -> None:
    android_device.fault("push", then="damage", after_bytes=200_000, times=times)
    bench = benches(android_device)
    if times == 1:
        (outcome,) = measuring.outcomes(bench, models["large"], reference=models["small"])
        measuring.finding(outcome)
    else:
        with pytest.raises(DeviceFault) as raised:
            measuring.outcomes(bench, models["large"], reference=models["small"])
        assert measuring.fault_of(raised) == ("link-lost", "checksum")
    assert len(android_device.requests("fault")) == times
    measuring.untouched(android_device)


# Models, delegates, crashes: each in a batch with others that it must leave alone


def test_each_failure_of_a_model_is_its_own(
    benches: Benches, android_device: Phone, models: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    small, usual = models["small"], Tool.run

    def run(tool: Tool, command: tuple[str, ...], keep_going: KeepGoing) -> tuple[Ran, float]:
        hangs = any(word.endswith(f"/{list(cases).index('timeout')}.tflite") for word in command)
        monkeypatch.setattr(Loops, "limit_s", 2.0 if hangs else 60.0)
        return usual(tool, command, keep_going)

    monkeypatch.setattr(Tool, "run", run)
    switches = {
        "crashed": {"end": "segv", "at": "runs"},
        "crashed too": {"end": "abrt"},
        "out-of-memory": {"end": "kill", "at": "warm-up"},
        "timeout": {"end": "hang", "at": "runs"},
        "other": {"end": "exit", "at": "runs"},
    }
    cases = {name: measuring.variant(small, i + 1) for i, name in enumerate(switches)}
    for name, model in cases.items():
        android_device.tool(model, **switches[name])
    cases |= {"bad-model": models["large"][:1000], "bad-model too": b"no model"}
    *failed, good = measuring.outcomes(benches(android_device), *cases.values(), small, reference=small)
    kinds = {name: measuring.failure(outcome) for name, outcome in zip(cases, failed, strict=True)}
    assert kinds == {name: name.removesuffix(" too") for name in cases}
    measuring.finding(good)
    assert "signal 11" in str(failed[0])
    assert "signal 6" in str(failed[1])
    measuring.untouched(android_device)


def test_what_the_gpu_does_not_run_is_no_latency_of_the_gpu(
    benches: Benches, android_device: Phone, models: dict[str, bytes]
) -> None:
    small = models["small"]
    android_device.tool(gpu="full")
    # The newest tool refuses what is only partly on the GPU; an older one does not know the flag, and says it.
    forgotten = ["require_full_delegation"]
    cases = {
        "unsupported": {"gpu": "failed"},
        "partial-delegation": {"gpu": "partial"},
        "partial-delegation too": {"gpu": "partial", "forgotten": forgotten},
        "unsupported too": {"gpu": "none", "forgotten": forgotten},
    }
    made = {name: measuring.variant(small, i + 1) for i, name in enumerate(cases)}
    for name, model in made.items():
        android_device.tool(model, **cases[name])
    bench = benches(android_device, delegate="gpu")
    *failed, good = measuring.outcomes(bench, *made.values(), small, reference=small)
    kinds = {name: measuring.failure(outcome) for name, outcome in zip(cases, failed, strict=True)}
    assert kinds == {name: name.removesuffix(" too") for name in cases}
    assert "completely executed" in measuring.facts(good)["delegate_line"]
    assert (bench.platform.delegate, bench.platform.precision) == ("gpu", "fp16")


def test_a_reference_that_cannot_be_measured_ends_the_batch(
    benches: Benches, android_device: Phone, models: dict[str, bytes]
) -> None:
    android_device.tool(models["large"], end="segv")
    with pytest.raises(MeasurementFailed) as raised:
        measuring.outcomes(benches(android_device), models["small"], reference=models["large"])
    assert measuring.failure(raised.value) == "crashed"
    measuring.untouched(android_device)


# Outputs


def test_odd_outputs_are_understood_or_kept(benches: Benches, android_device: Phone, models: dict[str, bytes]) -> None:
    small = models["small"]
    understood = {
        "older": {"generation": "2020", "forgotten": ["warmup_min_secs"]},
        "all the same": {"same": True, "generation": "2018"},
        "scientific": {"scale": 100_000},
        "NUL and CR LF": {"nul": True, "ending": "\r\n"},
    }
    refused = {"cut": {"end": "cut", "at": "runs"}, "cut at the start": {"end": "cut"}}
    cases = {name: measuring.variant(small, i + 1) for i, name in enumerate((*understood, *refused))}
    for name, model in cases.items():
        android_device.tool(model, **{**understood, **refused}[name])
    found = dict(zip(cases, measuring.outcomes(benches(android_device), *cases.values(), reference=small), strict=True))
    processes = {name: measuring.finding(found[name]).processes[0] for name in understood}
    assert processes["older"].median_ms is None
    assert measuring.facts(found["older"])["unconsumed"] == "--warmup_min_secs=0.02"
    assert processes["all the same"].median_ms is None
    assert processes["all the same"].min_ms == processes["all the same"].max_ms
    assert processes["all the same"].std_ms == 0
    assert processes["NUL and CR LF"].median_ms is not None
    assert 1000 < processes["scientific"].mean_ms / processes["NUL and CR LF"].mean_ms < 10_000_000
    for name in refused:
        assert measuring.failure(found[name]) == "other"
        outcome = found[name]
        assert isinstance(outcome, MeasurementFailed)
        assert "STARTING!" in str(outcome.details["raw"])


def test_the_tool_of_the_next_generation_is_understood(
    benches: Benches, android_device: Phone, models: dict[str, bytes]
) -> None:
    android_device.tool(generation="compiled")
    (outcome,) = measuring.outcomes(benches(android_device), models["small"], reference=models["small"])
    found = measuring.finding(outcome)
    assert measuring.facts(found)["tool"] == "compiled-model"
    assert found.processes[0].median_ms is not None
    assert found.init_ms is not None
    assert found.init_ms > 0
    with pytest.raises(DeviceFault) as raised:
        measuring.outcomes(benches(android_device, delegate="nnapi"), models["small"], reference=models["small"])
    assert measuring.fault_of(raised) == ("tool-missing", "no-tool")
