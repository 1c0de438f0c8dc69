"""The backends by name. A backend's module is imported when it is asked for.

To add one, write a class that keeps the promise of :class:`~leti.device_agents.backend.Backend`, enter it in the table
below or among the entry points of a package of your own, and run the conformance suite: it takes every name from here.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, cast

from leti.core.errors import InvalidInput
from leti.core.plugins import PluginGroup
from leti.device_agents.backend import Backend

DEFAULT_BACKEND: Final = "litert"

BACKENDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "litert": "leti.device_agents.desktop.litert:LiteRTBackend",
    }
)
"""Where the class of each backend that is built in stands."""

PLUGINS: Final = PluginGroup("leti.backends", Backend, builtin=tuple(BACKENDS))
"""Backends of other packages."""


def backend_names() -> tuple[str, ...]:
    """Return the names of all backends, those of plugins last; none of them is imported."""
    return (*BACKENDS, *PLUGINS.names())


def create(name: str, *, threads: int = 1) -> Backend:
    """Return a backend of this name that runs models with ``threads`` threads.

    Raises :class:`~leti.core.errors.InvalidInput` listing the backends for an unknown one, and
    :class:`~leti.core.errors.MissingExtra` where it cannot be loaded.
    """
    if name not in backend_names():
        raise InvalidInput(
            f"there is no backend {name[:80]!r}", field="backend", remedy=f"one of {', '.join(backend_names())}"
        )
    loaded = pkgutil.resolve_name(BACKENDS[name]) if name in BACKENDS else PLUGINS.load(name)
    return cast("type[Backend]", loaded)(threads=threads)
