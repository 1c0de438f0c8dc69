"""Accuracies: what networks reached on tasks, as those said who trained them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, final

from sqlalchemy import Connection, Row, select

from leti.core.codec import to_json
from leti.core.errors import InvalidInput
from leti.core.wire import Accuracy, AccuracyRequest
from leti.service.database import Database
from leti.service.store.networks import unknown_network
from leti.service.store.times import utc
from leti.service.tables import accuracies, networks, platforms, truths

MOST_REMARK: Final = 1_000
"""Characters of a remark."""

MOST_TASKS: Final = 100
"""Tasks that one network may have an accuracy on."""


@final
class AccuracyStore:
    """Keeps the accuracy of each network on each task."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def put(self, fingerprint: str, task: str, request: AccuracyRequest) -> Accuracy:
        """Keep an accuracy over the one that was there; the same said again stays as it was.

        Raises :class:`InvalidInput` naming the field, and :class:`NotFound` for the network.
        """
        if not 0 <= request.accuracy <= 1:
            remedy = "give a share: 0.93, not 93"
            raise InvalidInput(f"must be from 0 to 1, not {request.accuracy}", field="accuracy", remedy=remedy)
        if len(request.remark) > MOST_REMARK:
            raise InvalidInput(f"must be no longer than {MOST_REMARK} characters", field="remark")
        with self._database.writing() as connection:
            there = {one.task: one for one in _of_network(connection, fingerprint)}
            found = there.get(task)
            if found is not None and (found.accuracy, found.remark) == (request.accuracy, request.remark):
                return _accuracy(found)
            if found is None and len(there) >= MOST_TASKS:
                raise InvalidInput(f"would be the network's accuracy on more than {MOST_TASKS} tasks", field="task")
            now = self._clock()
            said = Accuracy(fingerprint, task, request.accuracy, request.remark, utc(now))
            self._database.upsert(connection, accuracies, [{**to_json(said), "updated_at": now}])
            return said

    def list(self, fingerprint: str) -> tuple[Accuracy, ...]:
        """Return the accuracies of a network, by task; raise :class:`NotFound`."""
        with self._database.reading() as connection:
            return tuple(_accuracy(row) for row in _of_network(connection, fingerprint))

    def tasks(self, platform_id: str) -> tuple[str, ...]:
        """Return the tasks on which networks that are measured on a platform have an accuracy."""
        query = (
            select(accuracies.c.task)
            .distinct()
            .join(truths, truths.c.fingerprint == accuracies.c.fingerprint)
            .join(platforms, platforms.c.id == truths.c.platform_id)
            .where(platforms.c.id == platform_id, truths.c.reference == platforms.c.reference)
            .order_by(accuracies.c.task)
        )
        with self._database.reading() as connection:
            return tuple(connection.scalars(query))


def _of_network(connection: Connection, fingerprint: str) -> list[Row[Any]]:
    """Return the rows of a network, by task; raise :class:`NotFound`."""
    if connection.execute(select(networks.c.space).where(networks.c.fingerprint == fingerprint)).first() is None:
        raise unknown_network(fingerprint)
    query = select(accuracies).where(accuracies.c.fingerprint == fingerprint).order_by(accuracies.c.task)
    return list(connection.execute(query))


def _accuracy(row: Row[Any]) -> Accuracy:
    return Accuracy(row.fingerprint, row.task, row.accuracy, row.remark, utc(row.updated_at))
