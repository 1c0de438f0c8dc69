"""Filtering: which networks keep limits of latency on several platforms, each with a probability."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Final, final

from leti.core.errors import InvalidInput, LetiError, NotFound, TooLarge
from leti.core.queries import ItemFailure, PredictionRequest
from leti.core.searching import FilterRequest, FilterResponse, LatencyLimit, LimitAnswer
from leti.service.answering import Answerer, Answers, PlatformAnswers
from leti.service.answering.answers import Answer, Failed
from leti.service.problems import problem
from leti.service.store import Store

MAX_LIMITS: Final = 16
"""Limits in one request: each costs a prediction of all its networks."""

_SAME: Final = 1e-9
"""Relative difference up to which a predictor's intervals count as equally wide."""


def coverage_of(confidence: float) -> float:
    """Return the coverage of the interval of which one end is the bound; at 0.5 the prediction is, and any would do."""
    return round(abs(2 * confidence - 1), 12) or 0.5


@final
class Filter:
    """Finds the networks that keep limits."""

    def __init__(self, store: Store, answerer: Answerer) -> None:
        self._store = store
        self._answerer = answerer

    def filter(self, request: FilterRequest) -> FilterResponse:
        """Return which networks keep every limit; each platform predicts all of them in one call.

        Limits of one confidence are answered together: their networks are read once. Raises :class:`NotFound` for a
        platform, :class:`InvalidInput` naming the limit, and what an answerer raises.
        """
        _check(request.limits)
        together: defaultdict[float, list[int]] = defaultdict(list)
        for number, limit in enumerate(request.limits):
            together[coverage_of(limit.confidence)].append(number)
        limits: dict[int, LimitAnswer] = {}
        failed: list[Failed] = []
        for coverage, numbers in together.items():
            answers = self._ask(request, numbers, coverage)
            failed += answers.failures()
            for number, platform in zip(numbers, answers.platforms, strict=True):
                limits[number] = self._limit(request.limits[number], answers, platform)
        ordered = tuple(limits[number] for number in range(len(request.limits)))
        room = _room(ordered)
        fitting = [index for index, left in enumerate(room) if left >= 0]
        return FilterResponse(
            fits=tuple(left >= 0 for left in room),
            fitting=tuple(sorted(fitting, key=lambda index: -room[index])),
            limits=ordered,
            failures=_failures(failed),
        )

    def _ask(self, request: FilterRequest, numbers: Sequence[int], coverage: float) -> Answers:
        asked = PredictionRequest(
            platform_ids=tuple(request.limits[number].platform_id for number in numbers),
            networks=request.networks,
            encodings=request.encodings,
            zero=request.zero,
            coverage=coverage,
            patches=request.patches,
        )
        try:
            return self._answerer.answer(asked)
        except (InvalidInput, NotFound) as error:
            raise _of_limits(error, numbers) from error

    def _limit(self, limit: LatencyLimit, answers: Answers, platform: PlatformAnswers) -> LimitAnswer:
        column = answers.column(platform)
        latency_ms = tuple(answer.latency_ms for answer in column)
        bound_ms = tuple(bound(answer, limit.confidence) for answer in column)
        holdout, share = self._holdout(column, bound_ms, platform)
        return LimitAnswer(
            platform_id=limit.platform_id,
            at_most_ms=limit.at_most_ms,
            confidence=limit.confidence,
            latency_ms=latency_ms,
            bound_ms=bound_ms,
            margin_ms=tuple(None if bound is None else limit.at_most_ms - bound for bound in bound_ms),
            measured=tuple(answer.measured for answer in column),
            predictor=platform.predictor,
            version=platform.version,
            holdout=holdout,
            holdout_share=share,
            unknown={str(index): said for index, said in answers.unknown(platform)},
        )

    def _holdout(
        self, column: Sequence[Answer], bound_ms: Sequence[float | None], platform: PlatformAnswers
    ) -> tuple[int, float | None]:
        """Return how many networks the predictor's holdout has, and for which share of them the bound would hold.

        Conformal intervals are as wide for every network, relative to its prediction; of a predictor whose intervals
        are not, no share is told.
        """
        if not platform.predictor:
            return 0, None
        factors = [
            bound / answer.latency_ms
            for answer, bound in zip(column, bound_ms, strict=True)
            if bound is not None and answer.latency_ms and not answer.measured
        ]
        if not factors or max(factors) > min(factors) * (1 + _SAME):
            return 0, None
        points = self._store.predictors.holdout(self._predictor_id(platform))
        if not points:
            return 0, None
        factor = max(factors) * (1 + _SAME)
        return len(points), sum(point.measured_ms <= point.latency_ms * factor for point in points) / len(points)

    def _predictor_id(self, platform: PlatformAnswers) -> int:
        found = self._store.predictors.list(platform.platform_id)
        return next(info.id for info in found if (info.kind, info.version) == (platform.predictor, platform.version))


def _check(limits: Sequence[LatencyLimit]) -> None:
    if not limits:
        raise InvalidInput("must hold at least one limit", field="limits", remedy="give a platform and milliseconds")
    if len(limits) > MAX_LIMITS:
        raise TooLarge(f"holds {len(limits)} limits", field="limits", remedy=f"at most {MAX_LIMITS}", limit=MAX_LIMITS)
    for number, limit in enumerate(limits):
        where = f"limits[{number}]"
        if not (math.isfinite(limit.at_most_ms) and limit.at_most_ms > 0):
            raise InvalidInput(f"must be positive, not {limit.at_most_ms}", field=f"{where}.at_most_ms")
        if not 0 < limit.confidence < 1:
            raise InvalidInput(f"must be between 0 and 1, not {limit.confidence}", field=f"{where}.confidence")
        if any(limit.platform_id == other.platform_id for other in limits[:number]):
            raise InvalidInput("has a limit already", field=f"{where}.platform_id", remedy="give one a platform")


def bound(answer: Answer, confidence: float) -> float | None:
    """Return what a latency is at most with this probability; the answer is at :func:`coverage_of` that."""
    if confidence > 0.5:
        return answer.high_ms
    return answer.latency_ms if confidence == 0.5 else answer.low_ms


def _room(limits: Sequence[LimitAnswer]) -> list[float]:
    """Return the least share of a limit that each network leaves over; minus infinity where one cannot be told."""
    return [
        min(
            -math.inf if bound is None else 1 - bound / limit.at_most_ms
            for limit, bound in zip(limits, bounds, strict=True)
        )
        for bounds in zip(*(limit.bound_ms for limit in limits), strict=True)
    ]


def _failures(failed: Sequence[Failed]) -> tuple[ItemFailure, ...]:
    """Return what failed, by index; a network that no call could read stands once."""
    unique = {(one.index, one.platform_id): one for one in failed}
    return tuple(
        ItemFailure(one.index, one.stage, problem(one.error), one.platform_id)
        for _, one in sorted(unique.items(), key=lambda item: item[0])
    )


def _of_limits(error: LetiError, numbers: Sequence[int]) -> LetiError:
    """Return an error that names the limit at fault: answers know of a coverage, and of places in their own list."""
    if error.field == "coverage":
        error.field = f"limits[{numbers[0]}].confidence"
        most = error.details.get("maximum")
        if isinstance(most, float):
            error.remedy = f"at most {math.floor((1 + most) / 2 * 1000) / 1000}, or measure more networks"
    elif error.field.startswith("platform_ids["):
        error.field = f"limits[{numbers[int(error.field[13:-1])]}].platform_id"
    return error
