"""Runs of the protocols: parts by table and seed, several side by side, each result kept as soon as it is there."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

import typer

from leti.cli.options import read_config
from leti.cli.protocols import ADAPTATION, CURVE_KINDS, OPERATORS, TABLES, TableProtocol, load_part
from leti.cli.run_store import Record, RunStore, code_version, data_version
from leti.core.codec import to_json
from leti.core.errors import InvalidInput, LetiError
from leti.core.measurement import Repeatability
from leti.core.prediction import Progress

TWINS: Final = "isomorphic cells, measured apart,"
EQUAL_GRAPHS: Final = "cells of different classes that are one graph when they are lowered so"
"""Whose latencies tell how far a table's measurements agree."""

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess
    from multiprocessing.process import BaseProcess

    from leti.cli.judging import Fitted
    from leti.cli.split_table import SplitTable, ZeroChoice
    from leti.cli.table import Measured
    from leti.predictors.evaluation import Sample

ELSEWHERE: Final = {
    ADAPTATION: ("leti.cli.protocol_d", "help_nasbench201.csv.gz"),
    OPERATORS: ("leti.cli.protocol_e", "qed_tflite_cnn_ops_gpu.csv.gz"),
}
"""Protocols that are run by a module of their own: its name, and a file that it reads."""


@final
@dataclass(frozen=True, slots=True)
class Plan:
    """What to run. ``train``, ``test`` and ``curve`` are sizes, None for the protocols' own; ``seeds`` is a count."""

    data: Path
    out: Path
    protocols: tuple[str, ...]
    kinds: tuple[str, ...]
    curve: tuple[int, ...]
    counts: tuple[int, ...]
    seeds: int = 3
    coverage: float = 0.9
    zero: ZeroChoice = "auto"
    train: int | None = None
    test: int | None = None
    resume: bool = False
    jobs: int = 1
    started: float = 0.0

    @property
    def store(self) -> RunStore:
        """Where results are kept."""
        return RunStore(self.out / "runs")

    def settings(self, table: TableProtocol) -> Record:
        """Return what results on a table depend on besides seed, size and kind."""
        return {
            "data": data_version(self.data / table.file),
            "train": self.train or table.train,
            "test": self.test,
            "coverage": self.coverage,
            "zero": self.zero,
        }

    def settings_elsewhere(self, protocol: str) -> Record:
        """Return what results of protocol D or E depend on besides the seed."""
        return {"counts": list(self.counts)} if protocol == ADAPTATION else {}

    def parts(self) -> list[Part]:
        """Return the parts that can run side by side, all tables of one seed before the next seed."""
        tables = [table.id for table in TABLES if table.protocol in self.protocols]
        others = [letter for letter in ELSEWHERE if letter in self.protocols]
        return [Part(name, seed) for seed in range(self.seeds) for name in (*tables, *others)]


@final
@dataclass(frozen=True, slots=True)
class Part:
    """A table of protocols A to C, or one of the other protocols, with one seed."""

    name: str
    seed: int

    def __str__(self) -> str:
        """Return its name for people."""
        return f"{self.name}, seed {self.seed}"


def run(plan: Plan) -> None:
    """Run every part of a plan; what fails is kept with its error, and the rest go on.

    Raises :class:`InvalidInput` before anything runs where a table is not in the folder.
    """
    for path in sorted(_files(plan)):
        if not (plan.data / path).is_file():
            raise InvalidInput(f"holds no {path}", field="--data", remedy="give the folder of the public tables")
    parts = plan.parts()
    began = time.monotonic()
    for done, part in enumerate(_run_one_by_one(plan, parts) if plan.jobs == 1 else _run_beside(plan, parts), start=1):
        spent = time.monotonic() - began
        left = spent / done * (len(parts) - done)
        _say(plan, f"{part}: done, {done} of {len(parts)} parts; about {left / 60:.0f} min to go")


def _files(plan: Plan) -> set[str]:
    tables = {table.file for table in TABLES if table.protocol in plan.protocols}
    return tables | {file for letter, (_, file) in ELSEWHERE.items() if letter in plan.protocols}


def _run_one_by_one(plan: Plan, parts: Sequence[Part]) -> Iterator[Part]:
    for part in parts:
        run_part(plan, part)
        yield part


def _run_beside(plan: Plan, parts: Sequence[Part]) -> Iterator[Part]:
    """Run parts in processes of their own: one that dies takes no other with it, and its memory is given back."""
    context = multiprocessing.get_context("spawn")
    waiting = list(parts)
    running: dict[object, tuple[SpawnProcess, Part]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < plan.jobs:
                part = waiting.pop(0)
                process = context.Process(target=_run_apart, args=(plan, part), daemon=True)
                process.start()
                running[process.sentinel] = (process, part)
            for sentinel in multiprocessing.connection.wait([process.sentinel for process, _ in running.values()]):
                process, part = running.pop(sentinel)
                process.join()
                if process.exitcode:
                    _fail(plan, part, f"its process ended with code {process.exitcode}")
                yield part
    finally:
        for process, _ in running.values():
            process.terminate()


def _run_apart(plan: Plan, part: Part) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    run_part(plan, part)


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def run_part(plan: Plan, part: Part) -> None:
    """Run one part, and keep its results or its error."""
    try:
        if part.name in ELSEWHERE:
            _run_elsewhere(plan, part)
        else:
            _run_table(plan, next(table for table in TABLES if table.id == part.name), part)
        plan.store.forget(_failure(part))
    except Exception as error:  # noqa: BLE001 - whatever a part raises is told, and the rest go on
        _fail(plan, part, _told(error))


def _fail(plan: Plan, part: Part, error: str) -> None:
    record = {"table": part.name, "seed": part.seed, "kind": "", "code": code_version(), "error": error}
    plan.store.write(_failure(part), record)
    _say(plan, f"{part}: failed: {error}")


def _failure(part: Part) -> str:
    return f"{part.name}.seed{part.seed}.failed"


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, LetiError) else f"{type(error).__name__}: {error}"


def _run_elsewhere(plan: Plan, part: Part) -> None:
    name, module = f"{part.name}.seed{part.seed}", ELSEWHERE[part.name][0]
    settings = plan.settings_elsewhere(part.name)
    if _is_done(plan, name, settings):
        return
    protocol = load_part(module, f"--protocol {part.name}")
    start = time.perf_counter()
    given = (plan.data, (part.seed,), plan.counts) if part.name == ADAPTATION else (plan.data, (part.seed,))
    rows = list(protocol.run(*given))
    spent = time.perf_counter() - start
    record = {"table": part.name, "seed": part.seed, "kind": part.name, "settings": settings, "rows": rows}
    plan.store.write(name, {**record, "code": code_version(), "run_s": spent})
    _say(plan, f"{part}: {len(rows)} results in {spent:.0f} s")


def _run_table(plan: Plan, table: TableProtocol, part: Part) -> None:
    train = plan.train or table.train
    sizes = [(train, plan.kinds)]
    if table.curve:
        on_curve = tuple(kind for kind in CURVE_KINDS if kind in plan.kinds)
        sizes += [(size, on_curve) for size in sorted(plan.curve, reverse=True) if size < train]
    settings = plan.settings(table)
    from leti.cli.judging import STACKED_ALL, last_stacks, stackable
    from leti.cli.split_table import SplitTable

    open_kinds: dict[int, list[str]] = {}
    for size, of_size in sizes:
        ordered = [*last_stacks(of_size), *((STACKED_ALL,) if size == train and stackable(of_size) else ())]
        missing = [kind for kind in ordered if not _is_done(plan, _name(part, size, kind), settings)]
        open_kinds[size] = ordered if STACKED_ALL in missing else missing  # its members must be fitted in one process
    if not any(open_kinds.values()):
        return

    measured, agreement = _read(plan, table)
    split = SplitTable(measured, table.split, train, part.seed, _no_bars, plan.test)
    for size, kinds in open_kinds.items():
        if kinds:
            base = {"table": table.id, "seed": part.seed, "size": size, "settings": settings}
            base |= {"code": code_version(), "repeatability": to_json(agreement), "repeatability_of": TWINS}
            _run_size(plan, part, split, size, kinds, base)


def _run_size(plan: Plan, part: Part, split: SplitTable, size: int, kinds: Sequence[str], base: Record) -> None:
    rows = split.training_rows(size)
    tried = split.choose_zero(plan.zero, rows)
    base |= {"zero": tried.zero, "zero_cross_validation_error": dict(tried.errors), "zero_judge": tried.judge}
    _say(plan, f"{part}: {len(rows)} to train on, {len(split.test_rows)} to test, none = {tried.zero}")
    train, test = split.sample(rows, tried.zero), split.sample(split.test_rows, tried.zero)
    if base["repeatability"] is None:
        base |= {"repeatability": to_json(_agreement_of_equal_graphs(train, test)), "repeatability_of": EQUAL_GRAPHS}
    fitted: dict[str, Fitted] = {}
    for kind in kinds:
        record = {**base, "kind": kind, **_judge(plan, part, kind, train, test, fitted)}
        plan.store.write(_name(part, size, kind), record)
        _say(plan, f"{part}, {size} networks, {kind}: {_line(record)}")


def _judge(plan: Plan, part: Part, kind: str, train: Sample, test: Sample, fitted: dict[str, Fitted]) -> Record:
    from leti.cli.judging import fit_and_judge

    try:
        found = fit_and_judge(kind, train, test, coverage=plan.coverage, seed=part.seed, fitted=fitted)
    except Exception as error:  # noqa: BLE001 - whatever a kind raises is told, and the rest go on
        return {"error": _told(error)}
    fitted[kind] = found
    return {"cv_mdape": found.cv_mdape, "metrics": to_json(found.metrics), "served": to_json(found.served)}


def _agreement_of_equal_graphs(train: Sample, test: Sample) -> Repeatability | None:
    """Return how well different cells agree that are one graph when they are lowered."""
    from leti.cli.table import agreement

    fingerprints = [graph.fingerprint() for graph in (*train.graphs, *test.graphs)]
    return agreement(fingerprints, (*train.latencies_ms, *test.latencies_ms))


def _read(plan: Plan, table: TableProtocol) -> tuple[Measured, Repeatability | None]:
    """Return the rows that a protocol uses, and how well isomorphic networks measured apart agree, where there are."""
    from leti.cli.table import first_of_each_class, read_table, twins_agreement

    measured = read_table(
        plan.data / table.file,
        table.space,
        table.arch_column,
        table.latency_column,
        where=table.where,
        config=read_config(table.config),
    )
    agreement = twins_agreement(measured)
    return (first_of_each_class(measured) if table.one_per_class else measured), agreement


def _name(part: Part, size: int, kind: str) -> str:
    return f"{part.name}.seed{part.seed}.n{size}.{kind}"


def _is_done(plan: Plan, name: str, settings: Record) -> bool:
    """Return whether a result is there already and may stay; what failed is tried again."""
    if not plan.resume:
        return False
    record = plan.store.read(name)
    return record is not None and "error" not in record and record.get("settings") == settings


def _line(record: Record) -> str:
    if "error" in record:
        return f"failed: {record['error']}"
    m = record["metrics"]
    shares = " / ".join(f"{100 * m[name]:.1f}" for name in ("within_1", "within_5", "within_10"))
    return (
        f"±1/5/10 % {shares}, MdAPE {100 * m['mdape']:.2f} %, fit {m['fit_s']:.1f} s, {m['us_per_prediction']:.0f} µs"
    )


def _say(plan: Plan, line: str) -> None:
    minutes, seconds = divmod(int(time.time() - plan.started), 60)
    typer.echo(f"[{minutes:3d}:{seconds:02d}] {line}")


def _no_bars(description: str) -> Progress:
    return lambda done, total: None
