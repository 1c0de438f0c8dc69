"""Words: the verdict in a sentence, and how a report says latencies, shares and counts."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from leti.compression.results import Candidate, Compression, Verdict

UNKNOWN: Final = "–"
_SPACE: Final = "\N{NO-BREAK SPACE}"
_MINUS: Final = "\N{MINUS SIGN}"


def latency(value: float | None) -> str:
    """Return a latency in ms with three digits and its unit."""
    return UNKNOWN if value is None else f"{digits(value)}{_SPACE}ms"


def digits(value: float | None, count: int = 3) -> str:
    """Return a number with so many significant digits, never in powers of ten."""
    if value is None:
        return UNKNOWN
    text = f"{value:.{count}g}"
    text = f"{value:,.0f}" if abs(value) >= 10**count else f"{float(text):.7f}".rstrip("0") if "e" in text else text
    return text.removesuffix(".").replace("-", _MINUS)


def signed(value: float, places: int = 1) -> str:
    """Return a number with its sign, and zero without."""
    text = f"{value:+.{places}f}"
    return text[1:] if float(text) == 0 else text.replace("-", _MINUS)


def share(value: float | None, places: int = 1) -> str:
    """Return a share as percent."""
    return UNKNOWN if value is None else f"{100 * value:.{places}f}{_SPACE}%"


def points(value: float | None) -> str:
    """Return a difference of two shares in percentage points, with its sign."""
    return UNKNOWN if value is None else f"{signed(100 * value, 2)} points"


def whole(value: float | None) -> str:
    """Return a whole number with its thousands set apart."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def size(value: float | None) -> str:
    """Return bytes in the unit that suits."""
    if value is None:
        return UNKNOWN
    for unit in ("B", "KiB", "MiB"):
        if abs(value) < 1024:
            return f"{value:.3g} {unit}"
        value /= 1024
    return f"{value:.3g} GiB"


def duration(value: float) -> str:
    """Return a length of time."""
    return f"{value / 60:.1f} min" if value >= 120 else f"{value:.1f} s"


def measured_ms(candidate: Candidate) -> float | None:
    """Return the latency in ms that a network takes on the device, where it was measured."""
    return candidate.reading.latency_ms if candidate.reading else None


def baseline_ms(compression: Compression) -> float:
    """Return the latency in ms of the network that was given: measured, else predicted."""
    return measured_ms(compression.baseline) or compression.baseline.predicted_ms


def speedup(candidate: Candidate) -> str:
    """Return how many times as fast as the baseline a network is, by measurement, with the interval at 90 %."""
    reading = candidate.reading
    if reading is None:
        return UNKNOWN
    low, high = (digits(1 / ratio) for ratio in (reading.high_ratio, reading.low_ratio))
    return f"{digits(1 / reading.ratio)}× ({low} … {high})"


def kept(candidate: Candidate) -> str:
    """Return whether a network keeps its budget by measurement, and how much of it it uses."""
    taken_ms = measured_ms(candidate)
    if taken_ms is None:
        return "not measured"
    used = taken_ms / candidate.budget_ms
    return f"yes, uses {share(used)}" if used <= 1 else f"no, {share(used - 1)} over"


def accuracies(compression: Compression) -> str:
    """Return the accuracy before and after, and the interval of the difference on the same samples."""
    made = compression.comparison
    if made is None:
        before, best = compression.baseline.accuracy, compression.best
        after = best.accuracy if best else None
        if before is None and after is None:
            return "unknown: there was nothing to judge with"
        return f"{share(before, 2)} before, {share(after, 2)} after"
    low, high = (signed(100 * value, 2) for value in (made.low, made.high))
    return (
        f"{share(made.accuracy_a, 2)} before, {share(made.accuracy_b, 2)} after: {points(made.difference)} "
        f"({share(made.confidence, 0)} interval {low} … {high}, paired on {whole(made.samples)} samples, "
        f"{'p < 0.0001' if made.p_value < 1e-4 else f'p = {made.p_value:.2g}'})"
    )


HEADLINES: Final[Mapping[Verdict, str]] = MappingProxyType(
    {
        "met": "The budget is met.",
        "met by precision": "The budget is met by precision alone, with nothing taken away.",
        "missed": "The budget is missed.",
        "too much is lost": "The budget is met, but too much accuracy is lost.",
        "infeasible": "The budget cannot be met.",
        "not measured": "Not measured.",
    }
)
"""What there is to say of each verdict before any figure."""


def verdict(compression: Compression) -> str:
    """Return whether the budget is met, and by how much, in plain sentences."""
    return f"{HEADLINES[compression.verdict]} {compression.summary}".rstrip()


def reachable(compression: Compression) -> str:
    """Return the least latency that any plan reaches, and how many times as fast as the baseline that is."""
    times = digits(baseline_ms(compression) / compression.reachable_ms)
    return f"{latency(compression.reachable_ms)}, {times}× as fast as the network that was given"
