"""Whose turn it is: the platforms of one device are served one after the other, those without jobs less often."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, final

from leti.client import Backoff
from leti.core.device import Platform
from leti.device_agents.batch import BatchRunner
from leti.device_agents.bench import Bench

SLOWEST: Final = 8
"""How many times ``poll_s`` may lie between two questions at most."""

TROUBLE: Final = Backoff(1.0, 300.0)
"""The pauses of a platform whose reference network cannot be measured."""


@final
@dataclass(slots=True, eq=False)
class Stand:
    """A bench in turn: when it is due, when it last had nothing to do, and how often it failed in a row."""

    bench: Bench
    runner: BatchRunner
    due_s: float = float("-inf")
    empty_s: float = float("-inf")
    failures: int = 0
    backoff: Backoff | None = None
    pauses: Iterator[float] = field(default_factory=lambda: iter(()))

    @property
    def platform(self) -> Platform:
        """The platform that it measures."""
        return self.bench.platform


@final
class Rota:
    """Takes benches in turn. The jobs of one do not keep those of another waiting for longer than one batch.

    A platform without jobs is asked for after ``poll_s``, and then less and less often: all of them together about
    once in ``poll_s``. ``clock`` gives seconds.
    """

    def __init__(self, benches: Sequence[Bench], *, poll_s: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._patience = Backoff(poll_s, poll_s * min(1 + len(benches), SLOWEST))
        self._turns = deque(Stand(bench, BatchRunner(bench)) for bench in benches)

    def stands(self) -> tuple[Stand, ...]:
        """Return the benches, the next first."""
        return tuple(self._turns)

    def drop(self, stand: Stand) -> None:
        """Take a bench out for good."""
        self._turns.remove(stand)

    def next(self) -> Stand | None:
        """Return the bench that has waited longest among those that are due, or ``None`` where none is."""
        now = self._clock()
        return next((stand for stand in self._turns if stand.due_s <= now), None)

    def wait_s(self) -> float:
        """Return how long it is until one is due."""
        return max(0.0, min(stand.due_s for stand in self._turns) - self._clock())

    def worked(self, stand: Stand) -> None:
        """Say that it had jobs, and did them: it may have more, and is asked for after all others."""
        stand.failures, stand.backoff, stand.due_s = 0, None, float("-inf")
        self._last(stand)

    def empty(self, stand: Stand, *, by_s: float = float("inf"), next_s: float | None = None) -> None:
        """Say that it had nothing to do; it is asked again at the moment ``by_s`` where that is still to come.

        Where the service was to hold the question until the moment ``next_s``, it is asked again from then on.
        """
        stand.empty_s = self._clock()
        self._pause(stand, self._patience)
        if next_s is not None:
            stand.due_s = next_s
        if by_s > stand.empty_s:
            stand.due_s = min(stand.due_s, by_s)

    def failed(self, stand: Stand) -> None:
        """Say that it had jobs, and could not measure."""
        stand.failures += 1
        self._pause(stand, TROUBLE)

    def all_empty_since(self, moment_s: float) -> bool:
        """Return whether every bench was found without jobs at this moment or later."""
        return all(stand.empty_s >= moment_s for stand in self._turns)

    def _pause(self, stand: Stand, backoff: Backoff) -> None:
        if stand.backoff is not backoff:  # what it waited for before was something else
            stand.backoff, stand.pauses = backoff, backoff.delays()
        stand.due_s = self._clock() + next(stand.pauses)
        self._last(stand)

    def _last(self, stand: Stand) -> None:
        self._turns.remove(stand)
        self._turns.append(stand)
