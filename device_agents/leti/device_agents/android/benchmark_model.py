"""What ``benchmark_model`` prints: times, memory, delegation, failures; of both generations of the tool.

The tool of the interpreter ends in ``Inference timings in us: …``, that of the compiled model (of the same name) in
``BENCHMARK RESULTS``. Both run one loop twice, for warm-up and for the result, and print a line of statistics after
each: ``count=50 first=32891 curr=33978 min=32641 max=34005 avg=33209.4 std=450 p5=… median=… p95=…``, in microseconds.
Versions differ in a prefix (``INFO: ``), percentiles, and stream; texts are therefore sought anywhere in a line of both
streams joined. Words and numbers are those of ``tflite/tools/benchmark``, ``litert/tools/benchmark_litert_model`` and
``stats_calculator.h`` in LiteRT's sources.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from leti.core.errors import MeasurementFailed
from leti.core.farm import FailureKind
from leti.core.measurement import ProcessSummary
from leti.device_agents.android.faults import device_fault, model_failure
from leti.device_agents.android.process import Ran

Generation = Literal["interpreter", "compiled-model"]
Extent = Literal["full", "partial", "none"]

MOST_RAW: Final = 4000
"""Characters of an output that cannot be read that its error keeps: the last ones."""

MOST: Final = 1e12
"""Microseconds, or megabytes, beyond which nothing can be."""

LEAST_US: Final = 1e-3
"""The shortest time that a run can take on average."""

ROUNDING: Final = 1e-4
"""Averages are printed with six digits, the others as whole microseconds."""

_NUMBER: Final = r"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?"
_LOOP: Final = re.compile(r"Running benchmark for at least")
_STATISTICS: Final = re.compile(r"(?<!\): )\bcount=(\d{1,9})((?: \w+=[^\s]+(?: same\))?)*)[ \t]*\n")
_FIELD: Final = re.compile(rf"(\w+)=({_NUMBER})(\(all same\))?")
_SUMMARY: Final = re.compile(r"Inference timings in us|Average inference timings in us|BENCHMARK RESULTS|no stats: ")
_UNCONSUMED: Final = re.compile(r"Unconsumed cmdline flags:([^\n]*)")
_APPLIED: Final = re.compile(
    r"Explicitly applied (\S+) delegate, and the model graph will be (completely|partially) executed by the delegate"
    r"(?: w/ (\d{1,9}) delegate kernels)?"
)
_NOT_APPLIED: Final = re.compile(
    r"Though (\S+) delegate is explicitly applied, the model graph will not be executed by the delegate"
)
_REPLACED: Final = re.compile(r"Replacing (\d{1,9}) out of (\d{1,9}) node\(s\) with delegate \(([^)\n]*)\)[^\n]*")

_TIMES_US: Final[Mapping[str, tuple[tuple[str, float], ...]]] = MappingProxyType(
    {
        "init": (
            (rf"Inference timings in us: Init: ({_NUMBER})", 1.0),
            (rf"Average inference timings in us:[^\n]*\bInit: ({_NUMBER})", 1.0),
            (rf"Model initialization:\s*({_NUMBER}) ms", 1e3),
            (rf"Initialized session in ({_NUMBER})ms", 1e3),
        ),
        "first": (
            (rf"First inference: ({_NUMBER})", 1.0),
            (rf"Warmup \(first\):\s*({_NUMBER}) ms", 1e3),
        ),
    }
)
"""Where the times of initialisation and first inference stand, and what makes microseconds of them."""

_SIZES_MB: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "overall": (
            rf"emory footprint[^\n]*\(MB\):[^\n]*\boverall=({_NUMBER})",
            rf"Overall footprint:\s*({_NUMBER}) MB",
        ),
        "peak": (
            rf"Overall peak memory footprint \(MB\) via periodic monitoring: ({_NUMBER})",
            rf"Peak memory:\s*({_NUMBER}) MB",
        ),
    }
)
"""Where sizes of memory stand: how far resident memory grew since the tool began, and its peak in all."""

DELEGATE_NAMES: Final[Mapping[str, re.Pattern[str]]] = MappingProxyType(
    {
        "xnnpack": re.compile(r"xnnpack", re.IGNORECASE),
        "gpu": re.compile(r"gpu|LITERT_(?:CL|GL|OPENCL|WEBGPU)|\bCL\b|OpenCL|mldrift", re.IGNORECASE),
        "nnapi": re.compile(r"nnapi", re.IGNORECASE),
    }
)
"""How the tool and the runtime call each delegate."""


@dataclass(frozen=True, slots=True)
class Delegation:
    """What became of a delegate that was applied: its name there, how much it runs, in how many kernels, the line."""

    delegate: str
    extent: Extent
    kernels: int | None
    line: str


@dataclass(frozen=True, slots=True)
class Report:
    """What one process of the tool said. Times in ms, memory in bytes; ``None`` where it did not say.

    ``memory_growth_bytes`` is how far resident memory grew since the tool began; ``peak_memory_bytes`` its peak, which
    the tool watches when it is asked to. ``unconsumed`` are flags that the binary does not know and has ignored.
    """

    generation: Generation
    warm_up: ProcessSummary
    runs: ProcessSummary
    init_ms: float | None
    first_inference_ms: float | None
    memory_growth_bytes: int | None
    peak_memory_bytes: int | None
    delegations: tuple[Delegation, ...]
    unconsumed: tuple[str, ...]

    def delegation(self, delegate: str) -> Delegation | None:
        """Return what is said of ``delegate``, the least of it where that differs; ``None`` where nothing is said."""
        named = [each for each in self.delegations if DELEGATE_NAMES[delegate].search(each.delegate)]
        order: dict[Extent, int] = {"none": 0, "partial": 1, "full": 2}
        return min(named, key=lambda each: order[each.extent], default=None)


def parse(text: str) -> Report:
    """Return what ``text``, both streams of one process joined, says.

    Raises :class:`~leti.core.errors.MeasurementFailed` whose ``details["raw"]`` keeps the end of the text, where it
    is cut off, or does not hold two lines of statistics that fit together.
    """
    text = cleaned(text)
    warm_up, runs = _statistics(text)
    if not _SUMMARY.search(text):
        raise unreadable(text, "its summary is missing")
    init_us = _first_number(text, _TIMES_US["init"])
    first_us = _first_number(text, _TIMES_US["first"])
    growth_mb = _first_number(text, tuple((pattern, 1.0) for pattern in _SIZES_MB["overall"]))
    peak_mb = _first_number(text, tuple((pattern, 1.0) for pattern in _SIZES_MB["peak"]))
    return Report(
        generation="compiled-model" if "BENCHMARK RESULTS" in text else "interpreter",
        warm_up=warm_up,
        runs=runs,
        init_ms=None if init_us is None else init_us / 1e3,
        first_inference_ms=warm_up.first_ms if first_us is None else first_us / 1e3,
        memory_growth_bytes=_size(growth_mb),
        peak_memory_bytes=_size(peak_mb),
        delegations=tuple(_delegations(text)),
        unconsumed=tuple(word for line in _UNCONSUMED.findall(text) for word in line.split()),
    )


def cleaned(text: str) -> str:
    """Return ``text`` without NULs and carriage returns."""
    return text.replace("\0", "").replace("\r\n", "\n").replace("\r", "\n")


def unreadable(text: str, why: str) -> MeasurementFailed:
    """Return the error for an output that does not say what it should."""
    raw = cleaned(text)[-MOST_RAW:]
    return model_failure("other", f"the output of benchmark_model cannot be read: {why}", fault="unreadable", raw=raw)


def _statistics(text: str) -> tuple[ProcessSummary, ProcessSummary]:
    """Return the statistics of warm-up and result: those of the last two loops."""
    loops = [match.end() for match in _LOOP.finditer(text)]
    if loops:
        spans = zip(loops, [*loops[1:], len(text)], strict=True)
        lines = [_STATISTICS.search(text, start, end) for start, end in spans]
    else:
        lines = list(_STATISTICS.finditer(text))
    if len(lines) < 2 or lines[-1] is None or lines[-2] is None:
        raise unreadable(text, f"{sum(line is not None for line in lines)} whole lines of statistics instead of 2")
    return _summary(text, lines[-2]), _summary(text, lines[-1])


def _summary(text: str, line: re.Match[str]) -> ProcessSummary:
    """Return the statistics in one line, in ms."""
    count, fields = int(line[1]), list(_FIELD.finditer(line[2]))
    us = {field[1]: float(field[2]) for field in fields}
    if "curr" in us and not us.keys() & {"first", "avg"}:  # a single run, or all of them equal
        us = {"first": us["curr"], "min": us["curr"], "max": us["curr"], "avg": us["curr"], "std": 0.0, **us}
    missing = [name for name in ("first", "min", "max", "avg", "std") if name not in us]
    if count < 1 or missing:
        raise unreadable(text, "no runs" if count < 1 else f"no {', '.join(missing)} in {line[0].strip()[:200]!r}")
    within = us["min"] * (1 - ROUNDING) - 1 <= us["avg"] <= us["max"] * (1 + ROUNDING) + 1
    if not all(0 <= value < MOST for value in us.values()) or us["avg"] < LEAST_US or not within:
        raise unreadable(text, f"times that cannot be: {line[0].strip()[:200]!r}")
    ms = {name: value / 1e3 for name, value in us.items()}
    return ProcessSummary(
        count=count,
        first_ms=ms["first"],
        min_ms=ms["min"],
        mean_ms=ms["avg"],
        max_ms=ms["max"],
        std_ms=ms["std"],
        p5_ms=ms.get("p5"),
        median_ms=ms.get("median"),
        p95_ms=ms.get("p95"),
    )


def _first_number(text: str, places: tuple[tuple[str, float], ...]) -> float | None:
    for pattern, factor in places:
        match = re.search(pattern, text)
        if match and 0 <= (value := float(match[1]) * factor) < MOST:
            return value
    return None


def _size(mb: float | None) -> int | None:
    return None if mb is None else round(mb * 2**20)


def _delegations(text: str) -> Iterator[Delegation]:
    for match in _APPLIED.finditer(text):
        extent: Extent = "full" if match[2] == "completely" else "partial"
        yield Delegation(match[1], extent, int(match[3]) if match[3] else None, match[0])
    for match in _NOT_APPLIED.finditer(text):
        yield Delegation(match[1], "none", None, match[0])
    for match in _REPLACED.finditer(text):
        replaced, nodes = int(match[1]), int(match[2])
        extent = "full" if replaced >= nodes else "partial" if replaced else "none"
        yield Delegation(match[3], extent, None, match[0])


# --- failures --------------------------------------------------------------------------------------------------------

_TEXTS: Final[tuple[tuple[str, FailureKind], ...]] = (
    (r"Disallowed CPU fallback detected", "partial-delegation"),
    (r"Failed to apply \S+ delegate", "unsupported"),
    (r"will not be executed by the delegate", "unsupported"),
    (
        r"Failed to load model|Failed to initialize model loader|Failed to mmap model|not a valid Flatbuffer",
        "bad-model",
    ),
    (r"Didn't find op for builtin opcode|unresolved custom op|Unsupported op", "unsupported"),
    (r"Failed to (?:construct|build|create) (?:an? )?interpreter|Failed to compile model", "unsupported"),
    (r"bad_alloc|[Oo]ut of memory|Cannot allocate memory", "out-of-memory"),
    (r"Failed to allocate tensors", "unsupported"),
)
"""What the tool says when it fails, and the failure's kind; the first that is found counts."""

_CANNOT_RUN: Final = re.compile(
    r"CANNOT LINK EXECUTABLE|not executable: |[Ee]xec format error|cannot execute binary file"
)


def check(ran: Ran, elapsed_s: float, limit_s: float) -> None:
    """Raise what a process of the tool failed with; ``limit_s`` is when the device kills it.

    Raises :class:`~leti.core.errors.DeviceFault` (fault ``no-tool``) where the binary itself cannot run, else
    :class:`~leti.core.errors.MeasurementFailed`.
    """
    if ran.rc == 0:
        return
    text = cleaned(ran.text)
    if ran.rc in (126, 127) or _CANNOT_RUN.search(text):
        raise device_fault("no-tool", _last_line(text), rc=ran.rc)
    if ran.rc == 124 or (ran.rc == 137 and elapsed_s >= limit_s):
        raise model_failure("timeout", f"still running after {limit_s:.0f} s", rc=ran.rc)
    for pattern, failure in _TEXTS:
        if found := re.search(rf"[^\n]*(?:{pattern})[^\n]*", text):
            raise model_failure(failure, found[0].strip()[:500], rc=ran.rc)
    if ran.rc == 137:
        raise model_failure("out-of-memory", "killed by the system (signal 9)", rc=ran.rc, signal=9)
    if ran.rc > 128:
        signal = ran.rc - 128
        raise model_failure("crashed", f"ended by signal {signal}: {_last_line(text)}", rc=ran.rc, signal=signal)
    raise model_failure(
        "other", f"ended with exit status {ran.rc}: {_last_line(text)}", rc=ran.rc, raw=text[-MOST_RAW:]
    )


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.split("\n")) if line.strip()), "it said nothing")[:300]


def check_delegation(report: Report, delegate: str) -> str:
    """Return the line that says that ``delegate`` was applied, the empty string for none.

    GPU and NNAPI must run the whole network: what runs partly on the CPU, or says nothing of the delegate, is no
    latency of it. XNNPACK leaves to the runtime's own kernels what it lacks, on phones as anywhere.
    Raises :class:`~leti.core.errors.MeasurementFailed` (``partial-delegation`` or ``unsupported``).
    """
    if delegate == "none":
        found = report.delegation("xnnpack")
        if found is not None and found.extent != "none":
            raise model_failure("unsupported", f"it was to run without a delegate: {found.line}", fault="no-delegate")
        return ""
    found = report.delegation(delegate)
    if delegate == "xnnpack":
        if found is None and any("use_xnnpack" in flag for flag in report.unconsumed):
            raise model_failure("unsupported", "this benchmark_model does not know --use_xnnpack", fault="no-delegate")
        return "" if found is None else found.line
    if found is None:
        silent = f"benchmark_model says nothing of the {delegate} delegate that it was asked for"
        raise model_failure("partial-delegation", silent, delegate=delegate)
    if found.extent != "full":
        failure: FailureKind = "partial-delegation" if found.extent == "partial" else "unsupported"
        raise model_failure(failure, found.line, delegate=delegate, kernels=found.kernels)
    return found.line
