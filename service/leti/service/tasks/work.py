"""What a task works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from leti.service.settings import Settings
from leti.service.store import Store


@final
@dataclass(frozen=True, slots=True)
class Work:
    """The service's store and settings, and who asked for the task."""

    store: Store
    settings: Settings
    by: str = ""
