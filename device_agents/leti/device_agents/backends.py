"""The backends by name. A backend's module is imported when it is asked for.

To add one, write a class that keeps the promise of :class:`~leti.device_agents.backend.Backend`, enter it in the table
below or among the entry points of a package of your own, and run the conformance suite: it takes every name from here.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, cast

from leti.core.device import Precision
from leti.core.errors import InvalidInput, LetiError
from leti.core.plugins import PluginGroup
from leti.device_agents.backend import Backend, Offer

DEFAULT_BACKEND: Final = "litert"

BACKENDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "litert": "leti.device_agents.desktop.litert:LiteRTBackend",
        "onnxruntime": "leti.device_agents.desktop.onnxruntime:OnnxRuntimeBackend",
        "openvino": "leti.device_agents.desktop.openvino:OpenVinoBackend",
        "pytorch": "leti.device_agents.desktop.pytorch:PyTorchBackend",
    }
)
"""Where the class of each backend that is built in stands."""

PLUGINS: Final = PluginGroup("leti.backends", Backend, builtin=tuple(BACKENDS))
"""Backends of other packages."""


def backend_names() -> tuple[str, ...]:
    """Return the names of all backends, those of plugins last; none of them is imported."""
    return (*BACKENDS, *PLUGINS.names())


def create(name: str, *, delegate: str = "", threads: int = 1, precision: Precision = "fp32") -> Backend:
    """Return a backend of this name that runs models by ``delegate``, empty for its first usable offer.

    Raises :class:`~leti.core.errors.InvalidInput` listing the backends for an unknown one, and for what the backend
    does not offer; :class:`~leti.core.errors.MissingExtra` where it cannot be loaded.
    """
    return backend_class(name)(delegate=delegate, threads=threads, precision=precision)


def backend_class(name: str) -> type[Backend]:
    """Return the class of a backend, imported.

    Raises :class:`~leti.core.errors.InvalidInput` listing the backends for an unknown one, and
    :class:`~leti.core.errors.MissingExtra` where it cannot be loaded.
    """
    if name not in backend_names():
        raise InvalidInput(
            f"there is no backend {name[:80]!r}", field="backend", remedy=f"one of {', '.join(backend_names())}"
        )
    return cast("type[Backend]", pkgutil.resolve_name(BACKENDS[name]) if name in BACKENDS else PLUGINS.load(name))


def offers() -> list[tuple[str, Offer]]:
    """Return what every backend offers on this machine, by its name, the usual first.

    A backend that cannot be loaded (an extra is not installed) has one offer, without a delegate and with the reason.
    """
    found: list[tuple[str, Offer]] = []
    for name in backend_names():
        try:
            found += [(name, offer) for offer in backend_class(name).offers()]
        except (LetiError, ImportError, OSError, RuntimeError) as error:  # its libraries are there, and broken
            found.append((name, Offer("", (), " ".join(str(error).split())[:300])))
    return found
