"""Latencies of one network on every platform: what was measured, and beside it what the active predictor says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from leti.core.errors import LetiError, NotFound, NotPredictable
from leti.core.queries import PredictionRequest
from leti.core.wire import NetworkInput, Zero
from leti.service.answering.answerer import MAX_PLATFORMS
from leti.service.answering.answers import NOTHING, Answer, Answers, PlatformAnswers
from leti.service.answering.reading import Named
from leti.service.dashboard.figures import Column, Figure
from leti.service.dashboard.figures.forms import axis, chart, points, whiskers
from leti.service.dashboard.words import latency, share
from leti.service.routes.parts import Parts

COVERAGE: Final = 0.9

APART: Final = 20.0
"""Where latencies differ by more than this factor, they are drawn by factors."""


@final
@dataclass(frozen=True, slots=True)
class Interval:
    """A latency and its bounds in ms."""

    latency_ms: float
    low_ms: float
    high_ms: float


@final
@dataclass(frozen=True, slots=True)
class OnPlatform:
    """What is known of a network on one platform; ``failed`` says why it is nothing.

    ``trained_on`` says that the predictor has seen the network: its prediction is no test then. ``far`` networks are
    farther from the training than 99 % of its networks are.
    """

    platform_id: str
    measured: Interval | None = None
    count: int = 0
    predicted: Interval | None = None
    predictor: str = ""
    version: int = 0
    unknown: tuple[str, ...] = ()
    far: bool = False
    trained_on: bool = False
    failed: LetiError | None = None

    @property
    def by(self) -> str:
        """The predictor and its version, empty where there is none."""
        return f"{self.predictor} {self.version}" if self.predictor else ""

    @property
    def error(self) -> float | None:
        """How far the prediction is from what was measured, as a share of it."""
        if self.measured is None or self.predicted is None:
            return None
        return self.predicted.latency_ms / self.measured.latency_ms - 1


@final
@dataclass(frozen=True, slots=True)
class Latencies:
    """A network as it was read, and what is known of it on platforms; ``left_out`` more platforms were not asked."""

    network: Named
    platforms: tuple[OnPlatform, ...]
    left_out: int


def find_latencies(parts: Parts, network: NetworkInput, zero: Zero) -> Latencies:
    """Return what is known of a network on every platform; raise what is wrong with the network.

    Raises :class:`NotFound` where there is no platform yet.
    """
    ids = [platform.id for platform in parts.store.platforms.list()]
    if not ids:
        raise NotFound("there is no platform yet", field="platform", remedy="start an agent: leti agent run")
    asked, left_out = tuple(ids[:MAX_PLATFORMS]), len(ids[MAX_PLATFORMS:])
    answers = parts.answerer.answer(PredictionRequest(asked, (network,), zero=zero, coverage=COVERAGE))
    read = [item for networks in answers.networks.values() for item in networks.items]
    named = next((item for item in read if not isinstance(item, LetiError)), None)
    if named is None:
        raise next(item for item in read if isinstance(item, LetiError))
    found = tuple(_on(parts, answers, platform) for platform in answers.platforms)
    return Latencies(named, found, left_out)


def _on(parts: Parts, answers: Answers, platform: PlatformAnswers) -> OnPlatform:
    item = answers.networks[platform.precision].items[0]
    if isinstance(item, LetiError):
        return OnPlatform(platform.platform_id, failed=item)
    answer = answers.column(platform)[0]
    if answer.measured:
        return _beside(parts, platform.platform_id, item, answer)
    if answer is NOTHING:
        return OnPlatform(platform.platform_id, failed=platform.failed.get(item.fingerprint))
    return OnPlatform(
        platform.platform_id,
        predicted=_interval(answer),
        predictor=platform.predictor,
        version=platform.version,
        unknown=platform.unknown.get(item.fingerprint, ()),
        far=(answer.distance or 0.0) > 1,
    )


def _beside(parts: Parts, platform_id: str, item: Named, answer: Answer) -> OnPlatform:
    """Return what was measured, with what the active predictor says of the same network."""
    known = {"measured": _interval(answer), "count": answer.measurements}
    try:
        said = parts.answerer.predict(platform_id, [item.graph], coverage=COVERAGE)
    except NotPredictable as error:
        return OnPlatform(platform_id, **known, failed=error)  # type: ignore[arg-type]
    if said is None:
        return OnPlatform(platform_id, **known)  # type: ignore[arg-type]
    info, (one, *_) = said
    sides = parts.store.networks.sides(item.fingerprint, [info.dataset_id])
    return OnPlatform(
        platform_id,
        **known,  # type: ignore[arg-type]
        predicted=Interval(one.latency_ms, one.low_ms, one.high_ms),
        predictor=info.kind,
        version=info.version,
        unknown=one.unknown,
        trained_on=sides.get(info.dataset_id) == "train",
    )


def _interval(answer: Answer) -> Interval:
    assert answer.latency_ms is not None and answer.low_ms is not None and answer.high_ms is not None  # noqa: S101, PT018
    return Interval(answer.latency_ms, answer.low_ms, answer.high_ms)


def latency_figure(found: Sequence[OnPlatform], name: str) -> Figure:
    """Return the latencies of a network on platforms: an interval a platform, and a point where it was measured."""
    known = [one for one in found if one.measured or one.predicted]
    ends = [bound for one in known for i in (one.measured, one.predicted) if i for bound in (i.low_ms, i.high_ms)]
    low, high = min(ends, default=1.0), max(ends, default=1.0)
    scale = axis("latency in ms", "log" if low > 0 and high > APART * low else "value")
    return Figure(
        f"Latency of {name} on every platform",
        says(found),
        (
            Column("platform", "platform", [one.platform_id for one in known], links="/dashboard/platforms/{}"),
            Column("measured", "measured, ms", [one.measured and one.measured.latency_ms for one in known]),
            Column("count", "measurements", [one.count for one in known]),
            Column("predicted", "predicted, ms", [one.predicted and one.predicted.latency_ms for one in known]),
            Column("low", "low, ms", [one.predicted and one.predicted.low_ms for one in known]),
            Column("high", "high, ms", [one.predicted and one.predicted.high_ms for one in known]),
            Column("error", "error, %", [None if one.error is None else 100 * one.error for one in known]),
            Column("predictor", "predictor", [one.by or None for one in known]),
            Column("trained", "trained on it", ["yes" if one.trained_on else "no" for one in known]),
            Column("unknown", "unknown to the predictor", [", ".join(one.unknown) or None for one in known], True),
        ),
        chart(
            scale,
            axis("", "category", inverse=True, axisLabel={"width": 180, "overflow": "truncate"}),
            [
                whiskers("platform", "low", "high", across=True),
                points("predicted", "platform", f"predicted, with its {COVERAGE:.0%} interval", symbolSize=10),
                points("measured", "platform", "measured", symbol="diamond", symbolSize=14),
            ],
        ),
        remedy="Measure it on a platform, or train a predictor there.",
    )


def says(found: Sequence[OnPlatform]) -> str:
    """Return in a sentence where a network is fastest, and how predictions compare with what was measured."""
    known = [(i.latency_ms, one, i is one.measured) for one in found if (i := one.measured or one.predicted)]
    if not known:
        return "Nothing is known of its latency on any platform."
    fastest = min(known, key=lambda one: one[0])
    word = "measured" if fastest[2] else "predicted"
    where = f"It takes {latency(fastest[0])} on {fastest[1].platform_id} ({word})"
    if len(known) > 1:
        slowest = max(known, key=lambda one: one[0])
        where += f", and up to {latency(slowest[0])} on {slowest[1].platform_id}"
    errors = [abs(one.error) for one in found if one.error is not None]
    if not errors:
        return f"{where}."
    said = f"{where}. Where it was measured, predictions are off by up to {share(max(errors))}"
    if any(one.trained_on for one in found):
        return f"{said}; a predictor that was trained on it is not tested by that."
    return f"{said}."
