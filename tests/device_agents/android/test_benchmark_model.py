"""The words of benchmark_model, old and new, whole and cut, and what they mean."""

from __future__ import annotations

import pytest

from leti.core.errors import DeviceFault, MeasurementFailed
from leti.device_agents.android.benchmark_model import check, check_delegation, parse
from leti.device_agents.android.process import Ran

LOOP = "Running benchmark for at least {} iterations and at least {} seconds but terminate if exceeding 150 seconds."
WARM = "count=15 first=49060 curr=33682 min=32825 max=49060 avg=34825.1 std=3930"
RUNS = "count=50 first=32891 curr=33978 min=32641 max=34005 avg=33209.4 std=450"
PERCENTILES = " p5=32700 median=33150 p95=33990"
SUMMARY = "Inference timings in us: Init: 855, First inference: 49060, Warmup (avg): 34825.1, Inference (avg): 33209.4"
DELTA = "Memory footprint delta from the start of the tool (MB): init=0 overall=12.8672"
COMPILED = """
========== BENCHMARK RESULTS ==========
Model initialization: 12.34 ms
Warmup (first):       9.10 ms
Warmup (avg):         8.00 ms (15 runs)
Inference (avg):      7.50 ms (50 runs)
Init footprint:       1.00 MB
Overall footprint:    3.50 MB
Peak memory:          20.25 MB
======================================
"""


def output(*, warm: str = WARM, runs: str = RUNS + PERCENTILES, prefix: str = "INFO: ", tail: str = "") -> str:
    lines = ["STARTING!", "Loaded model m.tflite", "Initialized session in 0.855ms.", LOOP.format(1, 0.5), warm, ""]
    lines += [LOOP.format(50, 1), runs, "", *(tail or f"{SUMMARY}\n{DELTA}").split("\n")]
    return "".join(f"{prefix}{line}\n" if line else "\n" for line in lines)


def test_todays_output_says_everything() -> None:
    report = parse(output())
    assert report.generation == "interpreter"
    assert report.runs.count == 50
    assert report.runs.first_ms == pytest.approx(32.891)
    assert report.runs.min_ms == pytest.approx(32.641)
    assert report.runs.max_ms == pytest.approx(34.005)
    assert report.runs.mean_ms == pytest.approx(33.2094)
    assert report.runs.std_ms == pytest.approx(0.45)
    assert (report.runs.p5_ms, report.runs.median_ms, report.runs.p95_ms) == (32.7, 33.15, 33.99)
    assert report.runs.typical_ms == 33.15
    assert report.warm_up.count == 15
    assert report.init_ms == pytest.approx(0.855)
    assert report.first_inference_ms == pytest.approx(49.06)
    assert report.memory_growth_bytes == round(12.8672 * 2**20)
    assert report.peak_memory_bytes is None
    assert report.unconsumed == ()


def test_output_of_2020_has_no_prefix_and_no_percentiles() -> None:
    old = f"{SUMMARY}\nPeak memory footprint (MB): init=0 overall=12.8672"
    report = parse(output(prefix="", runs=RUNS, tail=old))
    assert report.runs.median_ms is None
    assert report.runs.typical_ms == pytest.approx(33.2094)
    assert report.memory_growth_bytes == round(12.8672 * 2**20)


@pytest.mark.parametrize(
    "tail",
    [
        "Average inference timings in us: Warmup: 83235, Init: 38467, Inference: 79760.9",
        "Average inference timings in us: Warmup: 83235, Init: 38467, no stats: 66767.6",
    ],
)
def test_very_old_summaries_are_taken(tail: str) -> None:
    report = parse(output(prefix="", runs=RUNS, tail=tail))
    assert report.init_ms == pytest.approx(38.467)
    assert report.first_inference_ms == pytest.approx(49.06), "of the warm-up's statistics"
    assert report.memory_growth_bytes is None


def test_the_tool_of_compiled_models_has_another_summary() -> None:
    report = parse(output(tail=COMPILED, prefix=""))
    assert report.generation == "compiled-model"
    assert report.init_ms == pytest.approx(12.34)
    assert report.first_inference_ms == pytest.approx(9.1)
    assert report.memory_growth_bytes == round(3.5 * 2**20)
    assert report.peak_memory_bytes == round(20.25 * 2**20)


@pytest.mark.parametrize("runs", ["count=50 curr=1200(all same)", "count=1 curr=1200"])
@pytest.mark.parametrize("more", ["", " p5=1200 median=1200 p95=1200"])
def test_equal_runs_are_told_by_one_number(runs: str, more: str) -> None:
    summary = parse(output(runs=runs + more)).runs
    assert summary.count in (1, 50)
    assert {summary.first_ms, summary.min_ms, summary.mean_ms, summary.max_ms, summary.typical_ms} == {1.2}
    assert summary.std_ms == 0


def test_large_times_are_scientific() -> None:
    runs = "count=3 first=1234567 curr=1234999 min=1234567 max=1234999 avg=1.23478e+06 std=216"
    assert parse(output(runs=runs)).runs.mean_ms == pytest.approx(1234.78)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\r"),
        lambda text: text.replace(" ", " \0"),
        lambda text: "tee: write error\n" + text + "garbage \x1b[0m\n",
    ],
    ids=["crlf", "cr", "nul", "noise"],
)
def test_odd_bytes_change_nothing(spoil) -> None:  # type: ignore[no-untyped-def]
    assert parse(spoil(output())) == parse(output())


def test_a_profile_in_the_output_is_not_taken_for_results() -> None:
    profile = "Timings (microseconds): count=50 first=99 curr=99 min=99 max=99 avg=99 std=0\nMemory (bytes): count=0\n"
    assert parse(profile + output() + profile).runs.mean_ms == pytest.approx(33.2094)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "INFO: STARTING!\n",
        output()[: output().index("count=50") + 40],
        output()[: output().index("avg=33209") + 6],
        output()[: output().index("p5=")],
        output()[: output().index("INFO: Inference timings")],
        output(runs="count=0 "),
        output(runs="count=50 first=1 curr=1 min=1 max=2 std=0"),
        output(runs="count=50 first=1 curr=1 min=5 max=6 avg=900 std=0"),
        output(runs="count=50 first=1 curr=1 min=1 max=nan avg=nan std=0"),
        output(runs="count=50 first=0 curr=0 min=0 max=0 avg=0 std=0"),
        output(runs="something else"),
    ],
)
def test_what_is_cut_off_or_odd_keeps_its_raw_text(text: str) -> None:
    with pytest.raises(MeasurementFailed) as raised:
        parse(text)
    assert not isinstance(raised.value, DeviceFault)
    assert raised.value.details["failure"] == "other"
    assert raised.value.details["fault"] == "unreadable"
    assert str(raised.value.details["raw"]) == text[-4000:]


def test_every_cut_before_the_summary_is_noticed() -> None:
    whole = output()
    summary = whole.index("Inference timings in us") + len("Inference timings in us")
    for end in range(summary):
        with pytest.raises(MeasurementFailed):
            parse(whole[:end])


def test_unknown_flags_are_told() -> None:
    report = parse("WARN: Unconsumed cmdline flags: --use_xnnpack=true --foo=1\n" + output())
    assert report.unconsumed == ("--use_xnnpack=true", "--foo=1")
    with pytest.raises(MeasurementFailed) as raised:
        check_delegation(report, "xnnpack")
    assert raised.value.details["failure"] == "unsupported"
    assert check_delegation(report, "none") == ""


FULL = "Explicitly applied {} delegate, and the model graph will be completely executed by the delegate."
PARTIAL = FULL.replace("completely", "partially").replace("delegate.", "delegate w/ 3 delegate kernels.")
NONE = "Though {} delegate is explicitly applied, the model graph will not be executed by the delegate."
REPLACED = "INFO: Replacing {} out of 58 node(s) with delegate ({}) node, yielding 1 partitions for the whole graph."


@pytest.mark.parametrize(
    ("lines", "delegate", "expected"),
    [
        (FULL.format("GPU"), "gpu", ""),
        (FULL.format("NNAPI"), "nnapi", ""),
        (REPLACED.format(58, "TfLiteGpuDelegateV2"), "gpu", ""),
        (REPLACED.format(58, "LITERT_CL"), "gpu", ""),
        (REPLACED.format(50, "TfLiteGpuDelegateV2"), "gpu", "partial-delegation"),
        (PARTIAL.format("GPU"), "gpu", "partial-delegation"),
        (PARTIAL.format("NNAPI"), "nnapi", "partial-delegation"),
        (NONE.format("GPU"), "gpu", "unsupported"),
        (FULL.format("GPU") + "\n" + REPLACED.format(50, "TfLiteGpuDelegateV2"), "gpu", "partial-delegation"),
        ("", "gpu", "partial-delegation"),
        ("", "nnapi", "partial-delegation"),
        (FULL.format("XNNPACK"), "gpu", "partial-delegation"),
        (REPLACED.format(58, "TfLiteXNNPackDelegate"), "nnapi", "partial-delegation"),
        (PARTIAL.format("XNNPACK"), "xnnpack", ""),
        (NONE.format("XNNPACK"), "xnnpack", ""),
        ("", "xnnpack", ""),
        (FULL.format("XNNPACK"), "none", "unsupported"),
        (NONE.format("XNNPACK"), "none", ""),
        ("", "none", ""),
    ],
)
def test_only_what_runs_wholly_there_is_a_latency_of_gpu_or_nnapi(lines: str, delegate: str, expected: str) -> None:
    report = parse(f"{lines}\n{output()}")
    if not expected:
        line = check_delegation(report, delegate)
        assert line == "" or line in lines
        return
    with pytest.raises(MeasurementFailed) as raised:
        check_delegation(report, delegate)
    assert raised.value.details["failure"] == expected


def test_delegate_kernels_are_counted() -> None:
    found = parse(f"{PARTIAL.format('GPU')}\n{output()}").delegation("gpu")
    assert found is not None
    assert (found.extent, found.kernels) == ("partial", 3)


@pytest.mark.parametrize(
    ("rc", "text", "elapsed_s", "expected"),
    [
        (1, "ERROR: Failed to load model m.tflite\nERROR: Benchmarking failed.", 1, "bad-model"),
        (1, "ERROR: Failed to initialize model loader with path m", 1, "bad-model"),
        (1, "ERROR: Disallowed CPU fallback detected.", 1, "partial-delegation"),
        (1, "ERROR: Failed to apply GPU delegate.", 1, "unsupported"),
        (1, "Didn't find op for builtin opcode 'X' version '9'", 1, "unsupported"),
        (1, "ERROR: Failed to allocate tensors!", 1, "unsupported"),
        (134, "", 1, "crashed"),
        (139, "INFO: STARTING!", 1, "crashed"),
        (137, "", 1, "out-of-memory"),
        (137, "", 61, "timeout"),
        (124, "", 61, "timeout"),
        (1, "terminate called after throwing std::bad_alloc", 1, "out-of-memory"),
        (3, "who knows", 1, "other"),
    ],
)
def test_failures_are_told_apart(rc: int, text: str, elapsed_s: float, expected: str) -> None:
    with pytest.raises(MeasurementFailed) as raised:
        check(Ran(rc, "", text), elapsed_s, 60.0)
    assert not isinstance(raised.value, DeviceFault)
    assert raised.value.details["failure"] == expected
    if rc > 128 and expected in ("crashed", "out-of-memory"):
        assert raised.value.details["signal"] == rc - 128


@pytest.mark.parametrize(
    ("rc", "text"),
    [
        (127, "/system/bin/sh: ./benchmark_model: inaccessible or not found"),
        (126, "./benchmark_model: not executable: 64-bit ELF file"),
        (1, 'CANNOT LINK EXECUTABLE "./benchmark_model": library "libfoo.so" not found'),
        (1, "E: /system/bin/sh: ./benchmark_model: not executable: 64-bit ELF file"),
    ],
)
def test_a_binary_that_cannot_run_is_the_devices_fault(rc: int, text: str) -> None:
    with pytest.raises(DeviceFault) as raised:
        check(Ran(rc, "", text), 1.0, 60.0)
    assert raised.value.details["failure"] == "tool-missing"
    assert raised.value.details["fault"] == "no-tool"


def test_success_is_no_failure_whatever_was_logged() -> None:
    check(Ran(0, "Failed to apply XNNPACK delegate", ""), 1.0, 60.0)


@pytest.mark.parametrize(
    "text",
    [
        output(runs=RUNS.replace("count=50", f"count={'9' * 5000}")),
        output(runs=RUNS.replace("count=50", f"count={'9' * 400}")),
        output(runs="count=50 first=1 curr=1 min=0 max=1 avg=1e-300 std=0"),
        output(runs="count=50 first=1 curr=1 min=1 max=1e300 avg=1e299 std=0"),
        output(runs=f"count=50 first=1 curr=1 min=1 max={'9' * 5000} avg=1 std=0"),
    ],
    ids=["too long a number", "too many runs", "too short", "too slow", "too long a time"],
)
def test_numbers_that_cannot_be_are_no_result(text: str) -> None:
    with pytest.raises(MeasurementFailed) as raised:
        parse(text)
    assert raised.value.details["fault"] == "unreadable"


def test_other_numbers_that_cannot_be_are_not_told() -> None:
    tail = f"{SUMMARY.replace('855', '1e999')}\n{DELTA.replace('12.8672', '1e308')}"
    kernels = f"INFO: Replacing {'9' * 5000} out of {'9' * 5000} node(s) with delegate (TfLiteGpuDelegateV2) node"
    report = parse(f"{kernels}\n{output(tail=tail)}")
    assert report.init_ms == pytest.approx(0.855), "the tool says it twice"
    assert report.memory_growth_bytes is None
    assert report.delegations == ()


def test_runs_of_less_than_a_microsecond_have_a_mean_only() -> None:
    runs = "count=5000 first=3 curr=0 min=0 max=5 avg=0.12 std=0 p5=0 median=0 p95=1"
    summary = parse(output(runs=runs)).runs
    assert summary.median_ms == 0
    assert summary.typical_ms == pytest.approx(0.00012)
