"""Measurement: every timed sample with its conditions, and how passes become one latency.

A network is timed in many short *passes*, interleaved with other networks and with a reference network of the same
precision. What repeats is the ratio of a pass to the reference in the same pass; the latency is the median ratio times
the platform's pooled reference latency.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from leti.core.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Pass:
    """One network's turn: its samples, the reference's samples beside it, and whether the reference kept calm.

    ``grain`` of the measurement says what a sample is; nothing is expanded into samples that were not taken.
    """

    samples_ms: tuple[float, ...]
    reference_ms: tuple[float, ...]
    calm: bool = True

    def __post_init__(self) -> None:
        """Refuse passes without samples, and times that are not positive and finite."""
        for name in ("samples_ms", "reference_ms"):
            samples = getattr(self, name)
            if not samples:
                raise InvalidInput("must hold at least one sample", field=name)
            if bool not in map(type, samples) and min(samples) > 0 and sum(samples) < 1e9:
                continue  # no NaN either, which the sum would be
            for i, sample in enumerate(samples):
                if isinstance(sample, bool) or not (math.isfinite(sample) and 0 < sample < 1e9):
                    raise InvalidInput(f"must be a positive finite time, not {sample!r}", field=f"{name}[{i}]")

    @property
    def ratio(self) -> float:
        """Median sample over the reference's median sample."""
        return middle(self.samples_ms) / middle(self.reference_ms)


def middle(values: Iterable[float]) -> float:
    """Return the median of finite numbers, one at least; :mod:`statistics` takes three times as long for it."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def calm_passes(passes: Sequence[Pass]) -> tuple[Pass, ...]:
    """Return the passes in which the reference kept calm, or all of them where none did."""
    return tuple(p for p in passes if p.calm) or tuple(passes)


def ratio(passes: Sequence[Pass]) -> float:
    """Return the median over the calm passes of the ratio to the reference."""
    return middle([p.ratio for p in calm_passes(passes)])


def reference_ms(passes: Sequence[Pass]) -> float:
    """Return the median over the calm passes of the reference's median, in ms."""
    return middle([middle(p.reference_ms) for p in calm_passes(passes)])


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the machine was like; ``None`` where it does not tell, which is not the same as zero.

    ``load`` is the load average, ``steal`` the share of stolen processor time. ``frequency_mhz`` is the clock of the
    measuring cores and ``frequency_cap_mhz`` the highest that the system allows them now. ``thermal_status`` is
    Android's, from 0 (none) to 6 (shutdown).
    """

    load: float | None = None
    steal: float | None = None
    frequency_mhz: float | None = None
    temperature_c: float | None = None
    frequency_cap_mhz: float | None = None
    thermal_status: int | None = None
    battery_c: float | None = None
    battery_percent: float | None = None
    charging: bool | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """What it takes to measure again: versions, the model file's SHA-256, the protocol, conditions around it.

    ``command`` is the command line where the device was given one. ``facts`` are further pairs of name and value that
    tell two runs apart: the SHA-256 of a benchmark binary, adb's version, the device's build, a delegate's own words.
    """

    agent_version: str
    runtime_version: str
    model_sha256: str
    protocol: tuple[tuple[str, float], ...] = ()
    command: tuple[str, ...] = ()
    before: Conditions = Conditions()
    after: Conditions = Conditions()
    measured_at: str = ""
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ProcessSummary:
    """What one process of a benchmark tool said of its invokes, where it tells no more: ``count`` of them, in ms.

    Percentiles are ``None`` for tools that do not state them.
    """

    count: int
    first_ms: float
    min_ms: float
    mean_ms: float
    max_ms: float
    std_ms: float
    p5_ms: float | None = None
    median_ms: float | None = None
    p95_ms: float | None = None

    @property
    def typical_ms(self) -> float:
        """The median where the tool states one that is not 0 (it counts in whole microseconds), else the mean."""
        return self.median_ms or self.mean_ms


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """One operator as the runtime ran it, after its own fusions: its name there, who ran it, its time in each run (µs).

    ``unit`` is the delegate or provider that ran it ("xnnpack"), or "builtin" for the runtime's own kernels. Profiling
    slows a network down: these times are from a run of their own, and their sum is not the latency.
    """

    name: str
    unit: str
    times_us: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse operators without a time, and times that cannot be."""
        if not self.times_us:
            raise InvalidInput("must hold at least one time", field="times_us")
        for i, time_us in enumerate(self.times_us):
            if isinstance(time_us, bool) or not 0 <= time_us < math.inf:
                raise InvalidInput(f"must not be negative, and finite, not {time_us!r}", field=f"times_us[{i}]")


@dataclass(frozen=True, slots=True)
class Measurement:
    """One network measured once on one platform: passes in order, and the recipe that made them.

    ``reference`` is the fingerprint of the reference network. ``noisy`` labels a measurement whose passes stayed
    restless after every repetition; it is kept, and left out of the truth. Times are in milliseconds, memory in bytes.

    ``grain`` says what a sample is: one invoke, or one process of a benchmark tool, whose ``processes`` say what it
    told (in the order of the passes). ``peak_memory_bytes`` is how far resident memory grew from before the file was
    loaded until after the first run. ``operator_times`` are the operators in the order in which they ran, from a
    separate run.
    """

    fingerprint: str
    platform_id: str
    reference: str
    passes: tuple[Pass, ...]
    recipe: Recipe
    grain: Literal["invoke", "process"] = "invoke"
    init_ms: float | None = None
    first_inference_ms: float | None = None
    peak_memory_bytes: int | None = None
    noisy: bool = False
    processes: tuple[ProcessSummary, ...] = ()
    operator_times: tuple[OperatorTime, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a measurement without a pass, and times and sizes that cannot be."""
        if not self.passes:
            raise InvalidInput("must hold at least one pass", field="passes")
        for name in ("init_ms", "first_inference_ms", "peak_memory_bytes"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise InvalidInput(f"must not be negative, and finite, not {value!r}", field=name)
        for name in ("fingerprint", "reference"):
            value = getattr(self, name)
            if len(value) != 64 or not set(value) <= set("0123456789abcdef"):
                raise InvalidInput("must be 64 hexadecimal digits", field=name)

    @property
    def calm_passes(self) -> tuple[Pass, ...]:
        """The passes in which the reference kept calm, or all of them where none did."""
        return calm_passes(self.passes)

    @property
    def ratio(self) -> float:
        """Median over the calm passes of the ratio to the reference."""
        return ratio(self.passes)

    @property
    def median_ms(self) -> float:
        """Plain median of all samples."""
        return middle([sample for p in self.passes for sample in p.samples_ms])

    @property
    def min_ms(self) -> float:
        """Smallest sample."""
        return min(sample for p in self.passes for sample in p.samples_ms)

    @property
    def reference_ms(self) -> float:
        """Median over the calm passes of the reference's median: this measurement's share in the pooled reference."""
        return reference_ms(self.passes)

    def latency_ms(self, reference_latency_ms: float) -> float:
        """Return the median ratio times the platform's pooled reference latency."""
        return self.ratio * reference_latency_ms


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of one graph on one platform: the median ratio of its accepted measurements, count and spread.

    ``spread`` is the largest deviation of a single measurement from the median, relative to it.
    """

    ratio: float
    count: int
    spread: float


def truth(ratios: Sequence[float]) -> Truth:
    """Return the truth that accepted measurements' ratios give; raise :class:`InvalidInput` where there are none."""
    if not ratios:
        raise InvalidInput("must hold at least one measurement", field="ratios")
    center = middle(ratios)
    return Truth(center, len(ratios), max(abs(ratio / center - 1) for ratio in ratios))


@dataclass(frozen=True, slots=True)
class Repeatability:
    """How far single measurements agree: the ceiling for every accuracy on the platform.

    ``within`` maps a tolerance (0.01, 0.05, 0.1) to the share of single measurements that close to their network's
    pooled value; ``pairs_within`` to the share of pairs of measurements of one network that close to each other.
    """

    networks: int
    measurements: int
    within: dict[str, float]
    pairs_within: dict[str, float]


TOLERANCES = (0.01, 0.05, 0.1)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many single measurements, and pairs of them, agree, in networks measured at least twice: counts that add up.

    ``within`` counts the single measurements that lie within each tolerance of their network's median, in the order of
    the tolerances, ``pairs_within`` the pairs of measurements of one network that lie so close to each other.
    """

    networks: int = 0
    measurements: int = 0
    pairs: int = 0
    within: tuple[int, ...] = ()
    pairs_within: tuple[int, ...] = ()

    def __add__(self, other: Agreement) -> Agreement:
        """Return the counts of both together."""
        return Agreement(
            self.networks + other.networks,
            self.measurements + other.measurements,
            self.pairs + other.pairs,
            tuple(a + b for a, b in itertools.zip_longest(self.within, other.within, fillvalue=0)),
            tuple(a + b for a, b in itertools.zip_longest(self.pairs_within, other.pairs_within, fillvalue=0)),
        )

    def shares(self, tolerances: Sequence[float] = TOLERANCES) -> Repeatability | None:
        """Return the shares that these counts give, ``None`` where no network was measured twice."""
        if not self.networks:
            return None
        return Repeatability(
            self.networks,
            self.measurements,
            {str(t): count / self.measurements for t, count in zip(tolerances, self.within, strict=True)},
            {str(t): count / self.pairs for t, count in zip(tolerances, self.pairs_within, strict=True)},
        )


def agreement_gained(
    known: Sequence[float], new: Sequence[float], tolerances: Sequence[float] = TOLERANCES
) -> Agreement:
    """Return what the ratios ``new`` of a network add to the agreement that its ``known`` ones gave.

    Counts of ``within`` may fall: the network's median moves.
    """
    both = (*known, *new)
    before, after = _deviations(known), _deviations(both)
    pairs = [abs(a / both[j] - 1) for j in range(len(known), len(both)) for a in both[:j]]
    return Agreement(
        bool(after) - bool(before),
        len(after) - len(before),
        len(pairs),
        tuple(a - b for a, b in zip(_within(after, tolerances), _within(before, tolerances), strict=True)),
        _within(pairs, tolerances),
    )


def repeatability(
    ratios_by_network: Sequence[Sequence[float]], tolerances: Sequence[float] = TOLERANCES
) -> Repeatability | None:
    """Return the agreement among networks measured at least twice, or ``None`` where there is no such network."""
    gained = (agreement_gained((), ratios, tolerances) for ratios in ratios_by_network)
    return sum(gained, Agreement()).shares(tolerances)


def _within(deviations: Sequence[float], tolerances: Sequence[float]) -> tuple[int, ...]:
    """Return how many deviations are no larger than each tolerance."""
    ordered = sorted(deviations)
    return tuple([bisect.bisect_right(ordered, tolerance) for tolerance in tolerances])


def _deviations(ratios: Sequence[float]) -> list[float]:
    """Return how far each of several measurements is from their median; nothing of a single one."""
    if len(ratios) < 2:
        return []
    center = middle(ratios)
    return [abs(ratio / center - 1) for ratio in ratios]
