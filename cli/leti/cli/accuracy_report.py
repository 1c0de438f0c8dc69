"""The page on accuracy: every table beside what was known of it; what is missed is said by the figures themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from leti.cli.accuracy_figures import (
    CHOSEN,
    SERVED,
    AdaptationRow,
    Figures,
    OperatorsRow,
    Reached,
    Row,
    Spread,
    TableFigures,
)
from leti.cli.protocols import (
    ADAPTATION_KNOWN,
    ADAPTATION_NOTE,
    ADAPTATION_SAMPLES,
    ADAPTATION_SERVED,
    GOALS,
    OPERATORS_NOTE,
    PROTOCOLS,
    SHARES,
    TABLES,
    TableProtocol,
)

_LABELS: Final = {"within_1": "±1 %", "within_5": "±5 %", "within_10": "±10 %", "spearman": "Spearman"}
_Scale = Callable[[float], str]

_INTRODUCTION = """\
Written by `leti evaluate --protocol {protocols}`; the same figures as data are in `accuracy.json`. Figures are of
networks that the predictor has never seen: means over seeds ± their sample standard deviation, the simplest predictor
first. ±x % is the share of test networks predicted within x % of the measured latency, MdAPE the median absolute
percentage error, "in {coverage:.0f} %" the share of measured latencies inside their {coverage:.0f} % interval, fit s
the seconds that training and calibration took, µs the time of one prediction in a batch, features included. `none` is
what zeros meant to the exporter ([decision 1](decisions/0001-what-none-does.md)); it is chosen inside each training
part, by cross-validation. *{chosen}* is whichever kind had the least median error out of fold inside the
training part of each seed, chosen without a look at the test part. *{served}* is what a service
answers: the measured latency where the training part holds the very graph (other cells may be the same graph), else
that prediction. `stacked` mixes the kinds that train in seconds, `stacked_all` all of them. Figures that were known
before are in *italics*.
"""

_GOALS = """\
A goal is judged on the predictor that cross-validation chose, or on the least of the kinds that it names; figures are
compared at a tenth of a point. "Best on the test part" was picked by looking at the test part, and only tells what
another choice would have given.
"""


def render(
    figures: Figures, *, protocols: Sequence[str], coverage: float, images: Mapping[str, str], machine: str
) -> str:
    """Return the page as Markdown; ``images`` are links by what they show, ``machine`` says where times were taken."""
    parts = [
        "# How accurate the predictors are",
        _INTRODUCTION.format(protocols=",".join(protocols), coverage=100 * coverage, chosen=CHOSEN, served=SERVED)
        + "\n"
        + _origin(figures, machine),
        "## Wanted and reached",
        _GOALS,
        _goals(figures.goals),
        _missed(figures.goals),
    ]
    if "tables" in images:
        parts.append(f"![Shares of networks within 1, 5 and 10 %, by table and predictor]({images['tables']})")
    by_id = {table.id: table for table in TABLES}
    for table in figures.tables:
        parts += _table(by_id[table.id], table, coverage)
    curves = [table for table in figures.tables if table.curve]
    if curves:
        parts += ["## Learning curve", *_curves([(by_id[table.id], table) for table in curves], images)]
    if figures.adaptation:
        parts += [f"## D. {_sentence(PROTOCOLS['D'])}", *_adaptation(figures.adaptation, images)]
    if figures.operators:
        parts += [f"## E. {_sentence(PROTOCOLS['E'])}", *_operators(figures.operators)]
    if figures.failures:
        parts += ["## Parts that failed", *(f"- {failure}" for failure in figures.failures)]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _origin(figures: Figures, machine: str) -> str:
    if len(figures.codes) > 1:
        code = f"The results are of {len(figures.codes)} versions of the code ({', '.join(figures.codes)}): an "
        code += "evaluation that was resumed after a change."
    else:
        code = f"All results are of one version of the code ({''.join(figures.codes)})."
    return f"{code} Times were taken on {machine}."


def _goals(goals: Sequence[Reached]) -> str:
    rows = []
    for reached in goals:
        goal = reached.goal
        scale = _number if goal.metric == "spearman" else _percent
        of = f" of {', '.join(goal.kinds)}, each" if goal.kinds else ""
        rows.append(
            (
                goal.table,
                _LABELS[goal.metric] + of,
                "" if goal.known is None else scale(goal.known),
                scale(goal.wanted),
                "" if reached.reached is None else _spread(reached.reached, scale),
                reached.by,
                "" if reached.best is None else f"{scale(reached.best.mean)} ({reached.best_by})",
                str(reached.seeds or ""),
                reached.verdict if reached.verdict == "reached" else f"**{_verdict(reached)}**",
            )
        )
    return _markdown(
        ("table", "figure", "known", "wanted", "reached", "by", "best on the test part", "seeds", "verdict"), rows
    )


def _verdict(reached: Reached) -> str:
    if reached.verdict != "missed" or reached.reached is None:
        return reached.verdict
    gap = reached.goal.wanted - reached.reached.mean
    return f"missed by {gap:.3f}" if reached.goal.metric == "spearman" else f"missed by {100 * gap:.1f} points"


def _missed(goals: Sequence[Reached]) -> str:
    """Return in a sentence how many of the goals were missed, which, and which were not run."""
    named: dict[str, list[str]] = {}
    for reached in goals:
        named.setdefault(reached.verdict, []).append(f"{reached.goal.table} {_LABELS[reached.goal.metric]}")
    parts = [f"Of {len(goals)} wanted figures, {len(named.get('reached', ()))} are reached."]
    if "missed" in named:
        parts.append(f"Missed: {', '.join(named['missed'])}.")
    if "not run" in named:
        parts.append(f"Not run, or not whole: {', '.join(named['not run'])}.")
    return " ".join(parts)


def _table(protocol: TableProtocol, table: TableFigures, coverage: float) -> list[str]:
    rows = [
        (
            f"*{known.name}*",
            *("" if share is None else f"*{_percent(share)}*" for share in (getattr(known, name) for name in SHARES)),
            "",
            "" if known.r2 is None else f"*{_number(known.r2)}*",
            *("",) * 5,
        )
        for known in protocol.known
    ]
    rows += [_row(row) for row in table.rows]
    rows += [_row(row) for row in (table.chosen_row, table.served_row) if row is not None]
    wanted = [goal for goal in GOALS if goal.table == table.id and not goal.kinds]
    if wanted:
        by = {goal.metric: _percent(goal.wanted) for goal in wanted}
        rows.append(("**wanted**", *(by.get(name, "") for name in SHARES), *("",) * 7))
    for name, shares in (("*repeatability*", table.repeatability), ("*pairs agree*", table.pairs_agree)):
        if shares:
            rows.append((name, *(_percent(shares[bound]) for bound in ("0.01", "0.05", "0.1")), *("",) * 7))
    header = (
        "predictor", "±1 %", "±5 %", "±10 %", "MdAPE %", "R²", "Spearman", f"in {100 * coverage:.0f} %", "fit s", "µs",
        "train / test",
    )  # fmt: skip
    return [
        f"## {protocol.protocol}. {protocol.title}",
        _about(protocol, table),
        _markdown(header, rows),
        *(f"- failed: {failure}" for failure in table.failures),
    ]


def _about(protocol: TableProtocol, table: TableFigures) -> str:
    seeds = sorted({seed for row in table.rows for seed in row.seeds})
    zeros = ", ".join(f"{zero} ({count} of {sum(table.zeros.values())})" for zero, count in table.zeros.items())
    parts = [f"`{protocol.file}`; {protocol.note or 'split by isomorphism class'}; seeds {_listed(seeds)}."]
    parts.append(f"Meaning of `none`, by seed: {zeros}" + ("; errors" if table.zero_errors else "."))
    if table.zero_errors:
        errors = ", ".join(f"{zero} {100 * error:.2f} %" for zero, error in table.zero_errors.items())
        parts[-1] += f" of {table.zero_judge} out of fold in the training part: {errors} (mean)."
    if table.chosen:
        parts.append("Chosen: " + ", ".join(f"{kind} ({count})" for kind, count in table.chosen.items()) + ".")
    if table.repeatability:
        parts.append(
            f"Repeatability: {table.repeatability_of} within x % of their median, which each of them shapes (so it is "
            "more than what can be predicted); and pairs of them within x % of each other (so it is less)."
        )
    return " ".join(parts)


def _row(row: Row) -> tuple[str, ...]:
    def cell(name: str, digits: int, scale: float = 1.0, *, spread: bool = True) -> str:
        found = row.metrics.get(name)
        if found is None:
            return "–"
        text = f"{scale * found.mean:.{digits}f}"
        return text if found.std is None or not spread else f"{text} ± {scale * found.std:.{digits}f}"

    name = f"*{row.kind}*" if row.kind in (CHOSEN, SERVED) else row.kind
    return (
        name,
        *(cell(share, 1, 100) for share in SHARES),
        cell("mdape", 2, 100),
        cell("r2", 3, spread=False),
        cell("spearman", 3, spread=False),
        cell("interval_coverage", 1, 100),
        cell("fit_s", 1, spread=False),
        cell("us_per_prediction", 0, spread=False),
        f"{row.n_train} / {row.n_test}",
    )


def _curves(curves: Sequence[tuple[TableProtocol, TableFigures]], images: Mapping[str, str]) -> list[str]:
    parts = [
        "Smaller training parts lie inside larger ones; the test part is the same for all; the meaning of `none` is "
        "chosen inside each of them anew."
    ]
    if "curve" in images:
        parts.append(f"![Share within 10 % and median error by networks trained on]({images['curve']})")
    for metric, label in (("within_10", "±10 %"), ("mdape", "MdAPE %")):
        scale = _percent if metric == "within_10" else _percent_finely
        sizes = sorted({row.n_train for _, table in curves for row in table.curve})
        rows = []
        for protocol, table in curves:
            for kind in dict.fromkeys(row.kind for row in table.curve):
                of = {row.n_train: row.metrics[metric] for row in table.curve if row.kind == kind}
                cells = (_spread(of[size], scale) if size in of else "" for size in sizes)
                rows.append((protocol.title, kind, *cells))
        parts.append(_markdown((f"{label}, trained on", "predictor", *map(str, sizes)), rows))
    return parts


def _adaptation(rows: Sequence[AdaptationRow], images: Mapping[str, str]) -> list[str]:
    seeds = sorted({seed for row in rows for seed in row.seeds})
    targets = sorted({target for row in rows for target in row.targets})
    known = "; ".join(f"{name} {_number(value)}" for name, value in ADAPTATION_KNOWN.items())
    parts = [
        f"`help_nasbench201.csv.gz`: nine source devices, targets {', '.join(targets)}; samples from indices 0 to 899, "
        f"queries 900 to 1,899, both cut to the middle 80 % by the target's latency; seeds {_listed(seeds)}. Spearman "
        f"on the queries, mean over targets ± deviation over seeds. Known, on six other devices: {known}. Sources "
        "are *predicted* where each is a predictor that was trained on its own pool alone, as in the publication, and "
        "*measured* where it learnt from all 1,900 networks on its own device, the queries among them. The goal is "
        f"judged on {', '.join(ADAPTATION_SERVED)}. {ADAPTATION_NOTE}"
    ]
    if "adaptation" in images:
        parts.append(f"![Spearman by number of samples]({images['adaptation']})")
    counts = sorted({row.n_samples for row in rows})
    ways = list(dict.fromkeys((row.method, row.sampling, row.sources) for row in rows))
    by = {(row.method, row.sampling, row.sources, row.n_samples): row for row in rows}
    cells = [
        (
            *way,
            *(_spread(found.spearman, _number) if (found := by.get((*way, count))) else "" for count in counts),
        )
        for way in ways
    ]
    parts.append(_markdown(("method", "sampling", "sources", *(f"{count} samples" for count in counts)), cells))
    at = [row for row in rows if row.n_samples == ADAPTATION_SAMPLES]
    if at:
        cells = [
            (
                row.method,
                row.sampling,
                row.sources,
                *(_number(row.targets[target]) if target in row.targets else "" for target in targets),
                _spread(row.within_10, _percent),
            )
            for row in at
        ]
        parts.append(f"With {ADAPTATION_SAMPLES} samples, by target (mean over seeds), and ±10 % over all targets:")
        parts.append(_markdown(("method", "sampling", "sources", *targets, "±10 %"), cells))
    return parts


def _operators(rows: Sequence[OperatorsRow]) -> list[str]:
    seeds = sorted({seed for row in rows for seed in row.seeds})
    known = {goal.table.partition("-")[2]: goal.known for goal in GOALS if goal.table.startswith("E-")}
    cells = [
        (
            row.platform,
            row.method.replace("_", " "),
            *(_spread(row.metrics[name], _percent) for name in SHARES),
            _spread(row.metrics["mdape"], _percent_finely),
            "" if row.method == "corrected" or known.get(row.platform) is None else _percent(known[row.platform] or 0),
            f"{row.n_train} / {row.n_test}",
        )
        for row in rows
    ]
    return [
        f"`qed_tflite_cnn_*_gpu.csv.gz`: sums of operator times against end-to-end times; the correction is fitted on "
        f"the networks to train on; seeds {_listed(seeds)}. {OPERATORS_NOTE}",
        _markdown(("platform", "sum", "±1 %", "±5 %", "±10 %", "MdAPE %", "±10 % known", "train / test"), cells),
    ]


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _spread(spread: Spread, scale: _Scale) -> str:
    return scale(spread.mean) if spread.std is None else f"{scale(spread.mean)} ± {scale(spread.std)}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _percent_finely(share: float) -> str:
    return f"{100 * share:.2f}"


def _number(value: float) -> str:
    return f"{value:.3f}"


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
