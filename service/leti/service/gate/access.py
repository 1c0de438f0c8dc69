"""Permission: which roles may use which route, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, final

from fastapi import Depends, Request
from starlette.types import Scope

from leti.core.access import ROLES, Role
from leti.core.errors import NotPermitted
from leti.service.logs import note

_CALLER: Final = "leti.caller"

EVERYBODY: Final = frozenset(ROLES)
READ: Final = frozenset[Role]({"viewer", "client", "admin"})
ASK: Final = frozenset[Role]({"client", "admin"})
MEASURE: Final = frozenset[Role]({"agent", "admin"})
RULE: Final = frozenset[Role]({"admin"})

PERMISSIONS: Final[Mapping[str, frozenset[Role]]] = {
    "GET /health": EVERYBODY,
    "GET /docs": EVERYBODY,
    "GET /healthz": EVERYBODY,
    "GET /readyz": EVERYBODY,
    "GET /metrics": READ,
    # networks and platforms: agents read what they measure
    "POST /networks": ASK,
    "PUT /networks/{fingerprint}": ASK,
    "GET /networks/{fingerprint}": EVERYBODY,
    "GET /networks/{fingerprint}/model": EVERYBODY,
    "PUT /networks/{fingerprint}/accuracies/{task}": ASK,
    "GET /networks/{fingerprint}/accuracies": READ,
    "POST /platforms": MEASURE,
    "GET /platforms": EVERYBODY,
    "GET /platforms/{platform_id}": EVERYBODY,
    # the farm
    "GET /devices": EVERYBODY,
    "PUT /devices/{name}/state": MEASURE,
    "PUT /devices/{name}/quarantine": RULE,
    "DELETE /devices/{name}/quarantine": RULE,
    "POST /campaigns": ASK,
    "GET /campaigns": READ,
    "GET /campaigns/{campaign_id}": READ,
    "GET /campaigns/{campaign_id}/failures": READ,
    "GET /jobs": READ,
    "POST /jobs/retry": ASK,
    "POST /jobs/cancel": ASK,
    "GET /failures": READ,
    "GET /agents": READ,
    "POST /leases": MEASURE,
    "POST /leases/{lease_id}/heartbeat": MEASURE,
    "DELETE /leases/{lease_id}": MEASURE,
    "POST /results": MEASURE,
    "POST /results/batch": MEASURE,
    "GET /measurements": READ,
    "GET /measurements/{measurement_id}": READ,
    # predictors
    "POST /predictors": ASK,
    "GET /predictors": READ,
    "GET /predictors/{predictor_id}": READ,
    "GET /predictors/{predictor_id}/holdout": READ,
    "POST /predictors/{predictor_id}/promote": RULE,
    "POST /platforms/{platform_id}/rollback": RULE,
    "GET /platforms/{platform_id}/promotions": READ,
    "GET /datasets": READ,
    "GET /datasets/{dataset_id}": READ,
    "GET /datasets/{dataset_id}/items": READ,
    "POST /datasets": RULE,
    "POST /evaluations": ASK,
    "GET /tasks": READ,
    "GET /tasks/{task_id}": READ,
    "GET /tasks/{task_id}/logs": READ,
    "POST /tasks/{task_id}/cancel": ASK,
    "GET /workers": READ,
    # model files
    "POST /uploads": ASK,
    "GET /uploads/{upload_id}": READ,
    # questions
    "POST /predictions": ASK,
    "POST /search/filter": ASK,
    "POST /breakdowns": ASK,
    "POST /slabs": ASK,
    "POST /widths": ASK,
    "GET /platforms/{platform_id}/tables/{space}": READ,
    "GET /platforms/{platform_id}/drift": READ,
    "GET /predictors/{predictor_id}/table": READ,
    # tokens
    "POST /tokens": RULE,
    "GET /tokens": RULE,
    "DELETE /tokens/{token_id}": RULE,
    # the dashboard: what a page does needs what the same route of the API needs
    "GET /": EVERYBODY,
    "GET /dashboard/sign-in": EVERYBODY,
    "POST /dashboard/sign-in": EVERYBODY,
    "POST /dashboard/sign-out": EVERYBODY,
    "GET /dashboard": READ,
    "GET /dashboard/events": READ,
    "GET /dashboard/agents": READ,
    "POST /dashboard/agents/{name}/quarantine": RULE,
    "POST /dashboard/agents/{name}/release": RULE,
    "GET /dashboard/platforms/{platform_id}": READ,
    "GET /dashboard/platforms/{platform_id}/predictors/{predictor_id}/{name}": READ,
    "GET /dashboard/platforms/{platform_id}/shares": READ,
    "POST /dashboard/platforms/{platform_id}/learning-curve": ASK,
    "GET /dashboard/platforms/{platform_id}/measurements": READ,
    "GET /dashboard/platforms/{platform_id}/measurements/{name}": READ,
    "GET /dashboard/platforms/{platform_id}/compare": READ,
    "GET /dashboard/platforms/{platform_id}/compare/{name}": READ,
    "GET /dashboard/try": ASK,
    "POST /dashboard/try": ASK,
    "GET /dashboard/try/latencies": ASK,
    "GET /dashboard/try/breakdown": ASK,
    "GET /dashboard/try/uploads/{upload_id}": READ,
    "POST /dashboard/try/keep": ASK,
    "POST /dashboard/try/measure": ASK,
    "GET /dashboard/networks": READ,
    "GET /dashboard/networks/{fingerprint}": READ,
    "GET /dashboard/networks/{fingerprint}/latencies": ASK,
    "GET /dashboard/networks/{fingerprint}/breakdown": ASK,
    "GET /dashboard/networks/{fingerprint}/samples": READ,
    "GET /dashboard/networks/{fingerprint}/operators": READ,
    "GET /dashboard/networks/{fingerprint}/drawing": READ,
    "GET /dashboard/networks/{fingerprint}/spec": READ,
    "GET /dashboard/networks/{fingerprint}/graph": READ,
    "GET /dashboard/campaigns": READ,
    "GET /dashboard/campaigns/new": ASK,
    "POST /dashboard/campaigns/new": ASK,
    "GET /dashboard/campaigns/{campaign_id}": READ,
    "GET /dashboard/campaigns/{campaign_id}/live": READ,
    "GET /dashboard/campaigns/{campaign_id}/pace": READ,
    "POST /dashboard/campaigns/{campaign_id}/retry": ASK,
    "POST /dashboard/campaigns/{campaign_id}/cancel": ASK,
    "GET /dashboard/jobs": READ,
    "POST /dashboard/jobs/retry": ASK,
    "POST /dashboard/jobs/cancel": ASK,
    "GET /dashboard/predictors": READ,
    "POST /dashboard/predictors/train": ASK,
    "POST /dashboard/predictors/evaluate": ASK,
    "POST /dashboard/predictors/roll-back": RULE,
    "GET /dashboard/predictors/{predictor_id}": READ,
    "GET /dashboard/predictors/{predictor_id}/attributions": READ,
    "POST /dashboard/predictors/{predictor_id}/promote": RULE,
    "GET /dashboard/datasets": READ,
    "GET /dashboard/datasets/{dataset_id}/file": READ,
    "GET /dashboard/tasks": READ,
    "GET /dashboard/tasks/{task_id}": READ,
    "GET /dashboard/tasks/{task_id}/live": READ,
    "GET /dashboard/tasks/{task_id}/learning-curve": READ,
    "POST /dashboard/tasks/{task_id}/cancel": ASK,
    "GET /dashboard/tokens": RULE,
    "POST /dashboard/tokens": RULE,
    "POST /dashboard/tokens/{token_id}/revoke": RULE,
}
"""Who may use a route, by its method and its path below ``/v1``. What is not in the table, nobody may use."""


@final
@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request: the token's id, what it is called, its role. Without authentication there is no id."""

    token_id: str | None
    name: str
    role: Role

    @property
    def holder(self) -> str | None:
        """The token that must hold a device, and have claimed a lease: an agent's own; admins may do anybody's."""
        return self.token_id if self.role == "agent" else None


ANYBODY: Final = Caller(None, "anybody", "admin")
"""Who everybody is where authentication is off."""

GUEST: Final = Caller(None, "guest", "viewer")
"""Who asks for what is open to all."""


def introduce(scope: Scope, caller: Caller) -> None:
    """Say who sent the request of ``scope``."""
    scope[_CALLER] = caller
    if caller.token_id is not None:
        note(token=caller.token_id)


def caller_in(scope: Scope) -> Caller:
    """Return who sent the request of ``scope``: a guest, where nobody found out."""
    found: Caller = scope.get(_CALLER, GUEST)
    return found


def caller_of(request: Request) -> Caller:
    """Return who sent a request, as :func:`caller_in` does."""
    return caller_in(request.scope)


GivenCaller = Annotated[Caller, Depends(caller_of)]


async def permitted(request: Request) -> None:
    """Raise :class:`NotPermitted` where the caller's role may not use the route, as :func:`check_permission` does."""
    check_permission(caller_of(request), route_name(request.method, request.scope["route"].path_format))


def check_permission(caller: Caller, name: str) -> None:
    """Raise :class:`NotPermitted` where the caller's role may not use the route of this name; name a role that may."""
    if not may(caller, name):
        roles = PERMISSIONS.get(name, frozenset())
        needed = next((role for role in ROLES if role in roles), "")
        raise NotPermitted(
            f"the role {caller.role} may not {name}",
            field="authorization",
            remedy=f"use a token of the role {needed}" if needed else "nobody may: the route has no permission",
            role=caller.role,
            needed=needed,
        )


def may(caller: Caller, name: str) -> bool:
    """Return whether the caller's role may use the route of this name."""
    return caller is ANYBODY or caller.role in PERMISSIONS.get(name, frozenset())


def route_name(method: str, path: str) -> str:
    """Return what the table calls a route; frameworks differ in whether a route's path knows its prefix."""
    return f"{method} {path.removeprefix('/v1')}"
