"""Figures of accuracy: means and spreads over seeds, what cross-validation chose, and which goals were reached."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from leti.cli.protocols import ADAPTATION, ADAPTATION_SAMPLES, ADAPTATION_SERVED, GOALS, OPERATORS, Goal, TableProtocol
from leti.cli.run_store import Record

METRICS = (
    "within_1", "within_5", "within_10", "mdape", "r2", "spearman", "interval_coverage", "fit_s", "us_per_prediction",
)  # fmt: skip
"""The fields of a result that are averaged over seeds."""

CHOSEN = "chosen by cross-validation"
"""The name of the row of whichever kind had the least error out of fold inside each seed's training part."""

SERVED = "as served: measured first, else chosen"
"""The name of the row of what a service answers: the measured latency of a known graph, else that kind's prediction."""


@final
@dataclass(frozen=True, slots=True)
class Spread:
    """A mean over seeds and the sample standard deviation, None for one seed."""

    mean: float
    std: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return mean and deviation of at least one value."""
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


@final
@dataclass(frozen=True, slots=True)
class Row:
    """One predictor on one table: its metrics over seeds; a metric that no seed has is left out."""

    kind: str
    seeds: tuple[int, ...]
    n_train: int
    n_test: int
    metrics: dict[str, Spread]


@final
@dataclass(frozen=True, slots=True)
class TableFigures:
    """A table of protocols A to C: a row a predictor, the simplest first, and how the table was read and split.

    ``chosen`` counts which kinds cross-validation chose, ``zeros`` which meanings of ``none``, over seeds;
    ``zero_errors`` are means of the errors by which ``zero_judge`` judged them. ``repeatability`` and ``pairs_agree``
    are shares by tolerance of what ``repeatability_of`` names. ``failures`` are one sentence each.
    """

    id: str
    rows: tuple[Row, ...]
    chosen_row: Row | None
    served_row: Row | None
    chosen: dict[str, int]
    zeros: dict[str, int]
    zero_errors: dict[str, float]
    zero_judge: str
    repeatability: dict[str, float]
    pairs_agree: dict[str, float]
    repeatability_of: str
    failures: tuple[str, ...]
    curve: tuple[Row, ...]


@final
@dataclass(frozen=True, slots=True)
class AdaptationRow:
    """One way to a predictor of a new device: mean Spearman over targets, and by target, at one number of samples."""

    method: str
    sampling: str
    sources: str
    n_samples: int
    seeds: tuple[int, ...]
    spearman: Spread
    within_10: Spread
    targets: dict[str, float]


@final
@dataclass(frozen=True, slots=True)
class OperatorsRow:
    """One phone: sums of operator times, plain and corrected, against end-to-end times."""

    platform: str
    method: str
    seeds: tuple[int, ...]
    n_train: int
    n_test: int
    metrics: dict[str, Spread]


@final
@dataclass(frozen=True, slots=True)
class Reached:
    """A goal and what was reached: by the predictor that would be served, and by the best of all on the test part.

    ``by`` and ``best_by`` name them. ``verdict`` is one of ``reached``, ``missed`` and ``not run``; figures are
    compared at the precision of the goals, a tenth of a point. ``seeds`` counts what the mean is over.
    """

    goal: Goal
    verdict: str
    reached: Spread | None
    by: str
    best: Spread | None
    best_by: str
    seeds: int


@final
@dataclass(frozen=True, slots=True)
class Figures:
    """All that a report shows."""

    tables: tuple[TableFigures, ...]
    adaptation: tuple[AdaptationRow, ...]
    operators: tuple[OperatorsRow, ...]
    goals: tuple[Reached, ...]
    failures: tuple[str, ...]
    codes: tuple[str, ...]


def figures(
    tables: Sequence[TableProtocol], records: Sequence[Record], sizes: Mapping[str, int], order: Sequence[str]
) -> Figures:
    """Return the figures of records; ``sizes`` gives each table's own size of training, ``order`` that of the kinds."""
    found = tuple(
        _table(table.id, mine, sizes[table.id], order)
        for table in tables
        if (mine := [record for record in records if record["table"] == table.id and record["kind"]])
    )
    adaptation = _adaptation(_rows(records, ADAPTATION))
    operators = _operators(_rows(records, OPERATORS))
    failures = tuple(
        f"{record['table']}, seed {record['seed']}: {record['error']}" for record in records if not record["kind"]
    )
    goals = tuple(_reached(goal, found, adaptation, operators) for goal in GOALS)
    codes = tuple(sorted({str(record["code"]) for record in records}))
    return Figures(found, adaptation, operators, goals, failures, codes)


def _rows(records: Iterable[Record], protocol: str) -> list[Record]:
    return [row for record in records if record["table"] == protocol for row in record.get("rows", ())]


def _table(name: str, records: Sequence[Record], size: int, order: Sequence[str]) -> TableFigures:
    good = [record for record in records if "error" not in record]
    main = [record for record in good if record["size"] == size]
    chosen = _chosen(main)
    by_seed = {record["seed"]: record for record in main}
    errors: dict[str, list[float]] = {}
    for record in by_seed.values():
        for zero, error in record["zero_cross_validation_error"].items():
            errors.setdefault(zero, []).append(error)
    measured_twice = next((record for record in main if record["repeatability"]), None)
    agreement = measured_twice["repeatability"] if measured_twice else {"within": {}, "pairs_within": {}}
    return TableFigures(
        id=name,
        rows=_by_kind(main, order),
        chosen_row=_row(CHOSEN, chosen) if chosen else None,
        served_row=_row(SERVED, chosen, "served") if chosen and all("served" in record for record in chosen) else None,
        chosen=dict(Counter(record["kind"] for record in chosen)),
        zeros=dict(Counter(record["zero"] for record in by_seed.values())),
        zero_errors={zero: statistics.fmean(found) for zero, found in errors.items()},
        zero_judge=next((record["zero_judge"] for record in main), ""),
        repeatability=dict(agreement["within"]),
        pairs_agree=dict(agreement["pairs_within"]),
        repeatability_of=measured_twice["repeatability_of"] if measured_twice else "",
        failures=tuple(
            f"{record['kind']}, seed {record['seed']}, {record['size']} networks: {record['error']}"
            for record in records
            if "error" in record
        ),
        curve=_curve(good, size, order),
    )


def _chosen(records: Sequence[Record]) -> list[Record]:
    """Return for each seed the record of the kind with the least error out of fold; ties go to the first by name."""
    judged: dict[int, list[Record]] = {}
    for record in records:
        if record["cv_mdape"] is not None:
            judged.setdefault(record["seed"], []).append(record)
    return [min(of_one, key=lambda record: record["cv_mdape"]) for _, of_one in sorted(judged.items())]


def _curve(records: Sequence[Record], size: int, order: Sequence[str]) -> tuple[Row, ...]:
    """Return rows at every size of those kinds that were trained on smaller parts too; empty where none was."""
    kinds = {record["kind"] for record in records if record["size"] < size}
    rows = (
        _by_kind([record for record in records if record["size"] == each and record["kind"] in kinds], order)
        for each in sorted({record["size"] for record in records})
        if kinds and each <= size
    )
    return tuple(row for of_one in rows for row in of_one)


def _by_kind(records: Sequence[Record], order: Sequence[str]) -> tuple[Row, ...]:
    by_kind: dict[str, list[Record]] = {}
    for record in records:
        by_kind.setdefault(record["kind"], []).append(record)
    known = [kind for kind in order if kind in by_kind]
    return tuple(_row(kind, by_kind[kind]) for kind in (*known, *sorted(by_kind.keys() - set(known))))


def _row(kind: str, records: Sequence[Record], field: str = "metrics") -> Row:
    records = sorted(records, key=lambda record: int(record["seed"]))
    metrics = [record[field] for record in records]
    return Row(
        kind,
        tuple(record["seed"] for record in records),
        round(statistics.fmean(each["n_train"] for each in metrics)),
        round(statistics.fmean(each["n_test"] for each in metrics)),
        _spreads(metrics, METRICS),
    )


def _spreads(metrics: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Spread]:
    values = {name: [each[name] for each in metrics if each.get(name) is not None] for name in names}
    return {name: Spread.of(found) for name, found in values.items() if found}


def _adaptation(rows: Sequence[Record]) -> tuple[AdaptationRow, ...]:
    """Return a row for each method, sampling and number of samples, in the order in which they first came."""
    return tuple(
        AdaptationRow(
            method,
            sampling,
            sources,
            n_samples,
            _seeds(of_one),
            _over_seeds(of_one, lambda row: row["spearman"]),
            _over_seeds(of_one, lambda row: row["within_10"]),
            {
                target: statistics.fmean(row["spearman"] for row in of_target)
                for (target,), of_target in _grouped(of_one, "target").items()
            },
        )
        for (method, sampling, sources, n_samples), of_one in _grouped(
            rows, "method", "sampling", "sources", "n_samples"
        ).items()
    )


def _operators(rows: Sequence[Record]) -> tuple[OperatorsRow, ...]:
    return tuple(
        OperatorsRow(
            platform,
            method,
            _seeds(of_one),
            round(statistics.fmean(row["n_train"] for row in of_one)),
            round(statistics.fmean(row["n_test"] for row in of_one)),
            _spreads([row[method] for row in of_one], ("within_1", "within_5", "within_10", "mdape")),
        )
        for (platform,), of_one in _grouped(rows, "platform").items()
        for method in ("plain_sum", "corrected")
    )


def _grouped(rows: Sequence[Record], *names: str) -> dict[tuple[Any, ...], list[Record]]:
    grouped: dict[tuple[Any, ...], list[Record]] = {}
    for row in rows:
        grouped.setdefault(tuple(row[name] for name in names), []).append(row)
    return grouped


def _seeds(rows: Sequence[Record]) -> tuple[int, ...]:
    return tuple(sorted({row["seed"] for row in rows}))


def _over_seeds(rows: Sequence[Record], value: Callable[[Record], float]) -> Spread:
    """Return the spread over seeds of the mean over whatever else differs."""
    return Spread.of([statistics.fmean(map(value, of_one)) for of_one in _grouped(rows, "seed").values()])


def _reached(
    goal: Goal,
    tables: Sequence[TableFigures],
    adaptation: Sequence[AdaptationRow],
    operators: Sequence[OperatorsRow],
) -> Reached:
    absent = Reached(goal, "not run", None, "", None, "", 0)
    if goal.table == ADAPTATION:
        return _reached_by_adaptation(goal, [row for row in adaptation if row.n_samples == ADAPTATION_SAMPLES], absent)
    if goal.table.startswith(f"{OPERATORS}-"):
        corrected = [row for row in operators if row.method == "corrected" and goal.table.endswith(f"-{row.platform}")]
        found = {f"{row.method} sum": (row.metrics[goal.metric], len(row.seeds)) for row in corrected}
    else:
        table = next((table for table in tables if table.id == goal.table), None)
        return _reached_on_table(goal, table, absent) if table else absent
    if not found:
        return absent
    best = max(found, key=lambda name: found[name][0].mean)
    spread, seeds = found[best]
    return Reached(goal, _verdict(goal, spread), spread, best, spread, best, seeds)


def _reached_by_adaptation(goal: Goal, rows: Sequence[AdaptationRow], absent: Reached) -> Reached:
    found = {(row.method, row.sampling, row.sources): row for row in rows}
    served = found.get(ADAPTATION_SERVED)
    if served is None:
        return absent
    alike = [row for row in rows if row.sources == served.sources]
    best = max(alike, key=lambda row: row.spearman.mean)
    names = [f"{row.method}, {row.sampling} samples" for row in (served, best)]
    verdict = _verdict(goal, served.spearman)
    return Reached(goal, verdict, served.spearman, names[0], best.spearman, names[1], len(served.seeds))


def _reached_on_table(goal: Goal, table: TableFigures, absent: Reached) -> Reached:
    found = {row.kind: row for row in table.rows if goal.metric in row.metrics}
    if goal.kinds:
        found = {kind: row for kind, row in found.items() if kind in goal.kinds}
        if not found:
            return absent
        worst = min(found, key=lambda kind: found[kind].metrics[goal.metric].mean)
        missing = [kind for kind in goal.kinds if kind not in found]
        by = f"{worst}, the least of {', '.join(found)}" + (f"; not run: {', '.join(missing)}" if missing else "")
        spread = found[worst].metrics[goal.metric]
        verdict = _verdict(goal, spread)
        if missing and verdict == "reached":
            verdict = "not run"
        return Reached(goal, verdict, spread, by, None, "", len(found[worst].seeds))
    if not found or table.chosen_row is None:
        return absent
    best = max(found, key=lambda kind: found[kind].metrics[goal.metric].mean)
    chosen = " / ".join(table.chosen)
    reached = table.chosen_row.metrics[goal.metric]
    seeds = len(table.chosen_row.seeds)
    return Reached(goal, _verdict(goal, reached), reached, chosen, found[best].metrics[goal.metric], best, seeds)


def _verdict(goal: Goal, reached: Spread) -> str:
    return "reached" if is_met(goal, reached.mean) else "missed"


def is_met(goal: Goal, value: float) -> bool:
    """Return whether a figure reaches a goal, both rounded as goals are stated: to a tenth of a point."""
    return round(100 * value, 1) >= round(100 * goal.wanted, 1)
