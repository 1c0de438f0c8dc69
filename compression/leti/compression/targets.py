"""Targets: what a network is compressed for, with the prices of each precision and a meter where there is one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import final

from leti.client import LatencyClient
from leti.compression.measuring.by_service import ServiceMeter
from leti.compression.measuring.meter import Meter
from leti.compression.pricing.by_cells import CellTable
from leti.compression.pricing.by_service import ServicePrices
from leti.compression.pricing.prices import Prices
from leti.core.device import ModelFormat, ModelPrecision, Platform
from leti.core.errors import InvalidInput
from leti.core.graph import Graph


@final
@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A device with a runtime, by any name.

    ``prices`` are asked the latencies of candidates in each precision that the target knows, float32 at least; the
    ``meter`` measures. Without one, nothing is called met. ``model_format`` is that of the files that it loads.
    """

    name: str
    prices: Mapping[ModelPrecision, Prices]
    meter: Meter | None = None
    model_format: ModelFormat = "tflite"

    def __post_init__(self) -> None:
        """Check that float32 has prices."""
        if "float32" not in self.prices:
            raise InvalidInput("has no prices of float32", field="platform.prices", remedy="give some")


def target_of(
    platform: Target | str, client: LatencyClient | None, network: Graph, *, by_kernels: bool = False
) -> Target:
    """Return a target, or that of a platform of a service: with its farm for a meter, and its int8 sibling.

    Siblings are platforms that differ in nothing but the precision of their models. Where each has an active predictor,
    it says the prices. Else, or where ``by_kernels`` asks for it, the farm measures the kernels of the network's forms
    when they are asked for. Raises
    :class:`~leti.core.errors.InvalidInput` for an id without a client, and for a platform that is not of float32.
    """
    if isinstance(platform, Target):
        return platform
    if client is None:
        raise InvalidInput(f"{platform!r} is a platform of a service", field="client", remedy="give one")
    known = {info.id: info.platform for info in client.platforms()}
    if platform not in known:
        raise InvalidInput(f"there is no {platform!r}", field="platform", remedy=", ".join(sorted(known)) or "add one")
    own = known[platform]
    if own.model_precision != "float32":
        raise InvalidInput(f"is of {own.model_precision}", field="platform", remedy="give the one of float32")
    ids = {
        each.model_precision: name for name, each in known.items()
        if replace(each, model_precision="float32") == own
    }  # fmt: skip
    meter = ServiceMeter(client, ids)
    if by_kernels or not all(any(each.active for each in client.predictors(name)) for name in ids.values()):
        return measured_target(own, ids, meter, network)
    prices = ServicePrices(client, ids)
    return Target(platform, dict.fromkeys(ids, prices), meter, own.model_format)


def measured_target(platform: Platform, precisions: Collection[ModelPrecision], meter: Meter, network: Graph) -> Target:
    """Return a target without a predictor: kernels are measured by themselves, beside the network.

    The table of kernels is empty: what it lacks is measured when it is asked for.
    """
    prices = CellTable(platform.id, f"{platform.runtime} {platform.runtime_version}", network.fingerprint())
    return Target(platform.id, dict.fromkeys(precisions, prices), meter, platform.model_format)
