"""Words: the verdict in a sentence, and how a report says latencies, shares and counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from leti.compression.measuring.meter import Reading
from leti.compression.results import Candidate, Compression, Verdict

UNKNOWN: Final = "–"
_MINUS: Final = "\N{MINUS SIGN}"


def latency(value: float | None) -> str:
    """Return a latency in ms with three digits and its unit."""
    return UNKNOWN if value is None else f"{digits(value)} ms"


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
    return UNKNOWN if value is None else f"{100 * value:.{places}f} %"


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
    return f"{digits(1 / reading.ratio)}× ({_interval(reading)})"


def kept(candidate: Candidate) -> str:
    """Return whether a network keeps its budget by measurement, and how much of it it uses."""
    taken_ms = measured_ms(candidate)
    if taken_ms is None:
        return "not measured"
    used = taken_ms / candidate.budget_ms
    return f"yes, uses {share(used)}" if used <= 1 else f"no, {share(used - 1)} over"


def difference(compression: Compression) -> float | None:
    """Return the accuracy that the best network has beyond the baseline's (a loss is negative), where it is known."""
    if compression.comparison is not None:
        return compression.comparison.difference
    best = compression.best
    if best is None or best.accuracy is None or compression.baseline.accuracy is None:
        return None
    return best.accuracy - compression.baseline.accuracy


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
        f"p = {made.p_value:.2g})"
    )


HEADLINES: Final[dict[Verdict, str]] = {
    "met": "The budget is met.",
    "met by precision": "The budget is met by precision alone.",
    "missed": "The budget is missed.",
    "too much is lost": "Too much accuracy is lost.",
    "infeasible": "The budget cannot be met.",
    "not measured": "Nothing was measured.",
}
"""What there is to say of each verdict before any figure."""


def verdict(compression: Compression) -> str:
    """Return whether the budget is met, and by how much it is not, in plain sentences."""
    return f"{HEADLINES[compression.verdict]} {_REASONS[compression.verdict](compression)}"


def _met(compression: Compression) -> str:
    best = _best(compression)
    taken = measured_ms(best)
    used = UNKNOWN if taken is None else share(taken / compression.budget_ms)
    return (
        f"The compressed network takes {latency(taken)} when measured, {used} of the "
        f"{latency(compression.budget_ms)} that it may take: {_faster(best)}.{_accuracy(compression)}"
    )


def _by_precision(compression: Compression) -> str:
    precision = _best(compression).patch.precision.replace("_", " ")
    return f"Stored in {precision}, with nothing taken away, it is fast enough. {_met(compression)}"


def _missed(compression: Compression) -> str:
    best = compression.best
    taken = measured_ms(best) if best else None
    if best is None or taken is None:
        return f"No network was found that takes {latency(compression.budget_ms)} or less when measured."
    return (
        f"The best network takes {latency(taken)} when measured, {share(taken / compression.budget_ms - 1)} more than "
        f"the {latency(compression.budget_ms)} that it may take: {_faster(best)}.{_accuracy(compression)}"
    )


def _lost(compression: Compression) -> str:
    lost = difference(compression)
    text = UNKNOWN if lost is None else f"{-100 * lost:.2f}"
    return (
        f"The network is fast enough ({latency(measured_ms(_best(compression)))} of "
        f"{latency(compression.budget_ms)}), but loses {text} percentage points, and may lose "
        f"{100 * compression.max_drop:.2f}."
    )


def _infeasible(compression: Compression) -> str:
    least_ms = compression.reachable_ms
    return (
        f"It may take {latency(compression.budget_ms)}, and no form of the network that was allowed is predicted to "
        f"take less than {latency(least_ms)}, {digits(baseline_ms(compression) / least_ms)}× as fast as before."
    )


def _unmeasured(compression: Compression) -> str:
    best = compression.best
    if best is None:
        return "No plan was found either."
    return (
        f"The best plan is predicted to take {latency(best.predicted_ms)} (at most {latency(best.high_ms)}) of the "
        f"{latency(compression.budget_ms)} that it may take; a device has not confirmed it.{_accuracy(compression)}"
    )


_REASONS: Final[dict[Verdict, Callable[[Compression], str]]] = {
    "met": _met,
    "met by precision": _by_precision,
    "missed": _missed,
    "too much is lost": _lost,
    "infeasible": _infeasible,
    "not measured": _unmeasured,
}


def _faster(candidate: Candidate) -> str:
    """Return how many times as fast as the baseline a network is, in a sentence."""
    reading = candidate.reading
    if reading is None:
        return "nothing is known of its speed"
    return f"{digits(1 / reading.ratio)}× as fast as before (90 % interval {_interval(reading)})"


def _interval(reading: Reading) -> str:
    return f"{digits(1 / reading.high_ratio)} … {digits(1 / reading.low_ratio)}"


def _accuracy(compression: Compression) -> str:
    change = difference(compression)
    if change is None:
        return " Its accuracy is unknown."
    return f" Its accuracy changes by {points(change)}; {100 * compression.max_drop:.2f} may be lost."


def _best(compression: Compression) -> Candidate:
    """Return the best network; a verdict that speaks of one has one."""
    return compression.best or compression.baseline
