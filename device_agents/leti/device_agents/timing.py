"""How a latency is measured: short passes, interleaved with a reference network, in shuffled order.

The clock of a shared processor changes over seconds, so two measurements of one network minutes apart differ by far
more than two networks measured side by side. What repeats is the *ratio* to a reference network measured milliseconds
before and after. One round over a batch of networks A, B, C is therefore::

    R A R C R B R        R: the reference, a few invokes; the order is drawn anew each round

and each turn of a network, with the two turns of the reference around it, is one :class:`~leti.core.measurement.Pass`.
Each turn begins with an untimed invoke, which brings the network's weights back into the caches.

A pass is *calm* if the reference ran equally fast before and after it, and near the fast end of what it did in this
batch: a processor that is slowed down slows networks unequally, so ratios are compared at full speed only. Networks
short of calm passes get further rounds; those that stay short are *noisy*.

Nothing here knows a runtime or reads a clock of its own: sessions and the clock are handed in.
"""

from __future__ import annotations

import dataclasses
import gc
import math
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from leti.core.errors import InvalidInput, MeasurementFailed
from leti.core.measurement import Pass
from leti.device_agents.backend import Session

ClockNs = Callable[[], int]
"""Nanoseconds from any fixed start, never backwards (``time.perf_counter_ns``)."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """Every number that the protocol depends on; each travels in the recipe of a measurement.

    ``warmup_window`` invokes are averaged; warm-up ends when two windows agree within ``warmup_tolerance``, and at the
    latest after ``warmup_invokes`` or ``warmup_ms``. A turn of a network is ``settle`` untimed invokes and as many
    timed ones as fill ``pass_ms`` (1 to ``pass_invokes``); a turn of the reference likewise with ``reference_ms`` and
    ``reference_invokes``. ``passes`` calm passes are wanted, in at most ``1 + extra_rounds`` times as many tries.
    A pass is calm if the reference's medians before and after differ by at most ``drift`` of the smaller, and its
    median is at most ``slowdown`` over the reference's fast end, its quantile ``fast_quantile`` in the batch. Fewer
    calm passes than ``calm_share`` of those wanted make a measurement noisy.
    """

    warmup_window: int = 3
    warmup_tolerance: float = 0.05
    warmup_invokes: int = 60
    warmup_ms: float = 150.0
    pass_ms: float = 10.0
    pass_invokes: int = 10
    reference_ms: float = 5.0
    reference_invokes: int = 5
    settle: int = 1
    passes: int = 16
    extra_rounds: float = 2.0
    drift: float = 0.05
    slowdown: float = 0.1
    fast_quantile: float = 0.1
    calm_share: float = 0.5

    def __post_init__(self) -> None:
        """Refuse numbers that no measurement can follow."""
        least = {"warmup_window": 1, "warmup_invokes": 2, "pass_invokes": 1, "reference_invokes": 1, "passes": 1}
        for name, value in self.pairs():
            if not math.isfinite(value) or value < least.get(name, 0):
                raise InvalidInput(f"must be {least.get(name, 0)} or more, not {value}", field=name)
        if self.fast_quantile > 1 or self.calm_share > 1:
            raise InvalidInput("must be at most 1", field="fast_quantile" if self.fast_quantile > 1 else "calm_share")

    @property
    def most_passes(self) -> int:
        """Passes after which a network is given up on."""
        return math.floor(self.passes * (1 + self.extra_rounds))

    def pairs(self) -> tuple[tuple[str, float], ...]:
        """Return every knob with its value, as a recipe keeps them."""
        return tuple((knob.name, float(getattr(self, knob.name))) for knob in dataclasses.fields(self))


@dataclass(frozen=True, slots=True)
class Timing:
    """What became of one network: its passes in order, or the error that ended it."""

    passes: tuple[Pass, ...]
    noisy: bool = False
    failure: MeasurementFailed | None = None


@dataclass(frozen=True, slots=True)
class _Turn:
    """One pass in the making: samples, the reference's around them, its median and its drift across the pass."""

    samples_ms: tuple[float, ...]
    around_ms: tuple[float, ...]
    reference_ms: float
    drift: float

    @classmethod
    def of(cls, samples: list[float], before: list[float], after: list[float]) -> _Turn:
        around = (*before, *after)
        low, high = sorted((statistics.median(before), statistics.median(after)))
        return cls(tuple(samples), around, statistics.median(around), high / low - 1)


@dataclass(slots=True)
class _Runner:
    """A session, its number of timed invokes a turn, its turns so far, and the failure that ended it."""

    session: Session
    invokes: int = 0
    turns: list[_Turn] = field(default_factory=list)
    failure: MeasurementFailed | None = None


def measure(
    sessions: Sequence[Session],
    reference: Session,
    protocol: Protocol,
    *,
    clock_ns: ClockNs,
    order: random.Random,
    keep_going: Callable[[], bool] = lambda: True,
) -> tuple[Timing, ...] | None:
    """Return the timing of each of ``sessions``, measured together; ``None`` if ``keep_going`` said no.

    A network that fails is left out of further rounds and carries its failure; a failing reference raises
    :class:`~leti.core.errors.MeasurementFailed`.
    """
    runners = [_Runner(session) for session in sessions]
    with _no_collection():
        pace = _Runner(reference)
        pace.invokes = _warm_up(reference, protocol, protocol.reference_ms, protocol.reference_invokes, clock_ns)
        for runner in runners:
            with _failures_of(runner):
                runner.invokes = _warm_up(runner.session, protocol, protocol.pass_ms, protocol.pass_invokes, clock_ns)
        while batch := _unfinished(runners, protocol):
            order.shuffle(batch)
            if not _round(batch, pace, protocol, clock_ns, keep_going):
                return None
    fast_ms = _fast_end(runners, protocol)
    return tuple(_timing(runner, fast_ms, protocol) for runner in runners)


def _round(
    batch: Sequence[_Runner],
    pace: _Runner,
    protocol: Protocol,
    clock_ns: ClockNs,
    keep_going: Callable[[], bool],
) -> bool:
    """Give each of ``batch`` one turn between two turns of the reference; return whether to go on."""
    before = _turn(pace, protocol, clock_ns)
    for runner in batch:
        if not keep_going():
            return False
        with _failures_of(runner):
            samples = _turn(runner, protocol, clock_ns)
        after = _turn(pace, protocol, clock_ns)
        if runner.failure is None:
            runner.turns.append(_Turn.of(samples, before, after))
        before = after
    return True


def _turn(runner: _Runner, protocol: Protocol, clock_ns: ClockNs) -> list[float]:
    """Return the milliseconds of each timed invoke of one turn."""
    invoke = runner.session.invoke
    for _ in range(protocol.settle):
        invoke()
    samples: list[float] = []
    for _ in range(runner.invokes):
        start_ns = clock_ns()
        invoke()
        samples.append(max(clock_ns() - start_ns, 1) / 1e6)
    return samples


def _warm_up(session: Session, protocol: Protocol, turn_ms: float, most: int, clock_ns: ClockNs) -> int:
    """Run until the time is stable; return how many invokes fill ``turn_ms``, from 1 to ``most``."""
    samples: list[float] = []
    window = protocol.warmup_window
    while True:
        start_ns = clock_ns()
        session.invoke()
        samples.append(max(clock_ns() - start_ns, 1) / 1e6)
        last, previous = samples[-window:], samples[-2 * window : -window]
        settled = len(previous) == window and (
            abs(statistics.median(last) / statistics.median(previous) - 1) <= protocol.warmup_tolerance
        )
        if settled or len(samples) >= protocol.warmup_invokes or sum(samples) >= protocol.warmup_ms:
            return max(1, min(most, math.ceil(turn_ms / statistics.median(last))))


def _unfinished(runners: Sequence[_Runner], protocol: Protocol) -> list[_Runner]:
    """Return the networks that lack calm passes and may still have more."""
    fast_ms = _fast_end(runners, protocol)
    return [
        runner
        for runner in runners
        if runner.failure is None
        and len(runner.turns) < protocol.most_passes
        # The fast end is only known once some rounds are done: the wanted number of passes is always tried first.
        and (len(runner.turns) < protocol.passes or sum(_calm(runner, fast_ms, protocol)) < protocol.passes)
    ]


def _calm(runner: _Runner, fast_ms: float, protocol: Protocol) -> list[bool]:
    """Return for each turn of ``runner`` whether the reference kept calm around it."""
    slowest_ms = fast_ms * (1 + protocol.slowdown)
    return [turn.drift <= protocol.drift and turn.reference_ms <= slowest_ms for turn in runner.turns]


def _fast_end(runners: Sequence[_Runner], protocol: Protocol) -> float:
    """Return the quantile of the reference's medians over all passes of the batch, in ms; 0 before the first."""
    medians = sorted(turn.reference_ms for runner in runners for turn in runner.turns)
    return medians[round(protocol.fast_quantile * (len(medians) - 1))] if medians else 0.0


def _timing(runner: _Runner, fast_ms: float, protocol: Protocol) -> Timing:
    if runner.failure is not None:
        return Timing((), failure=runner.failure)
    calm = _calm(runner, fast_ms, protocol)
    passes = tuple(
        Pass(turn.samples_ms, turn.around_ms, is_calm) for turn, is_calm in zip(runner.turns, calm, strict=True)
    )
    return Timing(passes, noisy=sum(calm) < protocol.calm_share * protocol.passes)


@contextmanager
def _failures_of(runner: _Runner) -> Iterator[None]:
    """Keep a failure of one network from ending the others."""
    try:
        yield
    except MeasurementFailed as error:
        runner.failure = error


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python's garbage collector from running inside a sample."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
