"""Problems: the one place where errors become RFC 9457 problems; needs no framework, as workers keep them too."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from leti.core.errors import (
    ArtifactError,
    Conflict,
    DeviceFault,
    InvalidGraph,
    InvalidInput,
    InvalidSpec,
    LeaseLost,
    LetiError,
    MeasurementFailed,
    MissingExtra,
    NotAcceptable,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    NotPredictable,
    NotReadable,
    StorageError,
    TaskFailed,
    TooFewMeasurements,
    TooLarge,
    TooManyRequests,
    Unavailable,
    VersionMismatch,
)
from leti.core.wire import PROBLEM_TYPE, Problem

STATUSES: Final[Mapping[type[LetiError], int]] = {
    LetiError: 500,
    InvalidInput: 422,
    InvalidSpec: 422,
    InvalidGraph: 422,
    TooLarge: 413,
    NotAuthenticated: 401,
    NotPermitted: 403,
    NotAcceptable: 406,
    NotReadable: 415,
    NotFound: 404,
    Conflict: 409,
    LeaseLost: 409,
    NotPredictable: 422,
    TooFewMeasurements: 409,
    MeasurementFailed: 422,
    DeviceFault: 422,
    MissingExtra: 501,
    TaskFailed: 409,
    VersionMismatch: 426,
    ArtifactError: 500,
    StorageError: 503,
    Unavailable: 503,
    TooManyRequests: 429,
}
"""Every class of the error tree with its status."""

_LONGEST: Final = 2_000
"""Characters of a text in a problem; what a request holds is not echoed at length."""


def status_of(error: LetiError) -> int:
    """Return the status of the nearest class in the table: a plugin may raise a class of its own below one of ours."""
    return next(STATUSES[cls] for cls in type(error).__mro__ if cls in STATUSES)


def problem(error: LetiError, status: int | None = None) -> Problem:
    """Return the problem that says what ``error`` says."""
    found = status_of(error) if status is None else status
    return Problem(
        type=f"{PROBLEM_TYPE}{error.kind}",
        title=error.kind.replace("-", " ").capitalize(),
        status=found,
        detail=_text(error.message),
        field=_text(error.field),
        remedy=_text(error.remedy),
        details={name: _finite(value) for name, value in error.details.items()},
    )


def _text(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _finite(value: object) -> object:
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value
