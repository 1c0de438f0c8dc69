"""Conversions in processes of their own: one that crashes or hangs costs its network, and no other."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, cast, final

from leti.core.errors import InvalidGraph, InvalidInput, LetiError, error_classes
from leti.core.graph import Graph
from leti.generator.export.files import Conversion, ModelFiles
from leti.generator.export.formats import WRITERS

Converter = Callable[..., bytes]
"""Makes a file of a graph and, by name, a seed."""

TIMEOUT_S = 120.0
_START_S = 120.0
_ENDING_S = 5.0  # from the end of a process's pipe to its own
_READY, _DONE, _FAILED = b"ready", b"done", b"failed"


@dataclass(frozen=True, slots=True)
class Converted:
    """What became of one conversion: its number among those given, and its file or what went wrong."""

    number: int
    conversion: Conversion
    content: bytes | None = None
    error: LetiError | None = None


def convert_all(
    conversions: Iterable[Conversion],
    *,
    files: ModelFiles | None = None,
    workers: int = 1,
    timeout_s: float = TIMEOUT_S,
    converter: str | None = None,
) -> Iterator[Converted]:
    """Yield what becomes of each conversion, as soon as it is known, in no order.

    ``files`` are asked first and keep what is made. ``workers`` processes convert at the same time; one that takes
    longer than ``timeout_s`` for a network is killed, and another goes on with the next. ``converter`` takes the place
    of the format's own (:data:`~leti.generator.export.formats.WRITERS`), as ``module:function``. An error is what the
    converter raised, or :class:`InvalidGraph` whose ``details["failure"]`` is ``crash`` or ``timeout``.
    """
    if workers < 1 or timeout_s <= 0:
        raise InvalidInput("needs a worker and some time", field="workers", remedy="at least 1, and a positive timeout")
    waiting: deque[tuple[int, Conversion]] = deque()
    for number, conversion in enumerate(conversions):
        content = files.get(conversion) if files is not None else None
        if content is None:
            waiting.append((number, conversion))
        else:
            yield Converted(number, conversion, content)
    for result in _Pool(waiting, workers, timeout_s, converter).results():
        if files is not None and result.content is not None:
            files.put(result.conversion, result.content)
        yield result


@final
class _Worker:
    """A process and the conversion that it is at."""

    def __init__(self, converter: str, task: tuple[int, Conversion]) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy the locks of the parent's threads
        self.connection, other = context.Pipe()
        self.converter = converter
        self.task = task
        self.deadline = time.monotonic() + _START_S
        self.process = context.Process(target=_serve, args=(other, converter), daemon=True)
        self.process.start()
        other.close()  # so that the end of the process is the end of the pipe

    def begin(self, timeout_s: float) -> None:
        """Send the task; raise ``OSError`` where nobody reads it."""
        self.deadline = time.monotonic() + timeout_s
        _, conversion = self.task
        asked = {"seed": conversion.seed, "graph": conversion.graph.to_json()}
        self.connection.send_bytes(json.dumps(asked).encode())

    def end(self, patience_s: float = 0.0) -> int | None:
        """Kill the process; return its exit code if it ends by itself within ``patience_s``."""
        self.process.join(patience_s)
        code = self.process.exitcode
        self.process.kill()
        self.process.join()
        self.connection.close()
        return code


@final
class _Pool:
    """Workers over one queue of conversions."""

    def __init__(
        self, waiting: deque[tuple[int, Conversion]], workers: int, timeout_s: float, converter: str | None
    ) -> None:
        self._waiting = waiting
        self._most = workers
        self._timeout_s = timeout_s
        self._converter = converter
        self._workers: list[_Worker] = []

    def results(self) -> Iterator[Converted]:
        """Yield results until nothing waits and nobody works."""
        try:
            while self._waiting or self._workers:
                while self._waiting and len(self._workers) < self._most:
                    task = self._waiting.popleft()
                    self._workers.append(_Worker(self._converter or WRITERS[task[1].format], task))
                left_s = min(worker.deadline for worker in self._workers) - time.monotonic()
                ready = wait([worker.connection for worker in self._workers], max(left_s, 0))
                for worker in list(self._workers):
                    result = None
                    if worker.connection in ready:
                        result = self._hear(worker)
                    elif worker.deadline <= time.monotonic():
                        result = self._lose(worker, "timeout", f"did not end within {self._timeout_s:g} s")
                    if result is not None:
                        yield result
        finally:
            for worker in self._workers:
                worker.end()

    def _hear(self, worker: _Worker) -> Converted | None:
        """Read what a worker says; return the result if it is one, and give it the next task."""
        try:
            said = worker.connection.recv_bytes()
            if said == _READY:
                worker.begin(self._timeout_s)
                return None
            answer = worker.connection.recv_bytes()
        except (EOFError, OSError):
            return self._lose(worker, "crash", "ended its process")
        number, conversion = worker.task
        self._next(worker)
        if said == _DONE:
            return Converted(number, conversion, answer)
        return Converted(number, conversion, error=_read_error(answer, number, conversion))

    def _next(self, worker: _Worker) -> None:
        """Give a worker that is idle a task of its converter; without one, let it go."""
        task = self._waiting[0] if self._waiting else None
        if task is None or worker.converter != (self._converter or WRITERS[task[1].format]):
            self._workers.remove(worker)
            worker.end()
            return
        worker.task = self._waiting.popleft()
        try:
            worker.begin(self._timeout_s)
        except OSError:  # it died between two tasks: the task goes to another
            self._waiting.appendleft(worker.task)
            self._workers.remove(worker)
            worker.end()

    def _lose(self, worker: _Worker, failure: str, how: str) -> Converted:
        """Take a worker away; return the error of the conversion that it was at."""
        self._workers.remove(worker)
        code = worker.end(_ENDING_S if failure == "crash" else 0.0)
        number, conversion = worker.task
        if failure == "crash" and code is not None:
            how += f" by signal {-code}" if code < 0 else f" with code {code}"
        return Converted(number, conversion, error=_failed(how, failure, number, conversion))


def _failed(how: str, failure: str, number: int, conversion: Conversion) -> InvalidGraph:
    fingerprint = conversion.graph.fingerprint()
    return InvalidGraph(
        f"the conversion of {fingerprint[:12]} to {conversion.format} {how}",
        field=f"conversions[{number}]",
        remedy="leave the network out",
        failure=failure,
        fingerprint=fingerprint,
    )


def _read_error(answer: bytes, number: int, conversion: Conversion) -> LetiError:
    said: dict[str, Any] = json.loads(answer)
    known = error_classes().get(said["kind"])
    if known is None:
        return _failed(f"failed: {said['message']}", "error", number, conversion)
    details = {**said["details"], "fingerprint": conversion.graph.fingerprint()}
    return known(said["message"], field=said["field"], remedy=said["remedy"], **details)


# --- in the process --------------------------------------------------------------------------------------------------


def _serve(connection: Connection, converter: str) -> None:
    """Convert what is asked for until nobody asks any more."""
    module, name = converter.split(":")
    convert = cast("Converter", getattr(importlib.import_module(module), name))
    connection.send_bytes(_READY)
    while True:
        try:
            asked = json.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        said, answer = _answer(convert, asked)
        connection.send_bytes(said)
        connection.send_bytes(answer)


def _answer(convert: Converter, asked: dict[str, Any]) -> tuple[bytes, bytes]:
    try:
        return _DONE, convert(Graph.from_json(asked["graph"]), seed=asked["seed"])
    except LetiError as error:
        said = {"kind": error.kind, "message": error.message, "field": error.field, "remedy": error.remedy}
        return _FAILED, json.dumps({**said, "details": dict(error.details)}).encode()
    except Exception as error:  # noqa: BLE001  the border: whatever a converter raises is an answer
        return _FAILED, json.dumps({"kind": "", "message": f"{type(error).__name__}: {error}"}).encode()
