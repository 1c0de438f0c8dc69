"""Networks that are to be measured because somebody asked for their latency: one campaign a platform."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from sqlalchemy import Connection, insert, select, update

from leti.core.errors import Conflict
from leti.service.database import Database, chunks
from leti.service.store.bell import Bell
from leti.service.store.devices import lock_device
from leti.service.store.platforms import find_platform
from leti.service.store.progress import begin, grow
from leti.service.tables import campaigns, jobs

NAME: Final = "asked"
DIGEST: Final = "asked" + 59 * "0"
"""What tells the campaign from one that somebody gave the same name: no request has this digest."""

PRIORITY: Final = -101
"""Below every campaign's: what was planned comes first."""

_ENDED: Final = ("failed", "poison")


@final
@dataclass(frozen=True, slots=True)
class Asked:
    """What became of networks: ``queued`` now, ``waiting`` already, or tried before and failed, with the reason."""

    queued: tuple[str, ...]
    waiting: tuple[str, ...]
    failed: dict[str, str]


@final
class AskedStore:
    """Queues networks that were asked for, each once while it waits, to be measured once."""

    def __init__(self, database: Database, clock: Callable[[], float], bell: Bell) -> None:
        self._database = database
        self._clock = clock
        self._bell = bell

    def queue(self, platform_id: str, fingerprints: Sequence[str]) -> Asked:
        """Queue known networks of a platform's precision by fingerprint, each given once; say what became of each.

        One that waits already, in any campaign, is not queued again, nor one that failed when it was asked for before.
        Raises :class:`NotFound` for the platform and :class:`Conflict` where somebody's own campaign has the name.
        """
        with self._database.writing() as connection:
            lock_device(connection, find_platform(connection, platform_id).device)
            campaign_id = self._campaign(connection, platform_id)
            waiting = _waiting(connection, platform_id, fingerprints)
            newest = _newest(connection, campaign_id, fingerprints)
            failed = {
                fingerprint: f"{job.failure_kind or job.state}: {job.failure_message or 'no reason given'}"
                for fingerprint, job in newest.items()
                if job.state in _ENDED and fingerprint not in waiting
            }
            queued = [name for name in fingerprints if name not in waiting and name not in failed]
            if queued:
                self._add(connection, platform_id, campaign_id, queued, newest)
        if queued:
            self._bell.ring(platform_id)
        return Asked(tuple(queued), tuple(name for name in fingerprints if name in waiting), failed)

    def _campaign(self, connection: Connection, platform_id: str) -> int:
        there = campaigns.c.platform_id == platform_id, campaigns.c.name == NAME
        row = connection.execute(select(campaigns.c.id, campaigns.c.digest).where(*there)).first()
        if row is not None:
            if row.digest != DIGEST:
                raise Conflict(
                    f"a campaign of yours is called {NAME!r}, where networks that are asked for would be queued",
                    field="wait",
                    remedy="queue them in a campaign of another name: POST /v1/campaigns",
                    campaign_id=row.id,
                )
            return int(row.id)
        values = {
            "platform_id": platform_id,
            "name": NAME,
            "zero": "execute",
            "request": {},
            "digest": DIGEST,
            "networks": 0,
            "priority": PRIORITY,
            "created_at": self._clock(),
        }
        key = connection.execute(insert(campaigns).values(**values)).inserted_primary_key
        assert key is not None  # noqa: S101 - a table with a key that the database numbers
        begin(connection, key[0], 0)
        return int(key[0])

    def _add(
        self,
        connection: Connection,
        platform_id: str,
        campaign_id: int,
        fingerprints: Sequence[str],
        newest: dict[str, Any],
    ) -> None:
        rows = [
            {
                "campaign_id": campaign_id,
                "platform_id": platform_id,
                "fingerprint": fingerprint,
                "repeat": newest[fingerprint].repeat + 1 if fingerprint in newest else 0,
                "position": position,
                "state": "queued",
                "attempts": 0,
                "deaths": 0,
                "noisy": False,
                "priority": PRIORITY,
                "profile": False,
            }
            for position, fingerprint in enumerate(fingerprints)
        ]
        connection.execute(insert(jobs), rows)
        grow(connection, campaign_id, len(rows))
        more = sum(fingerprint not in newest for fingerprint in fingerprints)
        grown = campaigns.c.networks + more
        connection.execute(update(campaigns).where(campaigns.c.id == campaign_id).values(networks=grown))


def _waiting(connection: Connection, platform_id: str, fingerprints: Sequence[str]) -> set[str]:
    """Return the networks that any campaign of the platform will have measured."""
    states = jobs.c.platform_id == platform_id, jobs.c.state.in_(("queued", "leased"))
    return {
        fingerprint
        for part in chunks(fingerprints)
        for (fingerprint,) in connection.execute(
            select(jobs.c.fingerprint).where(*states, jobs.c.fingerprint.in_(part))
        )
    }


def _newest(connection: Connection, campaign_id: int, fingerprints: Sequence[str]) -> dict[str, Any]:
    """Return the last job of each network that has one in the campaign."""
    query = select(jobs).where(jobs.c.campaign_id == campaign_id).order_by(jobs.c.repeat)
    return {
        row.fingerprint: row
        for part in chunks(fingerprints)
        for row in connection.execute(query.where(jobs.c.fingerprint.in_(part)))
    }
