"""What can be measured here: runtimes of this machine, ways in which they execute, and why others can't be used.

Unless more is asked for, every runtime that is installed executes as it usually does, with one thread, on networks in
float32; accelerators are used where there are any.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from leti.core.device import ModelPrecision, Precision
from leti.core.errors import InvalidInput, MissingExtra
from leti.device_agents import backends
from leti.device_agents.backend import Offer

ACCELERATORS: Final = frozenset({"cuda", "tensorrt", "gpu", "npu"})
"""Delegates that execute beside the processor: another device inside this one, used without being asked for."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to execute networks on this machine: all that a platform says beside the device."""

    backend: str
    delegate: str
    threads: int
    precision: Precision
    model_precision: ModelPrecision


@dataclass(frozen=True, slots=True)
class Wish:
    """Which ways are wanted; what is empty is chosen by what there is."""

    backends: tuple[str, ...] = ()
    delegates: tuple[str, ...] = ()
    threads: tuple[int, ...] = (1,)
    precisions: tuple[Precision, ...] = ("fp32",)
    model_precisions: tuple[ModelPrecision, ...] = ("float32",)


def ways(wish: Wish) -> list[Way]:
    """Return the ways to execute here that are wished for, the usual runtime's first.

    Raises :class:`~leti.core.errors.InvalidInput` for a backend that is named and does not exist, or does not offer
    what is wished for, with the reason that it gives; and :class:`~leti.core.errors.MissingExtra` where it cannot be
    loaded, or where there is none at all.
    """
    found: list[Way] = []
    for name, offered in _offers(wish):
        chosen = [offer for offer in offered if _fits(offer, wish)]
        usable = [offer for offer in chosen if not offer.reason]
        if not wish.delegates:
            usable = [*usable[:1], *(offer for offer in usable[1:] if offer.delegate in ACCELERATORS)]
        if not usable and wish.backends:
            raise _refused(name, offered, chosen, wish)
        for offer in usable:
            found += _ways(name, offer, wish)
    if not found:
        raise _nothing(wish)
    return list(dict.fromkeys(found))


def _offers(wish: Wish) -> Iterator[tuple[str, Sequence[Offer]]]:
    """Yield what each backend offers; only those are imported that are wished for."""
    if wish.backends:
        for name in wish.backends:
            yield name, backends.backend_class(name).offers()
        return
    for name, group in itertools.groupby(backends.offers(), key=lambda pair: pair[0]):
        yield name, [offer for _, offer in group]


def _fits(offer: Offer, wish: Wish) -> bool:
    wanted = not wish.delegates or offer.delegate in wish.delegates
    return wanted and any(precision in wish.precisions for precision in offer.precisions)


def _ways(name: str, offer: Offer, wish: Wish) -> Iterator[Way]:
    precisions = [precision for precision in wish.precisions if precision in offer.precisions]
    for precision, stored, threads in itertools.product(precisions, wish.model_precisions, wish.threads):
        yield Way(name, offer.delegate, threads, precision, stored)


def _refused(name: str, offered: Sequence[Offer], chosen: Sequence[Offer], wish: Wish) -> InvalidInput:
    """Return why a backend that is named cannot do what is wished for."""
    remedy = "; ".join(_described(offer) for offer in offered)
    if chosen:
        return InvalidInput(f"{name} cannot be used here: {chosen[0].reason}", field="backend", remedy=remedy)
    asked = " or ".join(wish.delegates) or "anything"
    precisions = " or ".join(wish.precisions)
    return InvalidInput(f"{name} does not offer {asked} in {precisions}", field="delegate", remedy=f"it has: {remedy}")


def _described(offer: Offer) -> str:
    precisions = ", ".join(offer.precisions)
    return f"{offer.delegate} ({offer.reason or precisions})" if offer.delegate else offer.reason


def _nothing(wish: Wish) -> InvalidInput | MissingExtra:
    if wish.delegates or wish.precisions != ("fp32",):
        asked = f"{' or '.join(wish.delegates) or 'anything'} in {' or '.join(wish.precisions)}"
        return InvalidInput(f"no runtime here offers {asked}", field="delegate", remedy="`leti devices` lists them")
    reasons = "; ".join(f"{name}: {offer.reason}" for name, offer in backends.offers())
    return MissingExtra(f"no runtime can be used on this machine: {reasons}", remedy="pip install 'leti[agent]'")
