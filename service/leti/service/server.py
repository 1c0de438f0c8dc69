"""The server: a store, the application and a socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from typing_extensions import override

from leti.core.errors import Unavailable
from leti.core.extras import needs

with needs("service"):
    import uvicorn

    from leti.service.app import create_app
    from leti.service.settings import Settings
    from leti.service.store import Store

STOP_S = 10
"""Seconds that requests in flight get when the server stops."""


def serve(
    settings: Settings, host: str = "127.0.0.1", port: int = 0, on_ready: Callable[[str], None] | None = None
) -> None:
    """Serve until a signal (SIGINT, SIGTERM) says to stop; the folder and the schema are made ready first.

    ``on_ready`` is called with the base URL once connections are accepted. Port 0 takes a free one. Raises
    :class:`Unavailable` where host and port cannot be listened on, and what opening the store raises.
    """
    with _listening(host, port) as listener:
        store = Store.open(settings)
        try:
            _Server(store, settings, _url(listener), on_ready).run(sockets=[listener])
        finally:
            store.close()


@contextmanager
def running(settings: Settings, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve in a thread for the length of a block, which gets the base URL; raises as :func:`serve` does."""
    ready = threading.Event()
    with _listening(host, port) as listener:
        store = Store.open(settings)
        server = _Server(store, settings, _url(listener), lambda _url: ready.set())
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="leti-service")
        thread.start()
        try:
            while not ready.wait(0.05):
                if not thread.is_alive():
                    raise Unavailable("the server did not start", remedy="see its log")
            yield _url(listener)
        finally:
            server.should_exit = True
            thread.join()
            store.close()


class _Server(uvicorn.Server):
    def __init__(self, store: Store, settings: Settings, url: str, on_ready: Callable[[str], None] | None) -> None:
        super().__init__(
            uvicorn.Config(
                create_app(store, settings),
                lifespan="off",
                log_level="warning",
                server_header=False,
                timeout_keep_alive=settings.keep_alive_s,
                timeout_graceful_shutdown=STOP_S,
            )
        )
        self._url = url
        self._on_ready = on_ready

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self._on_ready is not None:
            self._on_ready(self._url)


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
