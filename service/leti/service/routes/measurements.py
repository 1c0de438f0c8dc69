"""Measurements: page by page, and sample by sample."""

from __future__ import annotations

from fastapi import APIRouter

from leti.core.farm import MeasurementPage
from leti.core.measurement import Measurement
from leti.service.routes.documentation import responses
from leti.service.routes.parts import (
    CampaignFilter,
    Cursor,
    FingerprintFilter,
    GivenParts,
    Limit,
    PathId,
    PlatformFilter,
)

router = APIRouter(prefix="/measurements", tags=["measurements"])


@router.get("", responses=responses(404, answer=MeasurementPage))
def list_measurements(
    parts: GivenParts,
    platform_id: PlatformFilter = None,
    campaign_id: CampaignFilter = None,
    fingerprint: FingerprintFilter = None,
    cursor: Cursor = 0,
    limit: Limit = 100,
) -> MeasurementPage:
    """Return measurements in the order they were stored, noisy and late ones marked; an unknown campaign has none."""
    return parts.store.measurements.page(
        platform_id=platform_id, campaign_id=campaign_id, fingerprint=fingerprint, cursor=cursor, limit=limit
    )


@router.get("/{measurement_id}", responses=responses(404, answer=Measurement))
def read_measurement(measurement_id: PathId, parts: GivenParts) -> Measurement:
    """Return a measurement with every sample and its recipe."""
    return parts.store.measurements.get(measurement_id)
