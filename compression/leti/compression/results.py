"""What came of a compression: plans, what they were to take and do take, and what is to be said of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, final

from leti.compression.measuring.meter import Reading
from leti.compression.searching.calibrating import Calibration, Errors
from leti.compression.training.comparing import Comparison
from leti.core.device import ModelFormat
from leti.core.patches import Patch

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
