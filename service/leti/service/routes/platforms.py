"""Platforms: what is measured on."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body

from leti.core.device import Platform
from leti.core.wire import PlatformInfo
from leti.generator.reference import reference_spec
from leti.service.catalogue import name_network
from leti.service.gate.access import GivenCaller
from leti.service.routes.documentation import body_examples, posted, responses
from leti.service.routes.parts import FromWire, GivenParts, PlatformId

router = APIRouter(prefix="/platforms", tags=["platforms"])


@router.post("", responses=posted(answer=PlatformInfo))
def add_platform(
    platform: Annotated[Platform, FromWire(), Body(openapi_examples=body_examples(Platform))],
    parts: GivenParts,
    caller: GivenCaller,
) -> PlatformInfo:
    """Keep a platform with its reference network, in the precision that its networks are stored in.

    A platform that is known already is answered as it is. From its first registration on, or its first lease, an
    agent's token holds the device, until it is revoked or its time is over: no other agent's speaks for it.
    """
    reference = name_network(reference_spec(), "execute", platform.model_precision)
    parts.store.networks.add([reference])
    return parts.store.platforms.add(platform, reference.network.fingerprint, caller.holder)


@router.get("", responses=responses(answer=PlatformInfo, many=True))
def list_platforms(parts: GivenParts) -> tuple[PlatformInfo, ...]:
    """Return every platform, the oldest first.

    The list is whole: a farm has hundreds of platforms at most, and what is known of each is kept summed up.
    """
    return parts.store.platforms.list()


@router.get("/{platform_id}", responses=responses(404, answer=PlatformInfo))
def read_platform(platform_id: PlatformId, parts: GivenParts) -> PlatformInfo:
    """Return a platform, how much was measured on it, and how well its measurements repeat."""
    return parts.store.platforms.get(platform_id)
