"""The tables of a report: rivals, front, layers, rounds, calibrations; each says in its caption what it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from leti.compression.reporting import words
from leti.compression.results import Candidate, Compression, Layer
from leti.compression.searching.calibrating import Errors

_PLANNERS: Final = {
    "latency": "by latency",
    "fastest": "the fastest",
    "macs": "by MACs",
    "uniform": "uniform",
    "nsga2": "NSGA-II",
    "tpe": "TPE",
}
"""What planners are called in a report; others by their own names."""


@final
@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells that are text already; the first of each names its row. ``numeric`` says which columns count."""

    caption: str
    columns: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]


def _table(caption: str, columns: Sequence[str], words_first: int, rows: Sequence[tuple[str, ...]]) -> Table:
    """Return a table whose first columns hold words, the others numbers; without columns that no row knows."""
    known = [i for i in range(len(columns)) if i < words_first or any(row[i] != words.UNKNOWN for row in rows)]
    cells = tuple(tuple(row[i] for i in known) for row in rows)
    return Table(caption, tuple(columns[i] for i in known), tuple(i >= words_first for i in known), cells)


def networks(compression: Compression) -> Table:
    """Return the baseline, the best network and its rivals side by side."""
    whole = compression.baseline.macs
    every = (compression.baseline, *([compression.best] if compression.best else []), *compression.rivals)
    rows = [
        (
            network_label(compression, one),
            words.UNKNOWN if one is compression.baseline else words.kept(one),
            words.digits(one.macs / 1e6),
            f"{words.digits(whole / one.macs)}×" if one.macs else words.UNKNOWN,
            f"{words.digits(one.predicted_ms)} (≤ {words.digits(one.high_ms)})",
            words.digits(words.measured_ms(one)),
            "1×" if one is compression.baseline and one.reading else words.speedup(one),
            words.share(one.accuracy, 2),
            words.whole(one.params),
            words.size(one.size_bytes),
            words.whole(one.epochs),
        )
        for one in every
    ]
    heads = (
        "network", "budget kept", "MMACs", "MACs cut", "predicted, ms (upper bound)", "measured, ms",
        "speed-up (90 % interval)", "accuracy", "parameters", "file", "epochs",
    )  # fmt: skip
    return _table("The network that was given, the best one, and what other planners made of it", heads, 2, rows)


def network_label(compression: Compression, candidate: Candidate) -> str:
    """Return what a table and a plot call a network: who planned it, and what it is to the compression."""
    if candidate is compression.baseline:
        return "as given"
    name = _PLANNERS.get(candidate.planner, candidate.planner)
    return f"{name} (best)" if candidate is compression.best else name


def front(compression: Compression) -> Table:
    """Return the plans of several budgets, fastest first."""
    rows = [
        (
            words.digits(one.budget_ms),
            words.digits(one.predicted_ms),
            words.digits(one.high_ms),
            words.digits(words.measured_ms(one)),
            f"{words.digits(words.baseline_ms(compression) / one.predicted_ms)}×",
            words.digits(one.sensitivity),
            words.digits(one.macs / 1e6),
            words.share(one.accuracy, 2),
        )
        for one in compression.front
    ]
    heads = (
        "budget, ms", "predicted, ms", "upper bound, ms", "measured, ms", "predicted speed-up", "rise of the loss",
        "MMACs", "accuracy",
    )  # fmt: skip
    return _table("The front: the least harm at each latency", heads, 1, rows)


def budgets(found: Mapping[str, Compression]) -> Table:
    """Return several compressions side by side: of each the verdict, and what each planner's network is by measurement.

    ``found`` has compressions by the names of their rows.
    """
    planners = list(dict.fromkeys(rival.planner for one in found.values() for rival in one.rivals))
    rows = []
    for name, one in found.items():
        rivals = {rival.planner: rival for rival in one.rivals}
        each = [one.best, *(rivals.get(planner) for planner in planners)]
        rows.append((name, one.verdict, *map(_speed_and_accuracy, each)))
    heads = ("budget", "verdict", "best", *(_PLANNERS.get(planner, planner) for planner in planners))
    return _table("Measured speed-up and accuracy", heads, 2, rows)


def layers(compression: Compression) -> Table:
    """Return what became of each operator that computes, with sums beneath."""
    made = compression.layers
    rows = [(*_layer(i, layer),) for i, layer in enumerate(made, 1)]
    if made:
        before, after = (_sum(made, name) for name in ("predicted_ms_before", "predicted_ms_after"))
        macs = [sum(getattr(layer, name) for layer in made) / 1e6 for name in ("macs_before", "macs_after")]
        rows.append(("all of these", "", "", "", *map(words.digits, macs), *map(words.digits, (before, after))))
    heads = ("layer", "operator", "shape", "after", "MMACs before", "MMACs after", "ms before", "ms after")
    return _table("Layers before and after; latencies are predicted", heads, 4, rows)


def layer_label(number: int, layer: Layer) -> str:
    """Return how a table and a plot call a layer: names alone need not differ."""
    return f"{number} {layer.name or layer.kind}"


def rounds(compression: Compression) -> Table:
    """Return what each network of each round was predicted to take when it was proposed, and takes."""
    rows = [
        (
            f"round {number}",
            network_label(compression, one),
            words.digits(one.predicted_ms),
            words.digits(one.high_ms),
            words.digits(one.reading.latency_ms),
            f"{words.signed(100 * (one.predicted_ms / one.reading.latency_ms - 1))} %",
            "noisy" if one.reading.noisy else "in turns" if one.reading.is_interleaved else "apart in time",
        )
        for number, made in enumerate(compression.rounds, 1)
        for one in made.candidates
        if one.reading is not None
    ]
    heads = ("round", "planner", "predicted, ms", "upper bound, ms", "measured, ms", "predicted is off by", "reading")
    return _table("Networks that were measured, beside what was predicted when they were proposed", heads, 2, rows)


def calibrations(compression: Compression) -> Table:
    """Return the errors of the table before and after each calibration, and on networks that it had not seen."""
    rows = []
    for number, made in enumerate(compression.rounds, 1):
        if (fit := made.calibration) is None:
            continue
        line = f"× {words.digits(fit.factor)}, {words.signed(fit.offset_ms, 3)} ms"
        for name, found in (("before", fit.before), ("after", fit.after), ("left out one by one", fit.held_out)):
            rows.append((f"round {number}, {name}", "" if name == "before" else line, *_errors(found)))
    if compression.held_out is not None:
        rows.append(("held out", "", *_errors(compression.held_out)))
    heads = ("networks", "calibration", "count", "mean error", "within ±5 %", "within ±10 %", "worst", "bias")
    return _table("How far predictions are from measurements, as shares of the measured latency", heads, 2, rows)


def steps(compression: Compression) -> Table:
    """Return the seconds that each step took."""
    rows = [(name, words.duration(seconds)) for name, seconds in compression.seconds.items()]
    return _table("Time by step", ("step", "time"), 1, rows)


def candidates_with_accuracy(compression: Compression) -> tuple[Candidate, ...]:
    """Return the networks of which both a measured latency and an accuracy are known, the given one first."""
    every = (compression.baseline, *([compression.best] if compression.best else []), *compression.rivals)
    return tuple(one for one in every if one.reading is not None and one.accuracy is not None)


def _layer(number: int, layer: Layer) -> tuple[str, ...]:
    return (
        layer_label(number, layer),
        layer.kind,
        layer.shape,
        layer.after or "unchanged",
        *(words.digits(macs / 1e6) for macs in (layer.macs_before, layer.macs_after)),
        words.digits(layer.predicted_ms_before),
        words.digits(layer.predicted_ms_after),
    )


def _speed_and_accuracy(candidate: Candidate | None) -> str:
    if candidate is None or candidate.reading is None:
        return words.UNKNOWN
    accuracy = "" if candidate.accuracy is None else f", {words.share(candidate.accuracy)}"
    return f"{words.digits(1 / candidate.reading.ratio)}×{accuracy}"


def _sum(made: Sequence[Layer], name: str) -> float | None:
    """Return the sum over layers, where each has the value."""
    values = [getattr(layer, name) for layer in made]
    return None if any(value is None for value in values) else sum(values)


def _errors(found: Errors) -> tuple[str, ...]:
    shares = (words.share(value) for value in (found.mape, found.within_5, found.within_10, found.worst))
    return words.whole(found.count), *shares, f"{words.signed(100 * found.bias)} %"
