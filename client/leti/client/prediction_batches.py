"""Requests for more predictions than one may hold: split, and their answers put together again."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final

from leti.client.exchange import encoded
from leti.core.errors import Unavailable
from leti.core.queries import (
    ItemFailure,
    PlatformColumns,
    PlatformPredictions,
    PredictionColumns,
    PredictionRequest,
    PredictionResponse,
)
from leti.core.wire import NetworkInput

BATCH: Final = 10_000
"""Networks in one request …"""

ANSWERS: Final = 100_000
"""… and networks times platforms …"""

BYTES: Final = 30 * 2**20
"""… and bytes of networks, which leaves room for the rest of a body (32 MiB)."""

_COLUMNS: Final = ("latency_ms", "low_ms", "high_ms", "measured", "count", "distance")
_PLACE: Final = re.compile(r"^(networks|encodings\.vectors|patches\.changes)\[(\d+)\]")


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """A part of a request: what it asks, and how many networks, vectors and patches stand before its own."""

    request: PredictionRequest
    networks_before: int
    vectors_before: int
    changes_before: int

    @property
    def start(self) -> int:
        """The index of its first network in the whole request."""
        return self.networks_before + self.vectors_before + self.changes_before

    def failures(self, told: Sequence[ItemFailure]) -> Iterator[ItemFailure]:
        """Yield failures of the part by their index in the whole request."""
        before = {
            "networks": self.networks_before,
            "encodings.vectors": self.vectors_before,
            "patches.changes": self.changes_before,
        }
        for failure in told:
            field = _PLACE.sub(lambda m: f"{m[1]}[{int(m[2]) + before[m[1]]}]", failure.problem.field)
            problem = dataclasses.replace(failure.problem, field=field)
            yield dataclasses.replace(failure, index=failure.index + self.start, problem=problem)


def split(request: PredictionRequest) -> Iterator[Part]:
    """Yield parts that one request may hold; an empty request is one part, so that the service can refuse it.

    Raises :class:`InvalidInput` for a network that has no JSON.
    """
    size = max(min(BATCH, ANSWERS // max(len(request.platform_ids), 1)), 1)
    first = len(request.networks)
    second = first + len(request.encodings or ())
    stop = 0
    while (start := stop) < max(len(request), 1):
        window = request.networks[start : start + size]
        room = _room(window)
        stop = start + (size if room == len(window) else room)
        encodings, patches = request.encodings, request.patches
        if encodings is not None:
            vectors = encodings.vectors[max(start - first, 0) : max(stop - first, 0)]
            encodings = dataclasses.replace(encodings, vectors=vectors)
        if patches is not None:
            changes = patches.changes[max(start - second, 0) : max(stop - second, 0)]
            patches = dataclasses.replace(patches, changes=changes)
        networks = request.networks[start:stop]
        part = dataclasses.replace(request, networks=networks, encodings=encodings, patches=patches)
        yield Part(part, min(start, first), min(max(start - first, 0), second - first), max(start - second, 0))


def _room(networks: Sequence[NetworkInput]) -> int:
    """Return how many of the networks one body may hold, one at least: graphs are large."""
    taken = 0
    for count, network in enumerate(networks):
        taken += len(network) if isinstance(network, str) else len(encoded(network)) + 1
        if taken > BYTES and count:
            return count
    return len(networks)


def joined_rows(parts: Sequence[tuple[Part, PredictionResponse]]) -> PredictionResponse:
    """Return answers in rows put together; raise :class:`Unavailable` where they are not as many as was asked for."""
    for part, answer in parts:
        _check([(p.platform_id, len(p.items)) for p in answer.platforms], part.request)
    platforms = zip(*(answer.platforms for _, answer in parts), strict=True)
    return PredictionResponse(
        tuple(
            PlatformPredictions(
                same[0].platform_id,
                tuple(chain.from_iterable(one.items for one in same)),
                sum(one.queued for one in same),
                sum(one.waiting for one in same),
            )
            for same in platforms
        ),
        tuple(chain.from_iterable(part.failures(answer.failures) for part, answer in parts)),
    )


def joined_columns(parts: Sequence[tuple[Part, PredictionColumns]]) -> PredictionColumns:
    """Return answers in columns put together; raise :class:`Unavailable` as :func:`joined_rows` does."""
    for part, answer in parts:
        _check([(p.platform_id, len(p.latency_ms)) for p in answer.platforms], part.request)
    answers = [answer for _, answer in parts]
    starts = [part.start for part, _ in parts]
    platforms = zip(*(answer.platforms for answer in answers), strict=True)
    return PredictionColumns(
        answers[0].coverage,
        {name: tuple(chain.from_iterable(a.fingerprints[name] for a in answers)) for name in answers[0].fingerprints},
        tuple(start + i for start, answer in zip(starts, answers, strict=True) for i in answer.degenerate),
        tuple(_joined(starts, same) for same in platforms),
        tuple(chain.from_iterable(part.failures(answer.failures) for part, answer in parts)),
    )


def _joined(starts: Sequence[int], same: Sequence[PlatformColumns]) -> PlatformColumns:
    """Return the columns of one platform; the predictor is that of the last part in which one was asked."""
    named = next((one for one in reversed(same) if one.predictor), same[-1])
    return dataclasses.replace(
        named,
        **{  # type: ignore[arg-type]
            name: tuple(chain.from_iterable(getattr(one, name) for one in same)) for name in _COLUMNS
        },
        unknown={
            str(start + int(i)): said
            for start, one in zip(starts, same, strict=True)
            for i, said in one.unknown.items()
        },
        queued=sum(one.queued for one in same),
        waiting=sum(one.waiting for one in same),
    )


def _check(counts: Sequence[tuple[str, int]], request: PredictionRequest) -> None:
    if [name for name, _ in counts] != list(request.platform_ids):
        raise Unavailable("the service answered for other platforms than were asked for")
    for _, count in counts:
        if count != len(request):
            raise Unavailable(f"the service answered {count} predictions for {len(request)} networks")
