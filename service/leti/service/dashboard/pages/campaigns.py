"""Campaigns: how far each is, how fast, what failed; begun by a form, retried and cancelled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final, get_args

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from leti.core.errors import LetiError
from leti.core.farm import Campaign, JobsChanged, JobSelection, Sampling
from leti.core.wire import Zero
from leti.generator.spaces import space_names
from leti.service.dashboard.campaign_form import CampaignForm, GivenForm
from leti.service.dashboard.figures.pace import pace
from leti.service.dashboard.filters import ROWS, Before, Name, pager, status_of
from leti.service.dashboard.pages.jobs import Count
from leti.service.dashboard.rendering import HOME, figure, page, seen
from leti.service.planning import Counted
from leti.service.routes.parts import GivenParts, Parts, PathId

router = APIRouter(prefix=f"{HOME}/campaigns")

LATEST: Final = 20
"""Newest measurements of a campaign that are shown."""

Kind = Annotated[str, Form(max_length=60)]


@router.get("")
def show(request: Request, parts: GivenParts, platform_id: Name = None, before: Before = 0) -> Response:
    """Return campaigns, the newest first."""
    found = parts.store.campaigns.page(platform_id=platform_id, cursor=before, limit=ROWS, newest_first=True)
    return page(
        request,
        "campaigns.html",
        campaigns=found.items,
        pager=pager(request, router.prefix, before, found.next),
        platforms=[info.id for info in parts.store.platforms.list()],
        chosen=platform_id,
    )


@router.get("/new")
def ask(request: Request, parts: GivenParts, platform_id: Name = None) -> Response:
    """Return the form of a new campaign."""
    return _form(request, parts, CampaignForm(platform_id=platform_id or ""))


@router.post("/new")
def create(request: Request, parts: GivenParts, form: GivenForm) -> Response:
    """Count the jobs of a campaign, or begin it and lead to it."""
    try:
        wanted = form.read()
        counted = parts.planner.count(wanted)
        if not form.begins:
            return _form(request, parts, form, counted=counted)
        campaign, _ = parts.planner.create(wanted)
    except LetiError as error:  # while it is only counted, nothing is refused yet
        return _form(request, parts, form, status_of(error) if form.begins else 200, error=error)
    if campaign.remark:  # it is told this once
        return _form(request, parts, form, made=campaign)
    return seen(f"{router.prefix}/{campaign.id}")


@router.get("/{campaign_id}")
def show_one(
    request: Request, campaign_id: PathId, parts: GivenParts, changed: Count = None, skipped: Count = None
) -> Response:
    """Return a campaign: its progress, its pace, its failures, what it measured last."""
    told = None if changed is None else JobsChanged(changed, skipped or 0)
    return _one(request, parts, campaign_id, "campaign.html", told=told)


@router.get("/{campaign_id}/live")
def show_live(request: Request, campaign_id: PathId, parts: GivenParts) -> Response:
    """Return what changes of a campaign while it runs."""
    return _one(request, parts, campaign_id, "campaign_live.html")


@router.get("/{campaign_id}/pace")
def draw_pace(request: Request, campaign_id: PathId, parts: GivenParts) -> Response:
    """Return how fast a campaign was measured."""
    parts.store.campaigns.get(campaign_id)
    return figure(request, pace(parts.store.campaigns.measured_at(campaign_id)), name=f"campaign-{campaign_id}-pace")


@router.post("/{campaign_id}/retry")
def retry(request: Request, campaign_id: PathId, parts: GivenParts, kind: Kind = "") -> Response:
    """Queue jobs of a campaign again, of one kind of failure or all that ended without a measurement."""
    return _change(request, parts, campaign_id, kind, parts.store.jobs.retry)


@router.post("/{campaign_id}/cancel")
def cancel(request: Request, campaign_id: PathId, parts: GivenParts, kind: Kind = "") -> Response:
    """Take jobs of a campaign out of the queue, those that failed in one way before or all that wait."""
    return _change(request, parts, campaign_id, kind, parts.store.jobs.cancel)


def _change(
    request: Request, parts: Parts, campaign_id: int, kind: str, change: Callable[[JobSelection], JobsChanged]
) -> Response:
    try:
        changed = change(JobSelection(campaign_id=campaign_id, kinds=(kind,) if kind else ()))
    except LetiError as error:
        return _one(request, parts, campaign_id, "campaign.html", error=error)
    return seen(f"{router.prefix}/{campaign_id}?changed={changed.changed}&skipped={changed.skipped}")


def _one(
    request: Request,
    parts: Parts,
    campaign_id: int,
    template: str,
    *,
    told: JobsChanged | None = None,
    error: LetiError | None = None,
) -> Response:
    store = parts.store
    campaign = store.campaigns.get(campaign_id)
    found = store.campaigns.pace(campaign_id)
    left = campaign.queued + campaign.leased
    latest = store.measurements.page(
        platform_id=None, campaign_id=campaign_id, fingerprint=None, cursor=0, limit=LATEST, newest_first=True
    )
    return page(
        request,
        template,
        status_of(error),
        campaign=campaign,
        pace=found,
        left=left,
        left_s=60 * left / found.a_minute if found.a_minute else None,
        failed=store.campaigns.failed(campaign_id),
        latest=latest.items,
        told=told,
        error=error,
    )


def _form(
    request: Request,
    parts: Parts,
    form: CampaignForm,
    status: int = 200,
    *,
    counted: Counted | None = None,
    made: Campaign | None = None,
    error: LetiError | None = None,
) -> Response:
    return page(
        request,
        "campaign_new.html",
        status,
        form=form,
        counted=counted,
        made=made,
        error=error,
        platforms=[info.id for info in parts.store.platforms.list()],
        spaces=space_names(),
        samplings=get_args(Sampling),
        zeros=get_args(Zero),
        most=parts.settings.max_campaign_networks,
    )
