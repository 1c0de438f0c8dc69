"""``leti evaluate --adapt``: how good a predictor for a new device is, from few samples and the tables of others.

The protocol is that of :mod:`leti.cli.protocol_d`, on tables that are handed in. Sources learn from the rows of the
pool alone, each from those in the middle by its own latency: what is known of the queries' networks on other devices
stays unknown.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from leti.cli.report import new_console, new_table, write_json
from leti.core.errors import InvalidInput, LetiError, TooFewMeasurements
from leti.core.extras import needs
from leti.core.graph import Graph
from leti.core.spec import NetworkConfig
from leti.core.wire import Zero

with needs("boosting"):
    import numpy as np

    from leti.cli.judging import lowering_error
    from leti.cli.protocol_d import Remembered, judged, middle
    from leti.cli.split_table import best_meaning, meanings_of
    from leti.cli.table import Row, read_range
    from leti.generator.lowering import lower
    from leti.predictors.adaptation.predictor import MAX_SOURCES, SOURCE_KIND, AdaptedPredictor
    from leti.predictors.adaptation.transfer import METHODS
    from leti.predictors.evaluation import Sample
    from leti.predictors.registry import create
    from leti.predictors.sampling import How, choose

if TYPE_CHECKING:
    from leti.cli.split_table import ZeroChoice
    from leti.core.prediction import Predictor

_JUDGE: Final = "linear"
"""The kind whose error on the sources tells what ``none`` meant; a positional sum is the same whatever it meant."""

_AUTO: Final = "auto"


@final
@dataclass(frozen=True, slots=True)
class _Devices:
    """Rows of the sources' table by device, those of the target to sample from, and those to predict."""

    sources: Mapping[str, Sequence[Row]]
    pool: Sequence[Row]
    query: Sequence[Row]
    left_out: Mapping[str, int]

    def lowered(self, zero: Zero) -> dict[str, Graph]:
        """Return the graphs of all networks by their architecture."""
        every = (*self.pool, *self.query, *(row for rows in self.sources.values() for row in rows))
        specs = {row.architecture: row.spec for row in every}
        return {architecture: lower(spec, zero) for architecture, spec in specs.items()}


def evaluate_adaptation(
    *,
    space: str,
    arch_column: str,
    config: NetworkConfig | None,
    sources: Path,
    source_columns: tuple[str, ...],
    target: Path,
    target_column: str,
    counts: Sequence[int],
    trim_middle: float,
    pool: tuple[int, int],
    query: tuple[int, int],
    zero: ZeroChoice,
    seed: int,
    json_file: Path | None,
) -> None:
    """Adapt by every method from every number of samples, print how good each is, and write the JSON.

    Raises :class:`InvalidInput` naming the option for tables, columns and ranges that do not fit.
    """
    names = tuple(name.strip() for name in source_columns)
    if len(set(names)) != len(names) or not 1 <= len(names) <= MAX_SOURCES:
        raise InvalidInput(f"must be 1 to {MAX_SOURCES} columns, each once", field="--source-columns")
    if pool[0] < query[1] and query[0] < pool[1]:
        raise InvalidInput("overlaps --pool: what is judged on must not be sampled", field="--query")
    console = new_console()
    with console.status("reading"):
        devices = _read(space, arch_column, config, sources, names, target, target_column, (pool, query), trim_middle)
        meaning, errors = _choose_zero(devices, zero, seed)
        graphs = devices.lowered(meaning)
    records: list[dict[str, Any]] = []
    with console.status("adapting"):
        for record in _run(devices, graphs, counts, seed):
            records.append(record)
    title = (
        f"{target.name}: {target_column} from {len(names)} devices; samples from {len(devices.pool)} networks, "
        f"judged on {len(devices.query)}; seed {seed}, none = {meaning}"
    )
    console.print(_table(title, records))
    if errors:
        told = ", ".join(f"{tried} {100 * error:.2f} %" for tried, error in errors.items())
        console.print(
            f"none = {meaning}: mean error of {_JUDGE} in cross-validation on the sources: {told}", highlight=False
        )
    for place, count in devices.left_out.items():
        console.print(f"left out {count} rows: {place}", highlight=False)
    console.print(
        f"sources learn from rows {pool[0]} to {pool[1] - 1} of {sources.name}; samples at random, unless said",
        style="dim",
        highlight=False,
    )
    write_json(json_file, records)


def _read(
    space: str,
    arch_column: str,
    config: NetworkConfig | None,
    sources: Path,
    names: tuple[str, ...],
    target: Path,
    target_column: str,
    ranges: tuple[tuple[int, int], tuple[int, int]],
    trim_middle: float,
) -> _Devices:
    pool, query = ranges
    left_out: dict[str, int] = {}

    def trimmed(rows: Sequence[Row], place: str, count: int) -> list[Row]:
        if len(rows) < count:
            left_out[place] = count - len(rows)
        kept = middle([row.latency_ms for row in rows], trim_middle)
        return [rows[i] for i in kept]

    by_source = {}
    for name, rows in read_range(sources, space, arch_column, names, pool, config, option="--sources").items():
        by_source[name] = trimmed(rows, f"--source-columns {name}", pool[1] - pool[0])
    parts = []
    for option, (first, end) in (("--pool", pool), ("--query", query)):
        found = read_range(target, space, arch_column, (target_column,), (first, end), config, option="--target")
        parts.append(trimmed(found[target_column], option, end - first))
    return _Devices(by_source, parts[0], parts[1], left_out)


def _choose_zero(devices: _Devices, zero: ZeroChoice, seed: int) -> tuple[Zero, dict[str, float]]:
    """Return what ``none`` meant: what is asked for, or what cross-validation on the sources favours, and errors."""
    every = [row for rows in devices.sources.values() for row in rows]
    meanings = meanings_of((row.spec for row in every), zero)
    if len(meanings) == 1:
        return meanings[0], {}
    tried: dict[Zero, float] = {}
    for meaning in meanings:
        graphs = {row.architecture: lower(row.spec, meaning) for row in every}
        errors = [lowering_error(_JUDGE, _sample(rows, graphs), seed) for rows in devices.sources.values()]
        tried[meaning] = float(np.mean(errors))
    return best_meaning(tried), {str(meaning): error for meaning, error in tried.items()}


def _sample(rows: Sequence[Row], graphs: Mapping[str, Graph]) -> Sample:
    return Sample(
        tuple(graphs[row.architecture] for row in rows),
        tuple(row.latency_ms for row in rows),
        tuple(row.group for row in rows),
    )


def _run(devices: _Devices, graphs: Mapping[str, Graph], counts: Sequence[int], seed: int) -> Iterator[dict[str, Any]]:
    pool, query = _sample(devices.pool, graphs), _sample(devices.query, graphs)
    known = tuple(graphs.values())
    fitted: dict[str, Predictor] = {}
    for name, rows in devices.sources.items():
        try:
            fitted[name] = Remembered(_sample(rows, graphs).teach(create(SOURCE_KIND), seed=seed), known)
        except LetiError as error:
            error.field = f"--source-columns {name}"
            raise
    plan: Sequence[tuple[How, str]] = (
        *(("random", method) for method in (_AUTO, *METHODS)),
        *((how, _AUTO) for how in ("diverse", "disagreement")),
    )
    for count in counts:
        for how, method in plan:
            try:
                picked = choose(pool.graphs, count, how=how, seed=seed, predictors=tuple(fitted.values()))
            except InvalidInput as error:
                error.field = "--samples"
                raise
            few = pool.part(picked)
            adapted = AdaptedPredictor(fitted, method=method, population=pool.graphs)
            start = time.perf_counter()
            try:
                adapted.fit(few.graphs, few.latencies_ms, groups=few.groups, seed=seed)
            except TooFewMeasurements as error:
                error.field = "--samples"
                raise
            fit_s = time.perf_counter() - start
            yield {
                "method": method if how == "random" else f"{method}, {how}",
                "chosen": adapted.method,
                "sampling": how,
                "seed": seed,
                "n_sources": len(fitted),
                "n_samples": count,
                "n_query": len(query),
                **judged(adapted, query.graphs, query.latencies_ms),
                "fit_s": fit_s,
            }


def _table(title: str, records: Sequence[Mapping[str, Any]]) -> Any:
    table = new_table(title)
    for name in ("samples", "method", "Spearman", "Kendall", "±10 %", "MdAPE", "in 90 %", "s"):
        table.add_column(name, justify="left" if name == "method" else "right", no_wrap=True)
    before = None
    for record in records:
        if before not in (None, record["n_samples"]):
            table.add_section()
        before = record["n_samples"]
        chosen = f" ({record['chosen']})" if record["method"].startswith(_AUTO) else ""
        table.add_row(
            str(record["n_samples"]),
            record["method"] + chosen,
            *("–" if record[name] is None else f"{record[name]:.3f}" for name in ("spearman", "kendall")),
            *(f"{100 * record[name]:.1f}" for name in ("within_10", "mdape", "interval_coverage")),
            f"{record['fit_s']:.1f}",
        )
    return table
