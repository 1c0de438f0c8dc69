"""Results on their way to the service: on disk first, handed in until they are acknowledged or refused for good."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Final, final

from leti.client import LatencyClient
from leti.core.errors import Conflict, InvalidInput, LetiError, NotFound, StorageError, Unavailable
from leti.core.farm import Result
from leti.device_agents.spool import Entry, Spool

log = logging.getLogger(__name__)

REFUSALS: Final = (InvalidInput, NotFound, Conflict)
"""Answers to a result that will not change when it is posted again."""

MOST_FAULTS: Final = 5
"""Times that the service may fail inside itself over one result before that result is set aside."""


@final
class Outbox:
    """The results that the service at the other end of ``client`` does not have yet, in the folder ``spool``."""

    def __init__(self, client: LatencyClient, spool: Path) -> None:
        self.refused = 0
        self._client = client
        self._spool = Spool(spool)
        self._faults: Counter[Path] = Counter()

    def put(self, result: Result) -> None:
        """Write a result to the disk; raise :class:`~leti.core.errors.StorageError` where that cannot be done."""
        self._spool.put(result)

    def flush(self) -> None:
        """Hand in every result that waits, in order; raise where the service cannot be reached.

        ``refused`` counts the results that it will never take: they are set aside.
        """
        fault: LetiError | None = None
        for entry in self._spool.pending():
            try:
                receipt = self._client.post_result(entry.result)
            except LetiError as error:
                if not isinstance(error, REFUSALS) and not is_fault(error):
                    raise
                self._faults[entry.path] += 1
                if is_fault(error) and self._faults[entry.path] < MOST_FAULTS:
                    fault = error
                    continue
                self._refuse(entry, error)
            else:
                log.info("result of job %d: %s", entry.result.job_id, receipt.status)
                self._spool.acknowledged(entry)
        if fault is not None:
            raise fault

    def flush_if_possible(self) -> bool:
        """Hand in what waits, or leave it where it is while the service cannot be reached; return whether all went."""
        try:
            self.flush()
        except LetiError as error:
            if not temporary(error):
                raise
            log.warning("%d results wait: %s", len(self._spool), error)
            return False
        return True

    def _refuse(self, entry: Entry, error: LetiError) -> None:
        log.error("result of job %d is refused: %s", entry.result.job_id, error)
        self._spool.refused(entry, error)
        self.refused += 1


def away(error: LetiError) -> bool:
    """Return whether the service, or its database, cannot be reached now."""
    return isinstance(error, Unavailable | StorageError)


def is_fault(error: LetiError) -> bool:
    """Return whether the service failed inside itself, over what may be this one request."""
    return type(error) is LetiError


def temporary(error: LetiError) -> bool:
    """Return whether the same request may succeed later."""
    return away(error) or is_fault(error)
