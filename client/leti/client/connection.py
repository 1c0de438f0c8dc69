"""Connections to a service, one that waits and one that awaits: each sends calls, again where that is safe."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Generator, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar, final

import httpx

from leti.client import exchange
from leti.client.backoff import Backoff
from leti.client.call import Call, Flow, Look
from leti.client.exchange import HTTPX_ERRORS, Answer, Received, checked, encoded, may_repeat, pause_s, translated
from leti.core.errors import InvalidInput

T = TypeVar("T")

IDEMPOTENCY_KEY: Final = "idempotency-key"

PIECE_BYTES: Final = 2**20
"""What is read of a file at once."""


class _Attempts:
    """One call as httpx takes it, and the rule by which it is sent again."""

    def __init__(self, call: Call[Any], base_url: str, timeout_s: float, retries: int, backoff: Backoff) -> None:
        self.what = f"{call.method} {call.path}"
        self.base_url = base_url
        self._call = call
        self._delays = (*islice(backoff.delays(), retries), None)
        headers = {**call.headers}
        if call.repeats == "keyed":
            headers[IDEMPOTENCY_KEY] = uuid.uuid4().hex
        content = None
        if call.body is not None:
            content = encoded(call.body)
            headers["content-type"] = "application/json"
        elif isinstance(call.file, bytes):
            content = call.file
        if call.file is not None:
            headers["content-type"] = "application/octet-stream"
        self.options: dict[str, Any] = {
            "content": content,
            "headers": headers,
            "params": {name: value for name, value in call.params.items() if value is not None},
            "timeout": httpx.Timeout(timeout_s, read=timeout_s + call.longer_s),
        }

    @property
    def file(self) -> Path | None:
        """The file that is the body."""
        return self._call.file if isinstance(self._call.file, Path) else None

    def run(self) -> Generator[float | None, Answer | Exception, Answer]:
        """Yield ``None`` to have the call sent and seconds to wait; be sent what came; return a success."""
        idempotent = self._call.repeats != "never"
        for delay_s in self._delays:
            came = yield None
            if isinstance(came, Exception):
                if delay_s is None or not may_repeat(came, idempotent=idempotent):
                    raise translated(came, self.base_url) from came
                yield delay_s
                continue
            wait_s = None if delay_s is None else pause_s(came, delay_s, idempotent=idempotent)
            if wait_s is None:
                return checked(came)
            yield wait_s
        raise AssertionError("unreachable: the last try returns or raises")


class _Address:
    """What both connections are made of."""

    def __init__(self, base_url: str, timeout_s: float, retries: int, backoff: Backoff) -> None:
        self.base_url: Final = exchange.checked_address(base_url)
        if retries < 0:
            raise InvalidInput(f"must be 0 or more, not {retries}", field="retries")
        self._timeout_s = timeout_s
        self._retries = retries
        self._backoff = backoff

    def _attempts(self, call: Call[Any]) -> _Attempts:
        return _Attempts(call, self.base_url, self._timeout_s, self._retries, self._backoff)


@final
class Connection(_Address):
    """Sends calls to the service at ``base_url``; safe to share between threads.

    A request that is safe to repeat is sent again up to ``retries`` times when the connection fails, or the service or
    a proxy before it answers 502, 503 or 504, with the delays of ``backoff`` between; any request is after a 429, when
    the service says so.
    ``transport`` replaces the network (an application in memory). A ``token`` is sent with every request, and shown
    nowhere; where it would travel in the clear to another machine, a warning is logged once.
    """

    def __init__(
        self,
        base_url: str,
        *,
        timeout_s: float,
        retries: int,
        backoff: Backoff,
        transport: httpx.BaseTransport | None = None,
        token: str | None = None,
    ) -> None:
        super().__init__(base_url, timeout_s, retries, backoff)
        options = exchange.client_options(self.base_url, token, timeout_s)
        self._http = httpx.Client(transport=transport, **options)

    def close(self) -> None:
        """Close every connection; the object cannot be used afterwards."""
        self._http.close()

    def send(self, call: Call[T]) -> T:
        """Send a call and return what its answer says.

        Raises the service's own errors, :class:`Unavailable` where it cannot be reached, :class:`VersionMismatch` where
        it speaks another version.
        """
        attempts = self._attempts(call)
        run = attempts.run()
        wanted = next(run)
        while True:
            try:
                if wanted is None:
                    wanted = run.send(self._try(call, attempts))
                else:
                    time.sleep(wanted)
                    wanted = next(run)
            except StopIteration as end:
                return call.read(end.value)

    def run(self, flow: Flow[T]) -> T:
        """Return the result of a flow, its calls sent as :meth:`send` does."""
        sent: Any = None
        while True:
            try:
                step = flow.send(sent)
            except StopIteration as end:
                result: T = end.value
                return result
            try:
                sent = time.monotonic() if isinstance(step, Look) else self.send(step)
            except BaseException as error:  # the flow is told, so that it can end its own affairs
                flow.throw(error)
                raise

    def _try(self, call: Call[Any], attempts: _Attempts) -> Answer | Exception:
        options = attempts.options
        if attempts.file is not None:
            options = {**options, "content": _pieces(attempts.file)}
        try:
            with self._http.stream(call.method, call.path, **options) as response:
                with Received(response.status_code, call.into, attempts.what) as content:
                    for chunk in response.iter_bytes():
                        content.write(chunk)
                    whole = content.end()
                return Answer(response.status_code, response.headers, whole, attempts.what, self.base_url)
        except HTTPX_ERRORS as error:
            return error


@final
class AsyncConnection(_Address):
    """Sends calls as :class:`Connection` does, without holding a thread; for one event loop."""

    def __init__(
        self,
        base_url: str,
        *,
        timeout_s: float,
        retries: int,
        backoff: Backoff,
        transport: httpx.AsyncBaseTransport | None = None,
        token: str | None = None,
    ) -> None:
        super().__init__(base_url, timeout_s, retries, backoff)
        options = exchange.client_options(self.base_url, token, timeout_s)
        self._http = httpx.AsyncClient(transport=transport, **options)

    async def close(self) -> None:
        """Close every connection; the object cannot be used afterwards."""
        await self._http.aclose()

    async def send(self, call: Call[T]) -> T:
        """Send a call and return what its answer says; raises as :meth:`Connection.send` does."""
        attempts = self._attempts(call)
        run = attempts.run()
        wanted = next(run)
        while True:
            try:
                if wanted is None:
                    wanted = run.send(await self._try(call, attempts))
                else:
                    await asyncio.sleep(wanted)
                    wanted = next(run)
            except StopIteration as end:
                return call.read(end.value)

    async def run(self, flow: Flow[T]) -> T:
        """Return the result of a flow, its calls sent as :meth:`send` does."""
        sent: Any = None
        while True:
            try:
                step = flow.send(sent)
            except StopIteration as end:
                result: T = end.value
                return result
            try:
                sent = time.monotonic() if isinstance(step, Look) else await self.send(step)
            except BaseException as error:
                flow.throw(error)
                raise

    async def _try(self, call: Call[Any], attempts: _Attempts) -> Answer | Exception:
        options = attempts.options
        if attempts.file is not None:
            options = {**options, "content": _awaited_pieces(attempts.file)}
        try:
            async with self._http.stream(call.method, call.path, **options) as response:
                with Received(response.status_code, call.into, attempts.what) as content:
                    async for chunk in response.aiter_bytes():
                        content.write(chunk)
                    whole = content.end()
                return Answer(response.status_code, response.headers, whole, attempts.what, self.base_url)
        except HTTPX_ERRORS as error:
            return error


def _pieces(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}", field="file") from error


async def _awaited_pieces(path: Path) -> AsyncIterator[bytes]:
    for piece in _pieces(path):  # a local disk: no wait worth a thread
        yield piece
