"""A service of its own for the client's tests, over a socket."""

from collections.abc import Callable, Iterator

import httpx
import pytest

from leti.client import Backoff, LatencyClient
from leti.core.device import Device, Platform
from leti.core.wire import PROTOCOL_HEADER, PROTOCOL_VERSION

MARK = {PROTOCOL_HEADER: str(PROTOCOL_VERSION)}


@pytest.fixture(scope="session")
def service_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real service on an empty database."""
    pytest.importorskip("fastapi", reason="the service's extra is not installed")
    from leti.service.server import running
    from leti.service.settings import Settings

    with running(Settings(tmp_path_factory.mktemp("service"), auth=False)) as url:
        yield url


@pytest.fixture
def client(service_url: str) -> Iterator[LatencyClient]:
    """A client of the real service."""
    with LatencyClient(service_url) as client:
        yield client


@pytest.fixture
def platform() -> Platform:
    """A platform that no test machine is."""
    return Platform(Device("bench-1", "desktop", "Example CPU", 4), "litert", "2.3.0", "xnnpack", affinity=(3,))


Handler = Callable[[httpx.Request], httpx.Response]
Wired = Callable[..., LatencyClient]


@pytest.fixture
def wired() -> Iterator[Wired]:
    """A client whose wire is a function: for what no healthy service does."""
    made: list[LatencyClient] = []

    def make(handler: Handler, **options: object) -> LatencyClient:
        transport = httpx.MockTransport(handler)
        options = {"backoff": Backoff(0.0, 0.0), **options}
        made.append(LatencyClient("http://service.test", transport=transport, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def mark() -> dict[str, str]:
    """The header that every answer of LETI's carries."""
    return dict(MARK)
