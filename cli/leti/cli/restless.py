"""Networks that are measured again, as the machine was restless whenever they were measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from leti.core.farm import Campaign
from leti.core.wire import NetworkInput

if TYPE_CHECKING:
    from leti.client import LatencyClient

MOST_AGAIN: Final = 3
"""Rounds in which networks are measured again that were noisy in all before."""


def never_calm(client: LatencyClient, campaigns: Sequence[Campaign]) -> tuple[NetworkInput, ...]:
    """Return the networks of finished campaigns that have noisy measurements only, always in the same order."""
    found: dict[bool, set[str]] = {False: set(), True: set()}
    for campaign in campaigns:
        cursor: int | None = None
        while True:
            page = client.measurements(campaign_id=campaign.id, cursor=cursor)
            for row in page.items:
                if not row.late:
                    found[row.noisy].add(row.fingerprint)
            cursor = page.next
            if cursor is None:
                break
    again = sorted(found[True] - found[False])
    return tuple(client.network(fingerprint).spec or fingerprint for fingerprint in again)
