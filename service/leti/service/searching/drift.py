"""Drift: how predictions fared that were made before their networks were measured, and whether that is chance."""

from __future__ import annotations

import datetime
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, final

from leti.core.extras import needs
from leti.core.searching import (
    Drift,
    HeldIntervals,
    ReferenceDay,
    ReferenceDrift,
    Score,
    ScoreSummary,
    Verdict,
    WeekScores,
)
from leti.service.searching.predictors import find_predictor
from leti.service.store import Store
from leti.service.store.scores import ReferenceTimes, Scored
from leti.service.store.times import utc

FEWEST: Final = 20
"""Networks below which, new or held out, nothing is said about chance."""

SIGNIFICANT: Final = 0.01
"""Errors are called worse where chance would make them so with less than this probability."""

TEST: Final = "Mann-Whitney U, one-sided, on |ln(measured / predicted)|"


@final
class Scorer:
    """Scores predictions that were kept against what was measured later."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def drift(self, platform_id: str, predictor_id: int | None, *, days: float, last: int, worst: int) -> Drift:
        """Return how a predictor's kept predictions fared, the active one's by default.

        Of the networks measured in the last ``days``, the ``last`` ones are scored; ``worst`` is how many of those with
        the largest errors are listed. Raises :class:`NotFound` for platform and predictor,
        and where none is active; :class:`InvalidInput` for a predictor of another platform.
        """
        self._store.platforms.platform(platform_id)
        info = find_predictor(self._store, platform_id, predictor_id)
        rows, examined = self._store.scores.scored(platform_id, info.id, days=days, last=last)
        by_network: defaultdict[str, list[Scored]] = defaultdict(list)
        for row in rows:  # the newest measured first
            if row.fingerprint in by_network or len(by_network) < last:
                by_network[row.fingerprint].append(row)
        scored = [of_one[0] for of_one in by_network.values()]  # one predictor says the same at any coverage
        return Drift(
            platform_id=platform_id,
            predictor_id=info.id,
            predictor=info.kind,
            version=info.version,
            examined=examined,
            summary=_summary(scored),
            intervals=_intervals(by_network),
            weeks=_weeks(scored),
            worst=tuple(_score(row) for row in sorted(scored, key=lambda row: -abs(_error(row)))[:worst]),
            verdict=_verdict(scored, self._store.predictors.holdout_latencies(info.id)),
            reference=_reference(self._store.scores.reference_times(platform_id)),
        )


def _error(row: Scored) -> float:
    return row.latency_ms / row.measured_ms - 1


def _score(row: Scored) -> Score:
    return Score(
        row.fingerprint, row.latency_ms, row.measured_ms, _error(row), utc(row.predicted_at), utc(row.measured_at)
    )


def _summary(rows: Sequence[Scored]) -> ScoreSummary:
    if not rows:
        return ScoreSummary(0)
    errors = [abs(_error(row)) for row in rows]
    return ScoreSummary(
        networks=len(rows),
        mdape=statistics.median(errors),
        within_5=_share(errors, 0.05),
        within_10=_share(errors, 0.1),
        bias=statistics.median(row.measured_ms / row.latency_ms - 1 for row in rows),
    )


def _share(errors: Sequence[float], tolerance: float) -> float:
    return sum(error <= tolerance for error in errors) / len(errors)


def _intervals(by_network: Mapping[str, Sequence[Scored]]) -> tuple[HeldIntervals, ...]:
    held: defaultdict[float, list[bool]] = defaultdict(list)
    for rows in by_network.values():
        for row in rows:
            held[row.coverage].append(row.low_ms <= row.measured_ms <= row.high_ms)
    return tuple(HeldIntervals(coverage, len(of), sum(of) / len(of)) for coverage, of in sorted(held.items()))


def _weeks(rows: Sequence[Scored]) -> tuple[WeekScores, ...]:
    weeks: defaultdict[datetime.date, list[Scored]] = defaultdict(list)
    for row in rows:
        day = _day(row.measured_at)
        weeks[day - datetime.timedelta(days=day.weekday())].append(row)
    return tuple(WeekScores(monday.isoformat(), _summary(weeks[monday])) for monday in sorted(weeks))


def _day(at: float) -> datetime.date:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).date()


def _verdict(rows: Sequence[Scored], holdout: Sequence[tuple[float, float]]) -> Verdict:
    new = [abs(math.log(row.measured_ms / row.latency_ms)) for row in rows]
    held = [abs(math.log(measured_ms / latency_ms)) for measured_ms, latency_ms in holdout]
    scored_mdape = statistics.median(abs(_error(row)) for row in rows) if rows else None
    held_mdape = statistics.median(abs(said / found - 1) for found, said in holdout) if holdout else None
    if min(len(new), len(held)) < FEWEST:
        return Verdict("too-few", TEST, len(new), len(held), scored_mdape, held_mdape)
    with needs("boosting"):
        from scipy import stats
    found = stats.mannwhitneyu(new, held, alternative="greater")
    larger, p = float(found.statistic) / (len(new) * len(held)), float(found.pvalue)
    worse = p < SIGNIFICANT
    return Verdict("worse" if worse else "no-worse", TEST, len(new), len(held), scored_mdape, held_mdape, larger, p)


def _reference(times: ReferenceTimes) -> ReferenceDrift:
    by_day: defaultdict[datetime.date, list[float]] = defaultdict(list)
    for at, latency_ms in times.found:
        by_day[_day(at)].append(latency_ms)
    days = tuple(
        ReferenceDay(day.isoformat(), statistics.median(by_day[day]), len(by_day[day])) for day in sorted(by_day)
    )
    change = days[-1].latency_ms / times.pooled_ms - 1 if days and times.pooled_ms else None
    return ReferenceDrift(times.version, times.pooled_ms, change, days)
