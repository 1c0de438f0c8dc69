"""Answers: what is said of the networks of a request, a column a quantity, before it is written in any form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, final

from leti.core.device import ModelPrecision
from leti.core.errors import LetiError
from leti.core.queries import Stage
from leti.service.answering.reading import Networks


@final
class Answer(NamedTuple):
    """What is said of one network on one platform; milliseconds, and nothing where it failed."""

    latency_ms: float | None
    low_ms: float | None
    high_ms: float | None
    measured: bool
    measurements: int
    distance: float | None


NOTHING = Answer(None, None, None, False, 0, None)


@final
@dataclass(slots=True)
class PlatformAnswers:
    """Answers on one platform by fingerprint; what failed has an error instead.

    ``predictor`` and ``version`` are of everything that is not measured. ``unmeasurable`` says why networks were not
    queued to be measured, where that was asked for.
    """

    platform_id: str
    precision: ModelPrecision
    answers: dict[str, Answer]
    predictor: str = ""
    version: int = 0
    unknown: dict[str, tuple[str, ...]] = field(default_factory=dict)
    failed: dict[str, LetiError] = field(default_factory=dict)
    queued: int = 0
    waiting: int = 0
    unmeasurable: dict[str, LetiError] = field(default_factory=dict)


@final
@dataclass(frozen=True, slots=True)
class Failed:
    """A failure by the index of its network; of all platforms where it names none."""

    index: int
    platform_id: str
    stage: Stage
    error: LetiError


@final
@dataclass(frozen=True, slots=True)
class Answers:
    """Everything that a request is answered: its networks by the precision of platforms' models, and each platform."""

    coverage: float
    networks: Mapping[ModelPrecision, Networks]
    platforms: tuple[PlatformAnswers, ...]

    def __len__(self) -> int:
        """Return the number of networks."""
        return len(next(iter(self.networks.values())).items)

    def column(self, platform: PlatformAnswers) -> list[Answer]:
        """Return what is said on a platform in the order of the request."""
        found = platform.answers
        return [found.get(name, NOTHING) if name else NOTHING for name in self.fingerprints(platform)]

    def fingerprints(self, platform: PlatformAnswers) -> tuple[str | None, ...]:
        """Return the fingerprints in a platform's precision, in the order of the request."""
        return self.networks[platform.precision].fingerprints

    def degenerate(self) -> list[int]:
        """Return the indices of networks whose cell leads no input to its output."""
        networks = next(iter(self.networks.values()))
        return [i for i, item in enumerate(networks.items) if not isinstance(item, LetiError) and item.degenerate]

    def unknown(self, platform: PlatformAnswers) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Yield the indices at which a platform's predictor did not know something, with what that was."""
        if platform.unknown:
            for i, name in enumerate(self.fingerprints(platform)):
                if name in platform.unknown:
                    yield i, platform.unknown[name]

    def failures(self) -> list[Failed]:
        """Return what failed, by index; what could not be read stands once where it cannot be in any precision."""
        return sorted([*self._unread(), *self._unanswered()], key=lambda failed: (failed.index, failed.platform_id))

    def _unread(self) -> Iterator[Failed]:
        wrong = {
            precision: {i: item for i, item in enumerate(networks.items) if isinstance(item, LetiError)}
            for precision, networks in self.networks.items()
        }
        everywhere = set.intersection(*(set(errors) for errors in wrong.values()))
        first = next(iter(wrong.values()))
        for i in everywhere:
            yield Failed(i, "", "read", first[i])
        for platform in self.platforms:
            for i, error in wrong[platform.precision].items():
                if i not in everywhere:
                    yield Failed(i, platform.platform_id, "read", error)

    def _unanswered(self) -> Iterator[Failed]:
        for platform in self.platforms:
            stages: tuple[tuple[Stage, Mapping[str, LetiError]], ...] = (
                ("predict", platform.failed),
                ("measure", platform.unmeasurable),
            )
            for stage, errors in stages:
                if errors:
                    for i, name in enumerate(self.fingerprints(platform)):
                        if name is not None and name in errors:
                            yield Failed(i, platform.platform_id, stage, errors[name])
