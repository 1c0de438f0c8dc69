"""Workers and agents: who does the work, since when, and what each has in hand."""

from __future__ import annotations

from fastapi import APIRouter

from leti.core.farm import AgentInfo
from leti.core.tasks import WorkerInfo
from leti.service.routes.documentation import responses
from leti.service.routes.parts import GivenParts

router = APIRouter(tags=["workers"])


@router.get("/workers", responses=responses(answer=WorkerInfo, many=True))
def list_workers(parts: GivenParts) -> tuple[WorkerInfo, ...]:
    """Return every worker by name: since when it runs, when it was last heard of, and the tasks that it runs.

    The list is whole: a service has tens of workers at most, and those that are gone are forgotten.
    """
    return parts.store.workers.list()


@router.get("/agents", responses=responses(answer=AgentInfo, many=True))
def list_agents(parts: GivenParts) -> tuple[AgentInfo, ...]:
    """Return who measures, or did so last, on each platform, by name: the last lease, and what is left of it.

    The list is whole: it has an agent or two for each platform.
    """
    return parts.store.workers.agents()
