"""Screening: which of many architectures keep every latency limit, as the service says in one request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from leti.compression.architecture.variation import Architecture
from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.core.queries import Encodings
from leti.core.searching import FilterRequest, LatencyLimit
from leti.core.spec import NetworkConfig
from leti.core.wire import Zero
from leti.generator.weights import Array

if TYPE_CHECKING:
    from leti.client import LatencyClient

with needs("compression"):
    import numpy as np

MAX_SCREENED: Final = 10_000
"""Architectures in one request, as services are set by default."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Screening:
    """Architectures and how they stand to limits; arrays are (architectures, limits) where not said otherwise.

    ``latency_ms`` and ``bound_ms`` are NaN, and ``room`` is minus infinity, where there is no answer. ``room``
    (architectures,) is the least share of a limit that is left over: not negative where all are kept.
    """

    architectures: tuple[Architecture, ...]
    latency_ms: Array
    bound_ms: Array
    room: Array

    @property
    def fitting(self) -> tuple[int, ...]:
        """The numbers of the architectures that keep every limit, in their order."""
        return tuple(map(int, np.flatnonzero(self.room >= 0)))


@final
class Screener:
    """Asks a service about architectures of one space, and counts what it asked."""

    def __init__(
        self,
        client: LatencyClient,
        space: str,
        limits: Sequence[LatencyLimit],
        config: NetworkConfig | None,
        zero: Zero,
    ) -> None:
        if not limits:
            raise InvalidInput("are missing", field="limits", remedy="give a limit for each platform")
        self._client, self._space, self._limits, self._config, self._zero = client, space, tuple(limits), config, zero
        self.platform_ids: Final = tuple(limit.platform_id for limit in limits)
        self.requests = 0
        self.latencies = 0
        self.unpriced = 0
        self.why = ""

    def screen(self, architectures: Sequence[Architecture]) -> Screening:
        """Return how architectures stand to the limits: one request.

        An architecture that a predictor has no price for fits nothing; ``unpriced`` counts them, ``why`` says of the
        first what the service said.
        """
        if not architectures:
            nothing = np.empty((0, len(self._limits)))
            return Screening((), nothing, nothing, np.empty(0))
        vectors = tuple(one.choices for one in architectures)
        encodings = Encodings(self._space, vectors, self._config)
        answer = self._client.filter_networks(FilterRequest(self._limits, encodings=encodings, zero=self._zero))
        latency, bound, margin = (
            np.array([getattr(limit, name) for limit in answer.limits], float).T
            for name in ("latency_ms", "bound_ms", "margin_ms")
        )
        shares = margin / [limit.at_most_ms for limit in answer.limits]
        room = np.where(np.isnan(shares).any(axis=1), -np.inf, shares.min(axis=1))
        self.requests += 1
        self.latencies += len(architectures) * len(self._limits)
        self.unpriced += len({failure.index for failure in answer.failures})
        if answer.failures and not self.why:
            self.why = answer.failures[0].problem.detail
        return Screening(tuple(architectures), latency, bound, room)
