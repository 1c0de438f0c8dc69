"""The expensive objective: asked once of each architecture, and what it said kept in a file that a search goes on from.

The file has a line for each architecture, in JSON. A line is written when its objective is known, so that whatever ends
the process takes with it what was being evaluated, no more. Searches of one objective and space may share a file: other
budgets, strategies and seeds ask only of what is new.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, SupportsFloat, final

from leti.compression.architecture.variation import Architecture, Choices
from leti.compression.naming import named_function
from leti.core.codec import to_json
from leti.core.errors import ArtifactError, Conflict, InvalidInput
from leti.core.graph import Graph
from leti.core.spec import NetworkConfig, NetworkSpec
from leti.core.wire import Zero
from leti.generator.lowering import lower

Objective = Callable[[NetworkSpec, Graph], float | Mapping[str, float]]
"""What a network is worth: a number, or several by name, each the better the larger."""

SINGLE: Final = "objective"
"""The name of an objective that is a number alone."""

EVALUATIONS: Final = "evaluations.jsonl"
_MOST_REASON: Final = 500


@final
@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the objective said of an architecture: values by name, or why there are none; and how long that took."""

    values: Mapping[str, float] = field(default_factory=dict)
    failure: str = ""
    duration_s: float = 0.0


def read_objective(objective: Objective | str) -> tuple[Objective, str]:
    """Return an objective that may be given as ``package.module:function``, and its name."""
    if isinstance(objective, str):
        found: Any = named_function(objective, "objective")
        return found, objective
    return objective, f"{objective.__module__}:{getattr(objective, '__qualname__', type(objective).__qualname__)}"


@final
class Evaluations:
    """What an objective said, of each architecture once; kept in ``folder`` where one is given.

    Raises :class:`~leti.core.errors.Conflict` where the folder is another objective's or another space's, and
    :class:`~leti.core.errors.ArtifactError` where its file is damaged.
    """

    def __init__(
        self, objective: Objective | str, space: str, config: NetworkConfig, zero: Zero, folder: Path | None
    ) -> None:
        self._objective, name = read_objective(objective)
        self._zero: Zero = zero
        self._about = {"objective": name, "space": space, "config": to_json(config), "zero": zero}
        self._known: dict[Choices, Evaluation] = {}
        self._file = None if folder is None else folder / EVALUATIONS
        self.made = 0
        if self._file is not None:
            self._open(self._file)

    def known(self, architecture: Architecture) -> bool:
        """Return whether an architecture was evaluated already, now or by what wrote the file."""
        return architecture.choices in self._known

    def of(self, architecture: Architecture) -> Evaluation:
        """Return what the objective says of an architecture: asked only where it was not before.

        What it raises, and what is no number, becomes the reason of a failure, which is not tried again.
        """
        found = self._known.get(architecture.choices)
        if found is None:
            found = self._known[architecture.choices] = self._evaluated(architecture)
            self.made += 1
            self._keep({"choices": architecture.choices, **to_dict(found)})
        return found

    def _evaluated(self, architecture: Architecture) -> Evaluation:
        started = time.perf_counter()
        values, failure = {}, ""
        try:
            values = _read_values(self._objective(architecture.spec, lower(architecture.spec, self._zero)))
        except Exception as error:  # noqa: BLE001 - whatever the user's code raises
            failure = f"{type(error).__name__}: {error}"[:_MOST_REASON]
        return Evaluation(values, failure, time.perf_counter() - started)

    def _keep(self, line: Mapping[str, object]) -> None:
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, allow_nan=False) + "\n")

    def _open(self, file: Path) -> None:
        """Read what is known; begin the file where there is none."""
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            text = file.read_text(encoding="utf-8") if file.exists() else ""
        except (OSError, ValueError) as error:
            raise InvalidInput(f"{file} cannot be used: {error}", field="out", remedy="give another folder") from error
        whole = text[: text.rfind("\n") + 1]
        if whole != text:  # a process was ended while it wrote the last line
            with file.open("r+b") as opened:
                opened.truncate(len(whole.encode()))
        lines = [self._read_line(line, i + 1) for i, line in enumerate(whole.splitlines())]
        if not lines:
            self._keep(self._about)
            return
        if lines[0] != self._about:
            raise Conflict(
                f"{file} is of another objective, space or config: {json.dumps(lines[0])}",
                field="out",
                remedy="give another folder",
            )
        for number, line in enumerate(lines[1:], 2):
            try:
                made = Evaluation(dict(line["values"]), str(line["failure"]), float(line["duration_s"]))
                self._known[tuple(map(int, line["choices"]))] = made
            except (KeyError, TypeError, ValueError) as error:
                raise ArtifactError(f"line {number} of {file} is damaged: {error!r}", field="out") from error

    def _read_line(self, line: str, number: int) -> dict[str, Any]:
        try:
            read = json.loads(line)
        except ValueError as error:
            raise ArtifactError(f"line {number} of {self._file} is damaged: {error}", field="out") from error
        if not isinstance(read, dict):
            raise ArtifactError(f"line {number} of {self._file} is damaged", field="out")
        return read


def to_dict(evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation for JSON."""
    return {
        "values": dict(evaluation.values),
        "failure": evaluation.failure,
        "duration_s": round(evaluation.duration_s, 3),
    }


def _read_values(said: object) -> dict[str, float]:
    """Return values by name; raise :class:`InvalidInput` for what are no finite numbers."""
    named = dict(said) if isinstance(said, Mapping) else {SINGLE: said}
    if not named:
        raise InvalidInput("the objective returned no values")
    values: dict[str, float] = {}
    for name, value in named.items():
        if not isinstance(value, SupportsFloat) or not math.isfinite(value):
            raise InvalidInput(f"{name} is {value!r}, no finite number")
        values[str(name)] = float(value)
    return values
