"""What came of a compression: plans, what they were to take and do take, and what is to be said of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, Self, final, get_args

from leti.compression.files import write_whole
from leti.compression.measuring.meter import Reading
from leti.compression.searching.calibrating import Calibration, Errors
from leti.compression.training.comparing import Comparison
from leti.core.codec import from_json, to_json
from leti.core.device import ModelFormat
from leti.core.errors import ArtifactError, InvalidInput, VersionMismatch
from leti.core.patches import Patch

FORMAT: Final = "leti-compression"
VERSION: Final = 1
"""Of ``result.json``: raised when its form changes."""

RESULT: Final = "result.json"

Verdict = Literal["met", "met by precision", "missed", "too much is lost", "infeasible", "not measured"]
"""Whether the best network keeps its budget by measurement and its accuracy; ``met by precision``: int8 was enough."""


@final
@dataclass(frozen=True, slots=True)
class Candidate:
    """One compressed form of the network; what was not found out is ``None``.

    ``planner`` is the name of what proposed it, ``budget_ms`` what it was to keep, and ``sensitivity`` the rise of the
    loss that the plan added up. ``predicted_ms`` is what the table said when it was proposed, ``high_ms`` its upper
    bound. ``accuracy`` is after fine-tuning.
    """

    planner: str
    patch: Patch
    budget_ms: float
    macs: float
    params: int
    predicted_ms: float
    high_ms: float
    sensitivity: float = 0.0
    reading: Reading | None = None
    accuracy: float | None = None
    size_bytes: int | None = None
    epochs: int = 0


@final
@dataclass(frozen=True, slots=True)
class Round:
    """The networks that a round measured, and the calibration that all so far gave: for the next round."""

    candidates: tuple[Candidate, ...]
    calibration: Calibration | None


@final
@dataclass(frozen=True, slots=True)
class Layer:
    """An operator that computes, before and after: its name, shapes, channels, MACs, and predicted latency in ms.

    ``after`` says what became of it in words, such as "64 of 96 channels" or "Tucker-2 of ranks 24, 24".
    """

    name: str
    kind: str
    shape: str
    after: str
    macs_before: float
    macs_after: float
    predicted_ms_before: float | None
    predicted_ms_after: float | None


@final
@dataclass(frozen=True, slots=True)
class Compression:
    """The answer: the best network that was found, its rivals, the front, and how far the predictions held.

    ``budget_ms`` is what was asked for, ``reachable_ms`` the least that any plan is predicted to take. ``front`` has
    the plans of several budgets, fastest first, none that another beats in both predicted latency and sensitivity.
    ``rivals`` answered the same budget: what measures them and trains them treats them alike. ``comparison`` is the
    best network beside the baseline, on the same samples. ``held_out`` are the errors of the calibrated table on
    networks that it was not calibrated with. ``notes`` say in a sentence each what was decided and why, in order.
    """

    platform: str
    verdict: Verdict
    summary: str
    budget_ms: float
    reachable_ms: float
    max_drop: float
    baseline: Candidate
    best: Candidate | None
    front: tuple[Candidate, ...]
    rivals: tuple[Candidate, ...]
    rounds: tuple[Round, ...]
    layers: tuple[Layer, ...]
    comparison: Comparison | None
    held_out: Errors | None
    notes: tuple[str, ...]
    seconds: dict[str, float] = field(default_factory=dict)
    models: dict[ModelFormat, bytes] = field(default_factory=dict, repr=False)

    def save(self, out: Path) -> None:
        """Write ``result.json``, which has all but the models, and the models beside it, into a folder.

        Raises :class:`~leti.core.errors.ArtifactError` where that cannot be written to.
        """
        try:
            out.mkdir(parents=True, exist_ok=True)
            for model_format, content in self.models.items():
                write_whole(out / f"model.{model_format}", content)
            said = to_json(replace(self, models={}))
            del said["models"]
            text = json.dumps({"format": FORMAT, "version": VERSION, "compression": said}, indent=1)
            write_whole(out / RESULT, text.encode())
        except OSError as error:
            raise ArtifactError(f"{out} cannot be written to: {error.strerror}", field="out") from error

    @classmethod
    def load(cls, out: Path) -> Self:
        """Return what was saved into a folder, with its models.

        Raises :class:`~leti.core.errors.ArtifactError` where there is none, or it is damaged, and
        :class:`~leti.core.errors.VersionMismatch` where a later version wrote it.
        """
        try:
            read = json.loads((out / RESULT).read_text())
            if read["format"] != FORMAT:
                raise ValueError("it is something else")
            if read["version"] != VERSION:
                raise VersionMismatch(f"{RESULT} is of the version {read['version']!r}", field="out")
            found = from_json(cls, {**read["compression"], "models": {}})
            models: dict[ModelFormat, bytes] = {
                model_format: path.read_bytes()
                for model_format in get_args(ModelFormat)
                if (path := out / f"model.{model_format}").exists()
            }
            return replace(found, models=models)
        except (OSError, ValueError, KeyError, TypeError, InvalidInput) as error:
            raise ArtifactError(f"{out} holds no result of a compression: {error}", field="out") from error
