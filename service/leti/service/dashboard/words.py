"""Words: how values are said on pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

UNKNOWN: Final = "–"


def latency(value: float | None) -> str:
    """Return a latency in ms with three digits and its unit."""
    return UNKNOWN if value is None else f"{digits(value)} ms"


def digits(value: float | None, count: int = 3) -> str:
    """Return a number with so many significant digits, never in powers of ten."""
    if value is None:
        return UNKNOWN
    if value == 0:
        return "0"
    text = f"{value:.{count}g}"
    return f"{float(text):,.0f}" if "e" in text else text


def share(value: float | None) -> str:
    """Return a share as percent."""
    return UNKNOWN if value is None else f"{100 * value:.1f} %"


def number(value: int | None) -> str:
    """Return a whole number with its thousands set apart."""
    return UNKNOWN if value is None else f"{value:,}"


def size(value: float | None) -> str:
    """Return bytes in the unit that suits."""
    if value is None:
        return UNKNOWN
    for unit in ("B", "KiB", "MiB"):
        if abs(value) < 1024:
            return f"{value:.3g} {unit}"
        value /= 1024
    return f"{value:.3g} GiB"


def fingerprint(value: str) -> str:
    """Return the beginning of a fingerprint: enough to tell networks apart, and to find one."""
    return value[:12]


def ago(value: str | None) -> str:
    """Return how long ago a point in time was, roughly."""
    if value is None:
        return "never"
    seconds = (datetime.now(UTC) - datetime.fromisoformat(value)).total_seconds()
    if seconds < 0:
        return f"in {duration(-seconds)}"
    return "just now" if seconds < 1 else f"{duration(seconds)} ago"


def duration(seconds: float | None) -> str:
    """Return a length of time in its largest unit."""
    if seconds is None:
        return UNKNOWN
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def cell(value: Any) -> str:
    """Return a cell of a table."""
    if value is None:
        return UNKNOWN
    return digits(value, 4) if isinstance(value, float) else str(value)


FILTERS: Final[Mapping[str, Callable[..., str]]] = {
    "latency": latency,
    "digits": digits,
    "share": share,
    "number": number,
    "size": size,
    "fingerprint": fingerprint,
    "ago": ago,
    "duration": duration,
    "cell": cell,
}
"""The filters of templates."""
