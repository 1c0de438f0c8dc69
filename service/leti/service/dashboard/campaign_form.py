"""The form of a new campaign: what was typed, kept as it was, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, TypeVar, cast, final, get_args

from fastapi import Depends, Form

from leti.core.errors import InvalidInput
from leti.core.farm import CampaignRequest, Sample, Sampling
from leti.core.patches import CompressedSample
from leti.core.wire import Zero

SAMPLES: Final = 2
"""Rows for samples of a form, and one more than are filled in."""

Text = Annotated[str, Form(max_length=200)]
Texts = Annotated[Sequence[str], Form()]

N = TypeVar("N", int, float)
L = TypeVar("L", bound=str)


@final
@dataclass(frozen=True, slots=True)
class CampaignForm:
    """What was typed; of samples, a space, a count and a seed a row. Each network of
    ``compressed`` is to have so many ``forms``. ``do`` is ``begin``, or to count the jobs."""

    name: Text = ""
    platform_id: Text = ""
    space: Texts = ()
    count: Texts = ()
    seed: Texts = ()
    sampling: Text = "random"
    networks: Annotated[str, Form(max_length=2_000_000)] = ""
    compressed: Annotated[str, Form(max_length=100_000)] = ""
    forms: Text = "20"
    baseline: Text = ""
    zero: Text = "execute"
    repeats: Text = "4"
    repeat_share: Text = "20"
    priority: Text = "0"
    profile: Text = "true"
    do: Text = ""

    @property
    def begins(self) -> bool:
        """Whether the campaign is to begin."""
        return self.do == "begin"

    @property
    def samples(self) -> list[tuple[str, str, str]]:
        """The rows that are filled in."""
        return [row for row in zip(self.space, self.count, self.seed, strict=False) if row[0]]

    @property
    def rows(self) -> list[tuple[str, str, str]]:
        """The rows to be shown: one at least is empty."""
        return [*self.samples, *[("", "", "")] * max(SAMPLES - len(self.samples), 1)]

    def read(self) -> CampaignRequest:
        """Return what is asked for; raise :class:`InvalidInput` for what is no number, or no word of a list."""
        return CampaignRequest(
            name=self.name,
            platform_id=self.platform_id,
            samples=tuple(
                Sample(
                    space, _number(int, count, f"samples[{i}].count"), _number(int, seed or "0", f"samples[{i}].seed")
                )
                for i, (space, count, seed) in enumerate(self.samples)
            ),
            networks=_lines(self.networks),
            compressed=tuple(
                CompressedSample(line, _number(int, self.forms, "forms")) for line in _lines(self.compressed)
            ),
            baseline=self.baseline.strip() or None,
            zero=cast("Zero", _word(self.zero, get_args(Zero), "zero")),
            repeats=_number(int, self.repeats, "repeats"),
            repeat_share=_number(float, self.repeat_share, "repeat_share") / 100,
            priority=_number(int, self.priority, "priority"),
            profile=self.profile == "true",
            sampling=cast("Sampling", _word(self.sampling, get_args(Sampling), "sampling")),
        )


GivenForm = Annotated[CampaignForm, Depends()]


def _lines(text: str) -> tuple[str, ...]:
    return tuple([line.strip() for line in text.splitlines() if line.strip()])


def _number(kind: type[N], text: str, field: str) -> N:
    try:
        return kind(text)
    except ValueError as error:
        raise InvalidInput(f"is no number: {text[:40]!r}", field=field, remedy="a number is wanted") from error


def _word(text: str, known: Sequence[str], field: str) -> str:
    if text not in known:
        raise InvalidInput(f"is unknown: {text[:40]!r}", field=field, remedy=f"one of {', '.join(known)}")
    return text
