"""The protocols: run what is asked for, then write page, pictures and data of all results that are there."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import typer

from leti.cli.accuracy_figures import Figures, figures
from leti.cli.accuracy_plots import draw
from leti.cli.accuracy_report import render
from leti.cli.judging import STACKED_ALL
from leti.cli.protocol_runs import ELSEWHERE, Plan, run
from leti.cli.protocols import PROTOCOLS, TABLES
from leti.cli.report import write_json
from leti.cli.run_store import Record
from leti.core.codec import to_json
from leti.core.errors import MissingExtra
from leti.predictors.registry import known_kinds

_ASIDE = ("settings", "repeatability")
"""What the results of one table have in common, and the figures say once."""


def evaluate_protocols(plan: Plan, json_file: Path | None = None) -> None:
    """Run a plan and write ``accuracy.md``, ``accuracy.json`` and ``images/`` into its folder."""
    run(plan)
    records = results(plan)
    found = figures(
        TABLES, records, {table.id: plan.train or table.train for table in TABLES}, (*known_kinds(), STACKED_ALL)
    )
    try:
        images = {
            name: path.relative_to(plan.out).as_posix() for name, path in draw(found, plan.out / "images").items()
        }
    except MissingExtra as error:
        typer.echo(f"no pictures: {error}")
        images = {}
    there = [letter for letter in PROTOCOLS if any(record["table"].startswith(letter) for record in records)]
    page = render(found, protocols=there, coverage=plan.coverage, images=images, machine=_machine(plan))
    (plan.out / "accuracy.md").write_text(page, encoding="utf-8")
    data = {
        "protocols": there,
        "seeds": plan.seeds,
        "coverage": plan.coverage,
        "times_on": _machine(plan),
        "figures": to_json(found),
        "results": [{name: record[name] for name in record if name not in _ASIDE} for record in records],
    }
    write_json(plan.out / "accuracy.json", data)
    write_json(json_file, data)
    typer.echo(_summary(found))
    typer.echo(f"written: {plan.out / 'accuracy.md'}, accuracy.json, {len(images)} pictures")


def results(plan: Plan) -> list[Record]:
    """Return the results in the plan's folder with its settings and seeds: those of earlier runs too."""
    wanted = {table.id: plan.settings(table) for table in TABLES if (plan.data / table.file).is_file()}
    wanted |= {letter: plan.settings_elsewhere(letter) for letter in ELSEWHERE}
    return [
        record
        for record in plan.store.all()
        if record["seed"] < plan.seeds
        and record["table"] in wanted
        and (not record["kind"] or record["settings"] == wanted[record["table"]])
    ]


def _machine(plan: Plan) -> str:
    beside = f", {plan.jobs} parts side by side" if plan.jobs > 1 else ""
    return f"{platform.machine()} with {os.cpu_count()} cores, Python {platform.python_version()}{beside}"


def _summary(found: Figures) -> str:
    counts = {
        name: sum(reached.verdict == name for reached in found.goals) for name in ("reached", "missed", "not run")
    }
    return "wanted figures: " + ", ".join(f"{count} {name}" for name, count in counts.items())
