"""The table of operators that ``benchmark_model --enable_op_profiling=true`` writes, as CSV or for reading.

The file holds the initialisation first, then the regular runs; of each, the table in the order of running, the same
sorted by time, and sums by type; and so for each subgraph, and for the inside of delegates. Columns are found by their
heads: older tools have one more. An operator's average is one of its calls: times the calls in a run, it is its share
of the run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from leti.core.measurement import OperatorTime
from leti.device_agents.android.benchmark_model import DELEGATE_NAMES, cleaned, unreadable

_TITLE: Final = re.compile(r"={10,} (.+?) ={10,}")
_RUN_ORDER: Final = "run order"
_REGULAR: Final = "Regular Benchmark Runs"
_INITIALISATION: Final = "Benchmark Initialization"
_INSIDE: Final = "Delegate internal"

_HEADS: Final[Mapping[str, str]] = MappingProxyType(
    {"node type": "type", "avg ms": "avg", "avg_ms": "avg", "times called": "calls", "name": "name"}
)


@dataclass(frozen=True, slots=True)
class _Row:
    """One operator: its type, its average in ms, its calls in a run, and where it stands.

    What a delegate ran stands in a ``section`` of its own, or ``inline`` among the others of its ``table``.
    """

    type: str
    avg_ms: float
    calls: float
    place: Literal["table", "inline", "section"]

    @property
    def is_delegate(self) -> bool:
        """Whether this is the one node that a delegate looks like from outside."""
        return self.place == "table" and "delegate" in self.type.lower()


def parse_profile(text: str) -> tuple[OperatorTime, ...]:
    """Return the operators of the regular runs in their order, each with the one time that the tool gives (µs).

    Where a delegate tells what it ran, those operators stand in its place. Raises
    :class:`~leti.core.errors.MeasurementFailed` for a text without a table of operators.
    """
    rows = list(_rows(cleaned(text)))
    if not rows:
        raise unreadable(text, "it holds no table of operators")
    delegates = [row for row in rows if row.is_delegate]
    unit = _unit(delegates[0].type if delegates else "")
    told = any(row.place != "table" for row in rows)
    section = [row for row in rows if row.place == "section"]
    found: list[OperatorTime] = []
    for row in rows:
        if row.is_delegate and told:
            found += [_operator(each, unit) for each in section]
            section = []
        elif row.place == "table":
            found.append(_operator(row, _unit(row.type) if row.is_delegate else "builtin"))
        elif row.place == "inline":
            found.append(_operator(row, unit))
    return (*found, *(_operator(each, unit) for each in section))


def _operator(row: _Row, unit: str) -> OperatorTime:
    return OperatorTime(row.type, unit, (row.avg_ms * row.calls * 1e3,))


def _unit(node_type: str) -> str:
    """Return the delegate that a node of this type is; XNNPACK is the one that shows its inside without a node."""
    named = (name for name, pattern in DELEGATE_NAMES.items() if pattern.search(node_type))
    return next(named, "delegate" if node_type else "xnnpack")


def _rows(text: str) -> Iterator[_Row]:
    """Yield the rows of every table in the order of running that belongs to the regular runs."""
    regular = _REGULAR not in text
    inside = False
    heads: list[str] | None = None
    wanted = False
    for line in text.split("\n"):
        if _REGULAR in line or _INITIALISATION in line:
            regular, inside, wanted = _REGULAR in line, False, False
        elif _INSIDE in line:
            inside, wanted = True, False
        elif title := _TITLE.search(line):
            wanted, heads = regular and title[1].strip().lower() == _RUN_ORDER, None
        elif not line.strip():
            wanted = False
        elif wanted and heads is None:
            heads = [_HEADS.get(cell.strip("[] ").lower(), "") for cell in _cells(line)]
        elif wanted and heads is not None and (row := _row(heads, _cells(line), inside)):
            yield row


def _cells(line: str) -> list[str]:
    """Return the cells of a line: of CSV where it has its separator, else of the table, whose cells tabs divide."""
    if ", " in line and not line.startswith("\t"):
        return [cell.strip() for cell in line.split(", ")]
    return [cell.strip() for cell in line.strip("\t ").split("\t")]


def _row(heads: Sequence[str], cells: Sequence[str], inside: bool) -> _Row | None:
    """Return a row of type, numbers and name.

    Types hold the separator unquoted ("Convolution (NHWC, F32) GEMM"), and so may names: the type is the shortest
    that leaves numbers in all columns of numbers.
    """
    numbers = len(heads) - 2
    if heads[:1] != ["type"] or heads[-1:] != ["name"] or "avg" not in heads:
        return None
    for words in range(1, len(cells) - numbers):
        values = [_value(cell) for cell in cells[words : words + numbers]]
        if None in values:
            continue
        named = dict(zip(heads[1:-1], values, strict=True))
        node_type, name = ", ".join(cells[:words])[:200], ", ".join(cells[words + numbers :])
        place: Literal["table", "inline", "section"] = "inline" if name.startswith("Delegate/") else "table"
        if math.isnan(named["avg"] or 0.0) or math.isnan(named.get("calls") or 0.0):
            continue
        return _Row(node_type, named["avg"] or 0.0, max(named.get("calls") or 1.0, 1.0), "section" if inside else place)
    return None


def _value(cell: str) -> float | None:
    """Return a number that is not negative; percentages carry their sign, and are not numbers in an empty profile."""
    try:
        value = float(cell.removesuffix("%"))
    except ValueError:
        return None
    return value if 0 <= value < 1e9 or (math.isnan(value) and cell.endswith("%")) else None
