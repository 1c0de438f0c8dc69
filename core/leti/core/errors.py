"""Every error that LETI raises on purpose.

::

    LetiError
    ├── InvalidInput            a value from outside is wrong: field and remedy say which and what would be right
    │   ├── InvalidSpec         a NetworkSpec breaks a rule of its space
    │   ├── InvalidGraph        operators, shapes or wiring do not fit together
    │   ├── TooLarge            a body, batch, graph or file is over its limit
    │   ├── NotAcceptable       the request takes no form that the answer comes in
    │   └── NotReadable         the body comes in a form, or a coding, that the service does not read
    ├── NotAuthenticated        the request carries no valid token
    ├── NotPermitted            the token's role may not do that
    ├── NotFound                no such network, platform, campaign, job, predictor
    ├── Conflict                the request contradicts what is stored
    │   └── LeaseLost           the lease has run out or belongs to somebody else
    ├── NotPredictable          a predictor cannot price this network and will not guess
    │   └── TooFewMeasurements  not enough measured networks to train or to calibrate
    ├── MeasurementFailed       a model could not be loaded or run; ``failure`` says how
    │   └── DeviceFault         not the model but the device is at fault: gone, too hot, full, locked
    ├── MissingExtra            the part of LETI, or the plugin, that was asked for is not installed or cannot be loaded
    ├── TaskFailed              a task was cancelled, took too long, or killed its workers
    ├── VersionMismatch         client, agent, service or artifact speak different versions
    ├── ArtifactError           a saved predictor or model file is damaged
    ├── StorageError            the database refused or cannot be reached
    └── Unavailable             the service cannot be reached
        └── TooManyRequests     the caller asks more often than it may, or more ask than the service can serve

Errors carry fields, not only text: ``field`` names the place of the fault, ``remedy`` what would be right, and
``details`` holds further values (a shape, a layer, an identifier). All of them travel in a problem (RFC 9457) and are
raised again as the same class on the client's side.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

Detail = str | int | float | bool | None


def printable(text: str) -> str:
    """Return a text in one line, with a blank for each line break, control code or half character."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


class LetiError(Exception):
    """Root of the tree: ``message``, and optionally the ``field`` at fault, a ``remedy`` and ``details``."""

    kind: ClassVar[str] = "error"

    def __init__(self, message: str, *, field: str = "", remedy: str = "", **details: Detail) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.remedy = remedy
        self.details: Mapping[str, Detail] = details

    def __str__(self) -> str:
        """Return one line: the field, the message and the remedy, whatever a foreign name in them holds."""
        place = f"{self.field}: " if self.field else ""
        remedy = f" ({self.remedy})" if self.remedy else ""
        return printable(f"{place}{self.message}{remedy}")


class InvalidInput(LetiError):
    """A value from outside is wrong."""

    kind = "invalid-input"


class InvalidSpec(InvalidInput):
    """A network specification breaks a rule of its search space."""

    kind = "invalid-spec"


class InvalidGraph(InvalidInput):
    """Operators, shapes or wiring of a graph do not fit together."""

    kind = "invalid-graph"


class TooLarge(InvalidInput):
    """A body, batch, graph or file is over its limit."""

    kind = "too-large"


class NotAuthenticated(LetiError):
    """A request carries no token, or none that is valid."""

    kind = "not-authenticated"


class NotPermitted(LetiError):
    """The role of a token does not reach as far as the request."""

    kind = "not-permitted"


class NotAcceptable(InvalidInput):
    """A request takes no form that its answer comes in."""

    kind = "not-acceptable"


class NotReadable(InvalidInput):
    """A body is announced in a form, or a coding, that is not read."""

    kind = "not-readable"


class NotFound(LetiError):
    """The thing that a request names does not exist."""

    kind = "not-found"


class Conflict(LetiError):
    """A request contradicts what is stored."""

    kind = "conflict"


class LeaseLost(Conflict):
    """A lease has run out, was released, or belongs to somebody else."""

    kind = "lease-lost"


class NotPredictable(LetiError):
    """A predictor cannot price a network and will not guess."""

    kind = "not-predictable"


class TooFewMeasurements(NotPredictable):
    """There are not enough measured networks to train or to calibrate a predictor."""

    kind = "too-few-measurements"


class MeasurementFailed(LetiError):
    """A model could not be loaded or run; ``details["failure"]`` is its kind."""

    kind = "measurement-failed"


class DeviceFault(MeasurementFailed):
    """The device, and not the model, kept a measurement from being made; ``details["failure"]`` is its kind.

    The job goes back to the queue: another device, or the same one later, may do it.
    """

    kind = "device-fault"


class MissingExtra(LetiError):
    """A part of LETI that stands behind an extra, or a plugin, is not installed or cannot be loaded."""

    kind = "missing-extra"

    @classmethod
    def named(cls, extra: str, module: str) -> MissingExtra:
        """Return the error for ``module``, which the optional dependencies ``leti[extra]`` bring."""
        return cls(f"{module} is not installed", remedy=f"pip install 'leti[{extra}]'", extra=extra, module=module)


class TaskFailed(LetiError):
    """A task of a worker ended without a report: it was cancelled, took too long, or killed its workers."""

    kind = "task-failed"


class VersionMismatch(LetiError):
    """Client, agent, service or artifact speak different versions."""

    kind = "version-mismatch"


class ArtifactError(LetiError):
    """A saved predictor or model file is damaged or is not what it says."""

    kind = "artifact-error"


class StorageError(LetiError):
    """The database refused a statement or cannot be reached."""

    kind = "storage-error"


class Unavailable(LetiError):
    """The service cannot be reached or did not answer in time."""

    kind = "unavailable"


class TooManyRequests(Unavailable):
    """A caller asks more often than it may; ``details["retry_after_s"]`` says when it may again."""

    kind = "too-many-requests"


def error_classes() -> dict[str, type[LetiError]]:
    """Return every class of the tree by its ``kind``; a subclass without a kind of its own does not count."""
    found: dict[str, type[LetiError]] = {}
    queue: list[type[LetiError]] = [LetiError]
    while queue:
        cls = queue.pop()
        found.setdefault(cls.kind, cls)
        queue.extend(cls.__subclasses__())
    return found
