"""Budgets: how fast a compressed network has to be, and how much accuracy it may lose."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final, final

from leti.core.errors import InvalidInput


@final
@dataclass(frozen=True, slots=True)
class Speedup:
    """A latency of the network's own over ``factor``."""

    factor: float

    def __post_init__(self) -> None:
        """Check that something is to become faster."""
        if not (math.isfinite(self.factor) and self.factor > 1):
            raise InvalidInput(f"{self.factor:g}x is no speed-up", field="budget", remedy="more than 1x")

    def of(self, baseline_ms: float) -> float:
        """Return the latency in ms that the compressed network may take."""
        return baseline_ms / self.factor


@final
@dataclass(frozen=True, slots=True)
class Within:
    """A latency in ms."""

    latency_ms: float

    def __post_init__(self) -> None:
        """Check that it is a time."""
        if not (math.isfinite(self.latency_ms) and self.latency_ms > 0):
            raise InvalidInput(f"{self.latency_ms:g} ms is no latency", field="budget", remedy="more than 0 ms")

    def of(self, baseline_ms: float) -> float:
        """Return the latency in ms that the compressed network may take."""
        return self.latency_ms


Budget = Speedup | Within

_BUDGET: Final = re.compile(r"([0-9]*\.?[0-9]+) *(x|ms|us|s)", re.ASCII | re.IGNORECASE)
_DROP: Final = re.compile(r"([0-9]*\.?[0-9]+) *(pp|%)?", re.ASCII | re.IGNORECASE)
_MS: Final = {"s": 1e3, "ms": 1.0, "us": 1e-3}


def read_budget(text: str) -> Budget:
    """Return what a text says: ``2x``, or ``12ms``; raise :class:`~leti.core.errors.InvalidInput` for another."""
    found = _BUDGET.fullmatch(text.strip().replace("µ", "u"))
    if found is None:
        raise InvalidInput(
            f"cannot be {text!r}", field="budget", remedy="a speed-up such as 2x, or a time such as 12ms"
        )
    number, unit = float(found[1]), found[2].lower()
    return Speedup(number) if unit == "x" else Within(number * _MS[unit])


def read_drop(text: str) -> float:
    """Return the share of accuracy that a text says may be lost: ``0.5pp`` and ``0.5%`` are 0.005, as is ``0.005``.

    Raises :class:`~leti.core.errors.InvalidInput` for what is no share.
    """
    found = _DROP.fullmatch(text.strip())
    share = math.nan if found is None else float(found[1]) / (100 if found[2] else 1)
    if not 0 <= share < 1:
        raise InvalidInput(f"cannot be {text!r}", field="max_drop", remedy="percentage points such as 0.5pp")
    return share
