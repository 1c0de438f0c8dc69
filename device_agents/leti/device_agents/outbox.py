"""Results on their way to the service: on disk first, handed in until they are acknowledged or refused for good."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, final

from leti.client import LatencyClient
from leti.core.errors import Conflict, InvalidInput, LetiError, NotFound, StorageError, Unavailable
from leti.core.farm import Receipt, Result
from leti.device_agents.spool import Entry, Spool

log = logging.getLogger(__name__)

REFUSALS: Final = (InvalidInput, NotFound, Conflict)
"""Answers to a result that will not change when it is posted again."""

BATCH: Final = 64
"""Results that are handed in at once."""

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
        """Hand in every result that waits, in order, many at once; raise where the service cannot be reached.

        ``refused`` counts the results that it will never take: they are set aside.
        """
        fault: LetiError | None = None
        waiting = self._spool.pending()
        while entries := list(islice(waiting, BATCH)):
            for entry, outcome in zip(entries, self._hand_in(entries), strict=True):
                if isinstance(outcome, Receipt):
                    log.info("result of job %d: %s", entry.result.job_id, outcome.status)
                    self._spool.acknowledged(entry)
                    continue
                if not isinstance(outcome, REFUSALS) and not is_fault(outcome):
                    raise outcome
                self._faults[entry.path] += 1
                if is_fault(outcome) and self._faults[entry.path] < MOST_FAULTS:
                    fault = outcome
                    continue
                self._refuse(entry, outcome)
        if fault is not None:
            raise fault

    def _hand_in(self, entries: Sequence[Entry]) -> Iterator[Receipt | LetiError]:
        """Yield what becomes of each result; where all of them together are refused, each is handed in by itself."""
        if len(entries) > 1:
            try:
                yield from self._client.post_results([entry.result for entry in entries])
            except LetiError as error:
                if away(error):
                    raise
                log.warning("%d results are handed in one by one: %s", len(entries), error)
            else:
                return
        for entry in entries:
            try:
                yield self._client.post_result(entry.result)
            except LetiError as error:
                yield error

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
