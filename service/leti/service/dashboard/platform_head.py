"""The head of a platform's pages: what it is, how it is, and which predictor serves it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

from leti.core.farm import DeviceInfo
from leti.core.training import PredictorInfo
from leti.core.wire import PlatformInfo
from leti.service.store import Store

TABS: Final = (("", "Accuracy"), ("/measurements", "Measurements"), ("/compare", "Compare"))
"""The pages of a platform: the end of each one's address, and its name."""


@final
@dataclass(frozen=True, slots=True)
class Head:
    """What ``platform_head.html`` shows; it finds it as ``head``."""

    info: PlatformInfo
    device: DeviceInfo | None
    active: PredictorInfo | None
    tabs: tuple[tuple[str, str], ...] = TABS

    @property
    def id(self) -> str:
        """The platform's id."""
        return self.info.id


def head_of(store: Store, platform_id: str) -> Head:
    """Return the head of a platform's pages; raise :class:`~leti.core.errors.NotFound`."""
    info = store.platforms.get(platform_id)
    name = info.platform.device.name
    device = next((one for one in store.devices.list() if one.device.name == name), None)
    return Head(info, device, store.predictors.active(platform_id))
