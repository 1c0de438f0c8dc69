"""Which of a backend's offers is meant, and why another cannot be had."""

from __future__ import annotations

from collections.abc import Sequence

from leti.core.device import Precision
from leti.core.errors import InvalidInput
from leti.device_agents.backend import Offer


def choose(offers: Sequence[Offer], *, delegate: str, threads: int, precision: Precision) -> Offer:
    """Return the offer of a delegate, the first usable one for an empty name: the check of every backend's constructor.

    Raises :class:`~leti.core.errors.InvalidInput`, naming the field, for a delegate or a precision that is not offered
    and for fewer threads than one.
    """
    if threads < 1:
        raise InvalidInput(f"must be 1 or more, not {threads}", field="threads")
    usable = [offer for offer in offers if not offer.reason]
    asked = [offer for offer in offers if offer.delegate == delegate] if delegate else [*usable, *offers]
    remedy = f"one of {', '.join(offer.delegate for offer in usable)}" if usable else ""
    if not asked:
        raise InvalidInput(f"there is no delegate {delegate[:80]!r} here", field="delegate", remedy=remedy)
    offer = asked[0]
    if offer.reason:
        raise InvalidInput(f"{offer.delegate} cannot be used: {offer.reason}", field="delegate", remedy=remedy)
    if precision not in offer.precisions:
        remedy = f"one of {', '.join(offer.precisions)}"
        raise InvalidInput(f"{offer.delegate} does not compute in {precision}", field="precision", remedy=remedy)
    return offer
