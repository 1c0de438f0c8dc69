"""A meter: networks are measured on a device, interleaved with the one that they were made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from leti.core.graph import Graph

Progress = Callable[[int, int], None]
"""Told how many networks are measured, and of how many."""


@final
@dataclass(frozen=True, slots=True)
class Subject:
    """What is to be measured: the graph that runs, and the model file where there is one.

    Without a file one is written with random weights, which take as long.
    """

    graph: Graph
    content: bytes = b""


@final
@dataclass(frozen=True, slots=True)
class Reading:
    """What a network takes on the device.

    ``ratio`` is its latency over the baseline's, with the interval of its median at 90 %: what repeats. ``latency_ms``
    is that ratio times the baseline's latency. ``is_interleaved`` says that both were measured in turns; where they
    could not be, the ratio is of two measurements. A ``noisy`` reading had too few calm passes.
    """

    latency_ms: float
    ratio: float
    low_ratio: float
    high_ratio: float
    is_interleaved: bool = True
    noisy: bool = False


class Meter(ABC):
    """A device that measures networks beside a baseline.

    ``takes_files`` says whether a subject's own file is what is measured, where it has one.
    """

    takes_files: ClassVar[bool]

    @abstractmethod
    def measure(
        self, baseline: Subject, subjects: Sequence[Subject], *, progress: Progress | None = None
    ) -> tuple[Reading, ...]:
        """Return the reading of the baseline, whose ratio is 1, then one of each subject, in order.

        Raises :class:`~leti.core.errors.MeasurementFailed` where one cannot be measured.
        """
