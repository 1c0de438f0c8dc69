"""A bench: a device with a runtime on it, where a batch of networks is measured together.

This machine is one (:mod:`leti.device_agents.desktop.bench`: a child process with limits), a phone behind adb another
(:mod:`leti.device_agents.android.bench`). Agents know benches only.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from leti.core.device import ModelFormat, Platform
from leti.core.errors import MeasurementFailed
from leti.core.measurement import OperatorTime, Pass, ProcessSummary, Recipe

KeepGoing = Callable[[], bool]
"""Asked again and again while a bench works; false stops it soon."""

Waiting = Callable[[str], None]
"""Told why a bench waits (a hot device), and the empty string when it goes on."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model file to be measured, and whether the times of its operators are wanted as well."""

    model: bytes
    profile: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one model: all of a :class:`~leti.core.measurement.Measurement` that a bench can know."""

    passes: tuple[Pass, ...]
    noisy: bool
    recipe: Recipe
    grain: Literal["invoke", "process"] = "invoke"
    init_ms: float | None = None
    first_inference_ms: float | None = None
    peak_memory_bytes: int | None = None
    processes: tuple[ProcessSummary, ...] = ()
    operator_times: tuple[OperatorTime, ...] = ()


Outcome = Finding | MeasurementFailed
"""What became of one model: a finding, or the error that ended it (a value here, never raised)."""


class Bench(Protocol):
    """A platform that is at hand, and the measuring of batches on it."""

    platform: Platform
    model_format: ModelFormat

    @abstractmethod
    def measure(
        self, wanted: Sequence[Wanted], reference: bytes, *, keep_going: KeepGoing, waiting: Waiting
    ) -> tuple[Outcome, ...] | None:
        """Return the outcome of each of ``wanted``, measured together beside ``reference``, in order.

        ``None`` if ``keep_going`` said no. A model that crashes the runtime, hangs or takes too much memory costs its
        own outcome alone. A device that is hot is waited for, within limits. Raises
        :class:`~leti.core.errors.DeviceFault` where the device is at fault, and
        :class:`~leti.core.errors.MeasurementFailed` where the reference network itself cannot be measured.
        """

    @abstractmethod
    def effort(self) -> Mapping[str, float]:
        """Return the seconds that went into each part of measuring so far, by the name of the part.

        ``candidates`` and ``reference`` are timed samples after warm-up and ``gates`` is waiting for the device; all
        other names are overhead (``start``, ``load``, ``warm-up``, ``settle``, ``profile``, ``other``).
        """

    @abstractmethod
    def close(self) -> None:
        """Free what the bench holds: processes, locks, files on the device. Closing twice is harmless."""
