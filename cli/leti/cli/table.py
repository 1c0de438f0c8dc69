"""Somebody else's table of latencies: rows of a CSV file that can be used, and why the others can't."""

from __future__ import annotations

import csv
import gzip
import math
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from leti.cli.options import read_json
from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.core.measurement import Repeatability, repeatability
from leti.core.prediction import Progress
from leti.core.spec import NetworkConfig, NetworkSpec

with needs("export"):
    from leti.generator.spaces import SearchSpace, get_space, parse_network

SHOWN = 20
"""How many row numbers of each reason are named."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The usable rows: specs, latencies in ms and isomorphism classes, each of length n; and what was left out."""

    specs: tuple[NetworkSpec, ...]
    latencies_ms: tuple[float, ...]
    groups: tuple[str, ...]
    skipped: Skipped


@dataclass(slots=True)
class Skipped:
    """Rows that could not be used, by reason: line numbers of the file (the header is line 1)."""

    rows: dict[str, list[int]] = field(default_factory=dict)

    def add(self, reason: str, line: int) -> None:
        """Count a row."""
        self.rows.setdefault(reason, []).append(line)

    def to_json(self) -> dict[str, object]:
        """Return count and first lines by reason."""
        return {reason: {"count": len(lines), "lines": lines[:SHOWN]} for reason, lines in self.rows.items()}


def read_table(
    path: Path,
    space_name: str,
    arch_column: str,
    latency_column: str,
    *,
    where: Sequence[tuple[str, str]] = (),
    config: NetworkConfig | None = None,
    keep_degenerate: bool = False,
    one_per_class: bool = False,
    progress: Progress | None = None,
) -> Measured:
    """Return what a table measured.

    A row whose architecture or latency cannot be used is counted and named in ``skipped``; so are degenerate networks
    (what remains of them after export is a constant) unless ``keep_degenerate``, and further rows of a class where
    ``one_per_class``. Raises :class:`InvalidInput` for a file that is no such table, and where no row is left.
    """
    space = get_space(space_name)
    config = config or space.default_config
    skipped = Skipped()
    rows = []
    for line, row in _rows(path, (arch_column, latency_column, *(column for column, _ in where))):
        if None in row or None in row.values():  # how csv.DictReader keeps a row of another length than the header
            skipped.add("more or fewer fields than columns", line)
        elif all(row[column] == value for column, value in where):
            rows.append((line, row))
    specs: list[NetworkSpec] = []
    latencies: list[float] = []
    groups: list[str] = []
    seen: set[str] = set()
    for done, (line, row) in enumerate(rows):
        if progress is not None:
            progress(done, len(rows))
        used = _read_row(space, row[arch_column], row[latency_column], config, keep_degenerate)
        if isinstance(used, str):
            skipped.add(used, line)
        elif one_per_class and used[2] in seen:
            skipped.add("another row of its class is used", line)
        else:
            specs.append(used[0])
            latencies.append(used[1])
            groups.append(used[2])
            seen.add(used[2])
    if progress is not None:
        progress(len(rows), len(rows))
    if not specs:
        reasons = "; ".join(f"{reason} ({len(lines)})" for reason, lines in skipped.rows.items())
        raise InvalidInput(f"no row can be used: {reasons or 'none fits --where'}", field="--table")
    return Measured(tuple(specs), tuple(latencies), tuple(groups), skipped)


@dataclass(frozen=True, slots=True)
class Row:
    """One network of a table: as it is written there, as it was read, its isomorphism class and a latency in ms."""

    architecture: str
    spec: NetworkSpec
    group: str
    latency_ms: float


def read_range(
    path: Path,
    space_name: str,
    arch_column: str,
    latency_columns: Sequence[str],
    rows: tuple[int, int],
    config: NetworkConfig | None = None,
    *,
    option: str = "--table",
) -> dict[str, list[Row]]:
    """Return the rows FIRST to END - 1 of a table, counted from 0, by column of latencies; degenerate ones too.

    A row is left out where its architecture or that column's latency cannot be used. Raises :class:`InvalidInput`
    naming ``option`` for a file that is no such table, and for a column of which no row in the range can be used.
    """
    space = get_space(space_name)
    config = config or space.default_config
    found: dict[str, list[Row]] = {column: [] for column in latency_columns}
    faults: Counter[str] = Counter()
    for _, row in _rows(path, (arch_column, *latency_columns), option)[slice(*rows)]:
        if None in row or None in row.values():
            faults["more or fewer fields than columns"] += 1
            continue
        for column in latency_columns:
            used = _read_row(space, row[arch_column], row[column], config, keep_degenerate=True)
            if isinstance(used, str):
                faults[used] += 1
            else:
                found[column].append(Row(row[arch_column], used[0], used[2], used[1]))
    for column, usable in found.items():
        if not usable:
            reason = f": {faults.most_common(1)[0][0]}" if faults else ""
            message = f"no row from {rows[0]} to {rows[1] - 1} of {path.name} can be used for {column!r}{reason}"
            raise InvalidInput(message, field=option)
    return found


def first_of_each_class(measured: Measured) -> Measured:
    """Return the first row of each isomorphism class."""
    rows = list({group: row for row, group in reversed(list(enumerate(measured.groups)))}.values())[::-1]
    columns = (measured.specs, measured.latencies_ms, measured.groups)
    specs, latencies_ms, groups = (tuple(column[row] for row in rows) for column in columns)
    return Measured(specs, latencies_ms, groups, measured.skipped)  # type: ignore[arg-type]


def twins_agreement(measured: Measured) -> Repeatability | None:
    """Return how well rows of one isomorphism class, measured apart, agree with their median; None without such rows.

    Under a lowering that keeps dead branches they are different programs: then this is less than the repeatability.
    """
    return agreement(measured.groups, measured.latencies_ms)


def agreement(names: Sequence[str], latencies_ms: Sequence[float]) -> Repeatability | None:
    """Return how well the latencies of one name agree with their median; ``None`` where no name stands twice."""
    latencies: dict[str, list[float]] = {}
    for name, latency in zip(names, latencies_ms, strict=True):
        latencies.setdefault(name, []).append(latency)
    return repeatability(list(latencies.values()))


def _read_row(
    space: SearchSpace, architecture: str, latency: str, config: NetworkConfig, keep_degenerate: bool
) -> tuple[NetworkSpec, float, str] | str:
    """Return spec, latency in ms and class of a row, or the reason why it can't be used."""
    try:
        latency_ms = float(latency)
    except (TypeError, ValueError):
        return "the latency is not a number"
    if not (math.isfinite(latency_ms) and latency_ms > 0):
        return "the latency is not positive and finite"
    try:
        spec = _read_architecture(space, architecture, config)
        if spec.space != space.name:
            return f"not a network of {space.name}"
        degenerate = space.is_degenerate(spec)
    except InvalidInput:
        return "the architecture cannot be read"
    if degenerate and not keep_degenerate:
        return "degenerate: no input reaches the output"
    return spec, latency_ms, space.isomorphism_class(spec)


def _read_architecture(space: SearchSpace, text: str, config: NetworkConfig) -> NetworkSpec:
    """Read an architecture string, a spec as JSON, or the choices of the space's encoding, in a row."""
    if text.startswith("{"):
        return parse_network(read_json(text, "architecture"), "architecture", config)
    if re.fullmatch(r"\d+([ ,]+\d+)*", text):
        return space.decode(tuple(int(choice) for choice in re.findall(r"\d+", text)), config)
    return parse_network(text, "architecture", config)


def _rows(path: Path, columns: Sequence[str], option: str = "--table") -> list[tuple[int, dict[str, str]]]:
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            known = reader.fieldnames or ()
            for column in columns:
                if list(known).count(column) != 1:
                    fault = "two columns" if column in known else "no column"
                    raise InvalidInput(f"has {fault} {column!r}", field=option, remedy=f"columns: {', '.join(known)}")
            return [(reader.line_num, row) for row in reader]
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"{path} cannot be read as a table: {error}", field=option) from None
