"""Logs: one line an event on standard error, as JSON or for people, in UTC, and never a secret."""

from __future__ import annotations

import contextvars
import json
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from typing import IO, Any, Final, final

from typing_extensions import override

from leti.core.extras import needs
from leti.service.settings import Settings

with needs("service"):
    import structlog
    from structlog.typing import EventDict, ProcessorReturnValue, WrappedLogger

_facts: contextvars.ContextVar[MutableMapping[str, Any] | None] = contextvars.ContextVar("facts", default=None)

HIDDEN: Final = "***"

_QUOTE: Final = r"(?:\\?[\"'])?"  # inside JSON it is escaped
_SECRETS: Final = re.compile(
    r"(?P<address>://[^\s/@:\"']*:)[^\s\"']+(?=@)"
    r"|(?P<scheme>\b(?:bearer|basic)\s+)[\w.~+/=-]{6,}"
    rf"|(?P<name>(?:password|passwd|secret|api[_-]?key|access[_-]?key){_QUOTE}\s*[=:]\s*{_QUOTE})[^\s\"',;&}}\\]+"
    r"|\bleti_[0-9A-Za-z]{8}_\w{8,}"  # a token of LETI's, whole or cut short
    r"|\bAKIA[0-9A-Z]{16}\b",
    re.IGNORECASE,
)

_SUSPECT: Final = ("://", "bearer", "basic", "passw", "secret", "key", "leti_", "akia")
"""One of these is in every text that holds a secret: most lines are known to be clean without a search."""


def begin() -> MutableMapping[str, Any]:
    """Begin to collect facts of a request; what :func:`note` adds while it is handled is found in the mapping."""
    facts: MutableMapping[str, Any] = {}
    _facts.set(facts)
    return facts


def note(**facts: Any) -> None:
    """Add facts to the request that is being handled: they stand in its line of the log, and metrics count them.

    ``token`` is the id of the caller's token. Outside a request nothing happens.
    """
    found = _facts.get()
    if found is not None:
        found.update(facts)


def count(**amounts: float) -> None:
    """Add amounts to those of the request that is being handled.

    ``networks`` is how many were asked for, ``measured`` and ``predicted`` how many of the distinct ones were answered
    so, on all platforms together, and ``predict_s`` how long predictors took; of requests that are answered together,
    the first has it.
    """
    found = _facts.get()
    if found is not None:
        for name, amount in amounts.items():
            found[name] = found.get(name, 0) + amount


def configure(settings: Settings, stream: IO[str] | None = None) -> None:
    """Send every logger of the process to ``stream`` (standard error), as the settings say.

    Libraries are heard from warnings on; uvicorn is to be started without handlers of its own (``log_config=None``).
    """
    out = sys.stderr if stream is None else stream
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not out.isatty())
    handler = logging.StreamHandler(out)
    handler.setFormatter(_formatter(as_json=as_json, colors=out.isatty()))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    root.setLevel(max(level, logging.WARNING))  # what others find worth saying; LETI speaks for itself
    logging.getLogger("leti").setLevel(level)
    logging.captureWarnings(True)
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # what no line says is not found out


def redacted(text: str) -> str:
    """Return ``text`` with passwords in addresses, tokens and keys hidden."""
    lowered = text.lower()
    return _SECRETS.sub(_hide, text) if any(sign in lowered for sign in _SUSPECT) else text


def _hide(found: re.Match[str]) -> str:
    return (found["address"] or found["scheme"] or found["name"] or "") + HIDDEN


def _formatter(*, as_json: bool, colors: bool) -> logging.Formatter:
    if as_json:
        return _JsonLines()
    formatting = structlog.stdlib.ProcessorFormatter
    return formatting(
        foreign_pre_chain=[
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            _name,
            structlog.stdlib.ExtraAdder(),
        ],
        processors=[
            formatting.remove_processors_meta,
            structlog.dev.ConsoleRenderer(colors=colors, timestamp_key="time"),
            _redact,
        ],
    )


@final
class _JsonLines(logging.Formatter):
    """Writes a record as one JSON object.

    Every request leaves a line: structlog's chain of processors, made for changing events, takes as long for it as all
    that is counted and checked of the request.
    """

    @override
    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z")
        said = _said(when, record)
        said["event"] = record.getMessage()
        said.update((name, value) for name, value in record.__dict__.items() if name not in _RECORD)
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            said["stack"] = record.stack_info
        return redacted(_ENCODER.encode(said))


_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, default=str)  # one, as `json.dumps` makes a new one each time
_RECORD: Final = frozenset([*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName"])
"""What every record has."""


def _name(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Say when, how grave, who, and of which request, before everything else."""
    return {**_said(event["time"], event["_record"]), **event}


def _said(when: str, record: logging.LogRecord) -> dict[str, Any]:
    said = {"time": when, "level": record.levelname.lower(), "logger": record.name}
    request_id = (_facts.get() or _NOTHING).get("request_id")
    if request_id is not None:
        said["request_id"] = request_id
    return said


def _redact(_logger: WrappedLogger, _method: str, rendered: ProcessorReturnValue) -> ProcessorReturnValue:
    return redacted(str(rendered))


_NOTHING: Final[Mapping[str, Any]] = {}
