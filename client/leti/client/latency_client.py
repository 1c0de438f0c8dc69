"""LatencyClient and AsyncLatencyClient: a service's answers in core's types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from leti.client.awaited.farm import AsyncFarmMethods
from leti.client.awaited.learning import AsyncLearningMethods
from leti.client.awaited.network import AsyncNetworkMethods
from leti.client.awaited.query import AsyncQueryMethods
from leti.client.backoff import Backoff
from leti.client.connection import AsyncConnection, Connection
from leti.client.methods.farm import FarmMethods
from leti.client.methods.learning import LearningMethods
from leti.client.methods.network import NetworkMethods
from leti.client.methods.query import QueryMethods

if TYPE_CHECKING:
    from typing import Self

    import httpx

DEFAULT_BACKOFF: Final = Backoff()


@final
class LatencyClient(NetworkMethods, FarmMethods, LearningMethods, QueryMethods):
    """A service's answers in core's types: ``with LatencyClient("http://127.0.0.1:8000") as client: …``.

    Every method raises the errors that the service raised, as the same classes of :mod:`leti.core.errors`, with their
    field and remedy; :class:`~leti.core.errors.Unavailable` where the service cannot be reached; and
    :class:`~leti.core.errors.VersionMismatch` where it speaks another version. Requests that are safe to repeat are
    repeated up to ``retries`` times; those that make something new carry an idempotency key, and are safe by it. After
    a 429 the client waits as long as the service says. A client may be shared between threads.

    ``token`` is what the service knows the caller by: sent with every request (``Authorization: Bearer``), never
    logged nor followed anywhere by a redirect. Give it only over https, or on this machine: over plain http to another
    one it can be read on the way, and a warning says so.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        timeout_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
        retries: int = 3,
        backoff: Backoff = DEFAULT_BACKOFF,
    ) -> None:
        self._connection = Connection(
            base_url, timeout_s=timeout_s, retries=retries, backoff=backoff, transport=transport, token=token
        )

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close the client."""
        self.close()

    def close(self) -> None:
        """Close every connection; the client cannot be used afterwards."""
        self._connection.close()

    @property
    def base_url(self) -> str:
        """The address of the service."""
        return self._connection.base_url


@final
class AsyncLatencyClient(AsyncNetworkMethods, AsyncFarmMethods, AsyncLearningMethods, AsyncQueryMethods):
    """A :class:`LatencyClient` whose methods are awaited: ``async with AsyncLatencyClient(url) as client: …``.

    It belongs to one event loop; many of its calls may be under way at once.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        timeout_s: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
        retries: int = 3,
        backoff: Backoff = DEFAULT_BACKOFF,
    ) -> None:
        self._connection = AsyncConnection(
            base_url, timeout_s=timeout_s, retries=retries, backoff=backoff, transport=transport, token=token
        )

    async def __aenter__(self) -> Self:
        """Return the client itself."""
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close the client."""
        await self.close()

    async def close(self) -> None:
        """Close every connection; the client cannot be used afterwards."""
        await self._connection.close()

    @property
    def base_url(self) -> str:
        """The address of the service."""
        return self._connection.base_url
