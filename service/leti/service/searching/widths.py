"""Widths: what each width of a channel group, or each rank of an operator, makes of the latency of the whole network.

Latency is a staircase, and does not always fall with the width: a narrower layer may take a slower kernel. So every
value in the range is asked for, in one batch, and none is found by bisection.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, final

from leti.core.compression import Widths, WidthsRequest
from leti.core.errors import InvalidInput, TooLarge
from leti.core.patches import Patch
from leti.core.queries import ItemFailure, Patches, PredictionRequest
from leti.generator.compressing.factors import most_ranks
from leti.generator.compressing.pieces import Pieces
from leti.service.answering import Answerer
from leti.service.problems import problem
from leti.service.searching.filtering import bound, coverage_of

MOST_VALUES: Final = 4_096
"""Values of one request."""


@final
class Staircase:
    """Asks for the latency of a network at each width or rank."""

    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer

    def widths(self, request: WidthsRequest) -> Widths:
        """Return the latency at each value, which values are useful, and the largest within the limit.

        Raises :class:`NotFound` for platform and predictor, :class:`InvalidInput` naming the field, and
        :class:`TooLarge`.
        """
        _check(request)
        pieces = self._answerer.base(request.base, request.zero, "base")
        values = _values(request, pieces)
        changes = tuple([_patch(request, pieces, value) for value in values])
        coverage = coverage_of(request.confidence)
        answers = self._answerer.answer(
            PredictionRequest(
                (request.platform_id,),
                zero=request.zero,
                coverage=coverage,
                predictor_id=request.predictor_id,
                patches=Patches(request.base, changes),
            )
        )
        platform = answers.platforms[0]
        column = answers.column(platform)
        bounds = tuple([bound(answer, request.confidence) for answer in column])
        priced = [(value, at_most) for value, at_most in zip(values, bounds, strict=True) if at_most is not None]
        within = [value for value, at_most in priced if request.within_ms is not None and at_most <= request.within_ms]
        return Widths(
            platform_id=request.platform_id,
            operator=request.operator,
            vary=request.vary,
            values=values,
            latency_ms=tuple([answer.latency_ms for answer in column]),
            low_ms=tuple([answer.low_ms for answer in column]),
            high_ms=tuple([answer.high_ms for answer in column]),
            bound_ms=bounds,
            measured=tuple([answer.measured for answer in column]),
            useful=useful(values, [answer.latency_ms for answer in column]),
            coverage=coverage,
            confidence=request.confidence,
            largest=max(within, default=None),
            least_bound_ms=min([at_most for _, at_most in priced], default=None),
            predictor=platform.predictor,
            version=platform.version,
            failures=tuple(
                [ItemFailure(f.index, f.stage, problem(f.error), f.platform_id) for f in answers.failures()]
            ),
        )


def useful(values: Sequence[int], latencies_ms: Sequence[float | None]) -> tuple[int, ...]:
    """Return those of ascending values that are faster than every larger one; one without a latency is not looked at.

    These are the Pareto-optimal ones, of large values and low latencies.
    """
    found: list[int] = []
    fastest = math.inf
    for value, latency_ms in zip(reversed(values), reversed(latencies_ms), strict=True):
        if latency_ms is not None and latency_ms < fastest:
            fastest = latency_ms
            found.append(value)
    return tuple(reversed(found))


def _check(request: WidthsRequest) -> None:
    if request.step < 1:
        raise InvalidInput(f"must be positive, not {request.step}", field="step")
    if request.at_least < 1:
        raise InvalidInput(f"must be positive, not {request.at_least}", field="at_least")
    if not 0 < request.confidence < 1:
        raise InvalidInput(f"must be between 0 and 1, not {request.confidence}", field="confidence")
    if request.within_ms is not None and not (math.isfinite(request.within_ms) and request.within_ms > 0):
        raise InvalidInput(f"must be positive, not {request.within_ms}", field="within_ms")


def _values(request: WidthsRequest, pieces: Pieces) -> tuple[int, ...]:
    """Return the values that are asked for, and the last of the range where the steps do not meet it."""
    most = _most(request, pieces)
    last = most if request.at_most is None else request.at_most
    if not request.at_least <= last <= most:
        raise InvalidInput(
            f"must be from {request.at_least} to {most}, not {last}",
            field="at_most" if request.at_most is not None else "at_least",
        )
    values = [*range(request.at_least, last, request.step), last]
    if len(values) > MOST_VALUES:
        raise TooLarge(
            f"asks for {len(values)} values", field="step", remedy=f"at most {MOST_VALUES}", limit=MOST_VALUES
        )
    return tuple(values)


def _most(request: WidthsRequest, pieces: Pieces) -> int:
    """Return the largest value there is; raise :class:`InvalidInput` where the operator has none."""
    count = len(pieces.graph.ops)
    if not 0 <= request.operator < count:
        raise InvalidInput(f"there is no operator {request.operator}: the base has {count}", field="operator")
    if request.vary == "rank":
        op = pieces.graph.ops[request.operator]
        ranks = most_ranks(op)
        if not ranks or ranks[0][-1] < 2:
            raise InvalidInput(
                f"{op.kind} is not taken apart", field="operator", remedy="name a conv2d or a fully_connected"
            )
        return ranks[0][-1] - 1
    group = pieces.group_of(request.operator)
    if group is None or group.fixed:
        said = "makes no channels of one group" if group is None else f"channels have to stay: {group.fixed}"
        raise InvalidInput(said, field="operator", remedy="name an operator that makes the channels of a group")
    return group.channels


def _patch(request: WidthsRequest, pieces: Pieces, value: int) -> Patch:
    if request.vary == "width":
        return Patch(widths={request.operator: value})
    *first, last = most_ranks(pieces.graph.ops[request.operator])[0]
    return Patch(ranks={request.operator: (*[-(-value * most // last) for most in first], value)})
