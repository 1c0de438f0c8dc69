"""What predictors said not long ago: a search asks for many of its networks again and again.

A predictor says the same of a network each time. One that is promoted has an artifact of its own, and nothing is
remembered of that. What a network is remembered by is what it was read from, not its fingerprint: predictors may look
at the choices of a search space, which graphs of one fingerprint need not share.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from itertools import repeat
from typing import Final, NamedTuple, final

from leti.core.prediction import Predictions
from leti.service.answering.answers import Answer
from leti.service.answering.reading import Named
from leti.service.catalogue import Lowered

MOST: Final = 50_000
"""Predictions that are remembered, and about half of them at least: some 400 bytes each."""


@final
class Predicted(NamedTuple):
    """What a predictor said of a network, and what it did not know of it."""

    answer: Answer
    unknown: tuple[str, ...]

    @classmethod
    def each(cls, said: Predictions) -> Iterator[Predicted]:
        """Return what predictions say, network by network."""
        columns = said.latency_ms.tolist(), said.low_ms.tolist(), said.high_ms.tolist()
        far = repeat(0.0) if said.distance is None else said.distance.tolist()
        return map(cls, map(Answer, *columns, repeat(False), repeat(0), far), said.unknown or repeat(()))


@final
class RememberedPredictions:
    """Predictions by the predictor's artifact, the coverage and the network. Threads may share it.

    Two halves: the full one is forgotten when the other one is full, but for what was asked for meanwhile.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most // 2
        self._new: dict[Hashable, Predicted] = {}
        self._old: dict[Hashable, Predicted] = {}

    def get_all(self, sha256: str, coverage: float, networks: Mapping[str, Named]) -> dict[str, Predicted]:
        """Return what is remembered of networks, by the names that they are given under."""
        found = {}
        for name, network in networks.items():
            given = _given(network)
            if given is not None:
                key = sha256, coverage, given
                known = self._new.get(key)
                if known is None:
                    known = self._old.get(key)
                    if known is not None:
                        self._put(key, known)
                if known is not None:
                    found[name] = known
        return found

    def knows(self, sha256: str, coverage: float, like: Lowered, choices: tuple[int, ...]) -> bool:
        """Return whether something is remembered of a network that was read as another one was, of other choices."""
        key = sha256, coverage, (like.reading, choices)
        return key in self._new or key in self._old

    def put_all(self, sha256: str, coverage: float, said: Iterable[tuple[Named, Predicted]]) -> None:
        """Remember what a predictor said."""
        for network, predicted in said:
            given = _given(network)
            if given is not None:
                self._put((sha256, coverage, given), predicted)

    def _put(self, key: Hashable, predicted: Predicted) -> None:
        if len(self._new) >= self._most:
            self._new, self._old = {}, self._new
        self._new[key] = predicted


def _given(network: Named) -> Hashable | None:
    """Return what a network is remembered by: how it was read, and its choices. A spec takes twenty times as much."""
    if not isinstance(network, Lowered):
        return None
    if isinstance(network.given, tuple):
        return network.reading, network.given
    encoding = network.graph.encoding
    return None if encoding is None else (network.reading, encoding.choices)
