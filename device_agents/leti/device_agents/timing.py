"""How a latency is measured: short passes, interleaved with a reference network, in shuffled order.

The clock of a shared processor changes over seconds, so two measurements of one network minutes apart differ by far
more than two networks measured side by side. What repeats is the *ratio* to a reference network measured milliseconds
before and after. One round over a batch of networks A, B, C is therefore::

    R A R C R B R        R: the reference, a few invokes; the order is drawn anew each round

and each turn of a network, with the two turns of the reference around it, is one :class:`~leti.core.measurement.Pass`.
Each turn begins with an untimed invoke, which brings the network's weights back into the caches.

A pass is *calm* if the reference ran equally fast before and after it, and near the fast end of what it did in this
batch: a processor that is slowed down slows networks unequally, so ratios are compared at full speed only. And the
network itself must be near the fast end of its own ratios, or something ran between the two turns of the reference.
Networks short of calm passes get further rounds; those that stay short are *noisy*.

Nothing here knows a runtime or reads a clock: it is handed things that can be timed. On a desktop one is a session and
a clock (:class:`Clocked`); on a phone it is a whole process of a benchmark tool, and a turn is one such process.
"""

from __future__ import annotations

import abc
import dataclasses
import gc
import math
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import final

from typing_extensions import override

from leti.core.errors import DeviceFault, InvalidInput, MeasurementFailed
from leti.core.measurement import Pass
from leti.device_agents.backend import Session

ClockNs = Callable[[], int]
"""Nanoseconds from any fixed start, never backwards (``time.perf_counter_ns``)."""


class Timed(abc.ABC):
    """Something that can be run, and tells how long it took."""

    @abc.abstractmethod
    def sample_ms(self) -> float:
        """Run once, at the grain of what measures; return milliseconds above 0.

        Raises :class:`~leti.core.errors.MeasurementFailed` where it cannot be run, and
        :class:`~leti.core.errors.DeviceFault`, which ends the whole batch, where the device is at fault.
        """


@final
class Clocked(Timed):
    """A session's invokes by a clock of this machine."""

    def __init__(self, session: Session, clock_ns: ClockNs) -> None:
        self._invoke = session.invoke
        self._clock_ns = clock_ns

    @override
    def sample_ms(self) -> float:
        start_ns = self._clock_ns()
        self._invoke()
        return max(self._clock_ns() - start_ns, 1) / 1e6


@dataclass(frozen=True, slots=True)
class Protocol:
    """Every number that the protocol depends on; each travels in the recipe of a measurement.

    ``warmup_window`` invokes are averaged; warm-up ends when two windows agree within ``warmup_tolerance``, and at the
    latest after ``warmup_invokes`` or ``warmup_ms``. A turn of a network is ``settle`` untimed invokes (none for
    networks that take longer than ``settle_under_ms``) and as many timed ones as fill ``pass_ms`` (1 to
    ``pass_invokes``); a turn of the reference likewise with ``reference_ms`` and ``reference_invokes``. ``passes`` calm
    passes are wanted; what is not calm is measured again, each pass at most ``retries`` times.
    A pass is calm if the reference's medians before and after differ by at most ``drift`` of the smaller, its median is
    at most ``slowdown`` over the reference's fast end, its quantile ``fast_quantile`` in the batch, and the ratio is at
    most ``slowdown`` over that quantile of the network's ratios in such passes. Fewer calm passes than ``calm_share``
    of those wanted make a measurement noisy.
    """

    warmup_window: int = 3
    warmup_tolerance: float = 0.05
    warmup_invokes: int = 60
    warmup_ms: float = 150.0
    pass_ms: float = 15.0
    pass_invokes: int = 15
    reference_ms: float = 8.0
    reference_invokes: int = 8
    settle: int = 1
    settle_under_ms: float = 10.0
    passes: int = 12
    retries: int = 3
    drift: float = 0.05
    slowdown: float = 0.1
    fast_quantile: float = 0.1
    calm_share: float = 0.5

    def __post_init__(self) -> None:
        """Refuse numbers that no measurement can follow."""
        least = {"warmup_window": 1, "warmup_invokes": 1, "pass_invokes": 1, "reference_invokes": 1, "passes": 1}
        for name, value in self.pairs():
            if not math.isfinite(value) or value < least.get(name, 0):
                raise InvalidInput(f"must be {least.get(name, 0)} or more, not {value}", field=name)
        if self.fast_quantile > 1 or self.calm_share > 1:
            raise InvalidInput("must be at most 1", field="fast_quantile" if self.fast_quantile > 1 else "calm_share")

    @property
    def most_passes(self) -> int:
        """Passes after which a network is given up on."""
        return self.passes * (1 + self.retries)

    def pairs(self) -> tuple[tuple[str, float], ...]:
        """Return every knob with its value, as a recipe keeps them."""
        return tuple((knob.name, float(getattr(self, knob.name))) for knob in dataclasses.fields(self))


@dataclass(frozen=True, slots=True)
class Timing:
    """What became of one network: its passes in order, or the error that ended it."""

    passes: tuple[Pass, ...]
    noisy: bool = False
    failure: MeasurementFailed | None = None


@dataclass(slots=True)
class Effort:
    """Where the time of a batch went, in ms: timed samples of candidates and reference, warm-up, untimed samples."""

    candidates_ms: float = 0.0
    reference_ms: float = 0.0
    warm_up_ms: float = 0.0
    settle_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Timings:
    """The timing of each network of a batch, in order, and the effort that all of them took together."""

    items: tuple[Timing, ...]
    effort: Effort


@dataclass(frozen=True, slots=True)
class _Turn:
    """One pass in the making: samples, the reference's around them, its median and its drift, and the ratio to it."""

    samples_ms: tuple[float, ...]
    around_ms: tuple[float, ...]
    reference_ms: float
    drift: float
    ratio: float

    @classmethod
    def of(cls, samples: list[float], before: list[float], after: list[float]) -> _Turn:
        around = (*before, *after)
        low, high = sorted((statistics.median(before), statistics.median(after)))
        reference_ms = statistics.median(around)
        return cls(tuple(samples), around, reference_ms, high / low - 1, statistics.median(samples) / reference_ms)


@dataclass(slots=True)
class _Runner:
    """What is timed, its samples a turn (settling, timed), its turns so far, and the failure that ended it."""

    timed: Timed
    settle: int = 0
    samples: int = 0
    turns: list[_Turn] = field(default_factory=list)
    failure: MeasurementFailed | None = None


def measure(
    networks: Sequence[Timed],
    reference: Timed,
    protocol: Protocol,
    *,
    order: random.Random,
    keep_going: Callable[[], bool] = lambda: True,
) -> Timings | None:
    """Return the timing of each of ``networks``, measured together; ``None`` if ``keep_going`` said no.

    A network that fails is left out of further rounds and carries its failure; a failing reference raises
    :class:`~leti.core.errors.MeasurementFailed`, and a failing device :class:`~leti.core.errors.DeviceFault`.
    """
    runners = [_Runner(timed) for timed in networks]
    effort = Effort()
    with _no_collection():
        pace = _Runner(reference)
        _warm_up(pace, protocol, protocol.reference_ms, protocol.reference_invokes, effort)
        for runner in runners:
            with _failures_of(runner):
                _warm_up(runner, protocol, protocol.pass_ms, protocol.pass_invokes, effort)
        while batch := _unfinished(runners, protocol):
            order.shuffle(batch)
            if not _round(batch, pace, effort, keep_going):
                return None
    fast_ms = _fast_end(runners, protocol)
    return Timings(tuple(_timing(runner, fast_ms, protocol) for runner in runners), effort)


def _round(batch: Sequence[_Runner], pace: _Runner, effort: Effort, keep_going: Callable[[], bool]) -> bool:
    """Give each of ``batch`` one turn between two turns of the reference; return whether to go on."""
    before = _turn(pace, effort)
    effort.reference_ms += sum(before)
    for runner in batch:
        if not keep_going():
            return False
        with _failures_of(runner):
            samples = _turn(runner, effort)
            effort.candidates_ms += sum(samples)
        after = _turn(pace, effort)
        effort.reference_ms += sum(after)
        if runner.failure is None:
            runner.turns.append(_Turn.of(samples, before, after))
        before = after
    return True


def _turn(runner: _Runner, effort: Effort) -> list[float]:
    """Return the milliseconds of each timed sample of one turn."""
    sample_ms = runner.timed.sample_ms
    for _ in range(runner.settle):
        effort.settle_ms += sample_ms()
    return [sample_ms() for _ in range(runner.samples)]


def _warm_up(runner: _Runner, protocol: Protocol, turn_ms: float, most: int, effort: Effort) -> None:
    """Run until the time is stable; settle how many samples make a turn: what fills ``turn_ms``, from 1 to ``most``."""
    samples: list[float] = []
    window = protocol.warmup_window
    while True:
        samples.append(runner.timed.sample_ms())
        last, previous = samples[-window:], samples[-2 * window : -window]
        settled = len(previous) == window and (
            abs(statistics.median(last) / statistics.median(previous) - 1) <= protocol.warmup_tolerance
        )
        if settled or len(samples) >= protocol.warmup_invokes or sum(samples) >= protocol.warmup_ms:
            break
    effort.warm_up_ms += sum(samples)
    typical_ms = statistics.median(last)
    runner.samples = max(1, min(most, math.ceil(turn_ms / typical_ms)))
    runner.settle = protocol.settle if typical_ms < protocol.settle_under_ms else 0


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
    """Return for each turn of ``runner`` whether the reference kept calm around it, and the network in it."""
    slowest_ms = fast_ms * (1 + protocol.slowdown)
    steady = [turn.drift <= protocol.drift and turn.reference_ms <= slowest_ms for turn in runner.turns]
    ratios = [turn.ratio for turn, is_steady in zip(runner.turns, steady, strict=True) if is_steady]
    largest = _quantile(ratios, protocol.fast_quantile) * (1 + protocol.slowdown)
    return [is_steady and turn.ratio <= largest for turn, is_steady in zip(runner.turns, steady, strict=True)]


def _fast_end(runners: Sequence[_Runner], protocol: Protocol) -> float:
    """Return the quantile of the reference's medians over all passes of the batch, in ms; 0 before the first."""
    return _quantile([turn.reference_ms for runner in runners for turn in runner.turns], protocol.fast_quantile)


def _quantile(values: Sequence[float], quantile: float) -> float:
    """Return the value at a quantile, 0 where there are none."""
    return sorted(values)[round(quantile * (len(values) - 1))] if values else 0.0


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
    except DeviceFault:
        raise
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
