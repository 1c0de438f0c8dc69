"""Jobs: what waits where, what failed and how; retried and cancelled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Final, final
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import Response

from leti.core.errors import LetiError
from leti.core.farm import JobsChanged, JobSelection, JobState
from leti.service.dashboard.filters import ROWS, Before, Filled, Name, Number, pager, status_of
from leti.service.dashboard.rendering import HOME, page, seen
from leti.service.routes.parts import MAX_ID, GivenParts, Parts
from leti.service.store.jobs import CANCELLED, KINDS, RETRIED
from leti.service.store.progress import STATES

router = APIRouter(prefix=f"{HOME}/jobs")

State = Annotated[JobState | None, Filled, Query()]
Ticked = Annotated[Sequence[int], Form()]
Count = Annotated[int | None, Query(ge=0, le=MAX_ID)]
"""What came of the change that led here."""

CHANGEABLE: Final = frozenset((*RETRIED, *CANCELLED))


@final
@dataclass(frozen=True, slots=True)
class Chosen:
    """Which jobs are listed."""

    platform_id: Name = None
    campaign_id: Number = None
    state: State = None
    kind: Name = None

    def query(self, **more: int) -> str:
        """Return the address's query that chooses these."""
        return urlencode({name: value for name, value in asdict(self).items() if value is not None} | more)


GivenChosen = Annotated[Chosen, Depends()]


@router.get("")
def show(
    request: Request,
    parts: GivenParts,
    chosen: GivenChosen,
    before: Before = 0,
    changed: Count = None,
    skipped: Count = None,
) -> Response:
    """Return the queues of all platforms, and jobs, the newest first."""
    told = None if changed is None else JobsChanged(changed, skipped or 0)
    return _list(request, parts, chosen, before=before, told=told)


@router.post("/retry")
def retry(request: Request, parts: GivenParts, chosen: GivenChosen, job_ids: Ticked = ()) -> Response:
    """Queue ticked jobs again."""
    return _change(request, parts, chosen, job_ids, parts.store.jobs.retry)


@router.post("/cancel")
def cancel(request: Request, parts: GivenParts, chosen: GivenChosen, job_ids: Ticked = ()) -> Response:
    """Take ticked jobs out of the queue."""
    return _change(request, parts, chosen, job_ids, parts.store.jobs.cancel)


def _change(
    request: Request,
    parts: Parts,
    chosen: Chosen,
    job_ids: Sequence[int],
    change: Callable[[JobSelection], JobsChanged],
) -> Response:
    try:
        changed = change(JobSelection(tuple(job_ids)))
    except LetiError as error:
        return _list(request, parts, chosen, error=error)
    return seen(f"{router.prefix}?{chosen.query(changed=changed.changed, skipped=changed.skipped)}")


def _list(
    request: Request,
    parts: Parts,
    chosen: Chosen,
    *,
    before: int = 0,
    told: JobsChanged | None = None,
    error: LetiError | None = None,
) -> Response:
    found = parts.store.jobs.page(
        platform_id=chosen.platform_id,
        campaign_id=chosen.campaign_id,
        state=chosen.state,
        fingerprint=None,
        kind=chosen.kind,
        cursor=before,
        limit=ROWS,
        newest_first=True,
    )
    return page(
        request,
        "jobs.html",
        status_of(error),
        jobs=found.items,
        pager=pager(request, router.prefix, before, found.next),
        totals=parts.store.campaigns.totals(),
        platforms=[info.id for info in parts.store.platforms.list()],
        states=STATES,
        kinds=KINDS,
        changeable=CHANGEABLE,
        chosen=chosen,
        told=told,
        error=error,
    )
