"""The server: a store, the application and a socket."""

from __future__ import annotations

import gc
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib import metadata
from types import FrameType
from typing import Final

from typing_extensions import override

from leti.core.errors import Unavailable
from leti.core.extras import needs

with needs("service"):
    import uvicorn

    from leti.service import logs
    from leti.service.answering.ahead import Ahead
    from leti.service.app import create_app
    from leti.service.gate.authentication import check_exposure
    from leti.service.gate.heads import limited_heads
    from leti.service.readiness import Readiness
    from leti.service.settings import Settings, networks_of
    from leti.service.store import Store

log = logging.getLogger(__name__)

COLLECTOR_THRESHOLDS: Final = (50_000, 20, 50)
"""New objects until the garbage collector looks at the young ones, and how often until it looks at older ones too."""


def serve(
    settings: Settings, host: str = "127.0.0.1", port: int = 0, on_ready: Callable[[str], None] | None = None
) -> None:
    """Serve until a signal (SIGINT, SIGTERM) says to stop; the folder and the schema are made ready first.

    The process's logs go where the settings say. Told to stop, the service is no longer ready (``/readyz``); after
    ``drain_s`` it takes no more connections, and what is in flight gets ``stop_s`` to end. Leases are left alone: they
    are the agents', whichever process answers them next. ``on_ready`` is called with the base URL once connections are
    accepted. Port 0 takes a free one. Raises :class:`Unavailable` where host and port cannot be listened on, and what
    opening the store raises.
    """
    check_exposure(settings, host)
    logs.configure(settings)
    with _listening(host, port) as listener:
        store = Store.open(settings)
        try:
            log.info("started", extra={"version": metadata.version("leti"), "url": _url(listener)})
            server = _Server(store, settings, _url(listener), on_ready)
            _spare_collector()
            server.run(sockets=[listener])
        finally:
            store.close()
            log.info("stopped")


@contextmanager
def running(settings: Settings, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve in a thread for the length of a block, which gets the base URL; raises as :func:`serve` does."""
    check_exposure(settings, host)
    ready = threading.Event()
    with _listening(host, port) as listener, closing(Store.open(settings)) as store:
        server = _Server(store, settings, _url(listener), lambda _url: ready.set())
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="leti-service")
        thread.start()
        try:
            while not ready.wait(0.05):
                if not thread.is_alive():
                    raise Unavailable("the server did not start", remedy="see its log")
            yield _url(listener)
        finally:
            server.stop()
            thread.join()


class _Server(uvicorn.Server):
    def __init__(self, store: Store, settings: Settings, url: str, on_ready: Callable[[str], None] | None) -> None:
        app = create_app(store, settings)
        super().__init__(
            uvicorn.Config(
                app,
                http=limited_heads(settings.receive_timeout_s),
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_keep_alive=settings.keep_alive_s,
                timeout_graceful_shutdown=settings.stop_s,
                forwarded_allow_ips=networks_of(settings.trusted_proxies),
            )
        )
        self._store = store
        self._readiness: Readiness = app.state.parts.readiness
        self._ahead: Ahead = app.state.parts.answerer.ahead
        self._drain_s = settings.drain_s
        self._stop_at: float | None = None
        self._url = url
        self._on_ready = on_ready

    def stop(self) -> None:
        """Take no more connections, and end what is in flight."""
        self._readiness.stopping.set()
        self.should_exit = True

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop; a second signal ends the draining. SIGTERM is the ordinary end, and no error."""
        if sig != signal.SIGTERM:
            self._captured_signals.append(sig)  # raised again once everything is closed
        if self._stop_at is not None or not self._drain_s:
            self.force_exit = self.should_exit and sig == signal.SIGINT
            self.stop()
        else:
            self._readiness.stopping.set()
            self._stop_at = time.monotonic() + self._drain_s

    @override
    async def on_tick(self, counter: int) -> bool:
        if self._stop_at is not None and time.monotonic() >= self._stop_at:
            self.should_exit = True
        return await super().on_tick(counter)

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._store.bell.close()  # agents that wait for jobs are told that there are none
        await super().shutdown(sockets)
        self._ahead.close()

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ahead.begin()
        if self.started and self._on_ready is not None:
            self._on_ready(self._url)


def _spare_collector() -> None:
    """Have the garbage collector look seldom, and not at what is there for good.

    A batch of a thousand networks makes some hundred thousand objects that live on, in caches: with Python's own
    settings the collector would look through all of them many times over, for as long as the batch itself takes.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise Unavailable(
            f"cannot listen on {host}:{port}: {error}", field="port", remedy="choose another port, or 0 for a free one"
        ) from error
    with listener:
        yield listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
