"""The heartbeat of a lease: a thread that renews it while the measuring thread is busy."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final, final

from leti.client import LatencyClient
from leti.core.errors import LeaseLost, LetiError, NotFound
from leti.core.farm import Lease

if TYPE_CHECKING:
    from typing import Self

log = logging.getLogger(__name__)

BEATS_PER_LEASE: Final = 4
"""Heartbeats while one lease lasts: three may fail before it is lost."""

JOIN_S: Final = 2.0


@final
class Heart:
    """Renews ``lease`` inside a ``with`` block; ``lost`` is set once the service says that it is lost."""

    def __init__(self, client: LatencyClient, lease: Lease) -> None:
        self.lost = threading.Event()
        self._client = client
        self._lease = lease
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease-{lease.id}", daemon=True)

    def __enter__(self) -> Self:
        """Start beating."""
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop beating; do not wait long for an answer that is on its way."""
        self._done.set()
        self._thread.join(JOIN_S)

    def _beat(self) -> None:
        while not self._done.wait(self._lease.expires_in_s / BEATS_PER_LEASE):
            try:
                self._client.heartbeat(self._lease.id, self._lease.token)
            except (LeaseLost, NotFound) as error:
                log.warning("lease %d is lost: %s", self._lease.id, error)
                self.lost.set()
                return
            except LetiError as error:
                log.warning("no heartbeat: %s", error)
