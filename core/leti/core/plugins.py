"""Plugins: classes that other installed packages bring, found by their entry points.

A package names its class in its own metadata (``[project.entry-points."leti.spaces"]``); nothing of LETI is edited. A
plugin is imported when it is asked for, not before. What is built in cannot be replaced: predictors that were saved and
latencies that were measured under a built-in name must go on meaning what they meant.
"""

from __future__ import annotations

import functools
import inspect
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, final

from leti.core.errors import LetiError, MissingExtra

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.+-]{0,63}")


@final
@dataclass(frozen=True, slots=True)
class PluginGroup:
    """The entry points of one ``group``, each of which must name a concrete class that inherits ``promise``.

    Names of ``builtin`` are not for plugins: one that takes such a name is left out, with a warning in the log.
    Where ``named_by`` is given, that attribute of the class must hold the entry point's name.

    Whatever keeps a plugin from being used is a :class:`~leti.core.errors.MissingExtra`: the part that was asked for is
    not there, nothing is wrong with the request, and an installation mends it.
    """

    group: str
    promise: type[Any]
    builtin: tuple[str, ...] = ()
    named_by: str = ""

    def names(self) -> tuple[str, ...]:
        """Return the names of the plugins that are installed, sorted; none of them is imported."""
        return tuple(_found(self.group, self.builtin))

    def package(self, name: str) -> str:
        """Return name and version of the package that brings a plugin, empty where there is no such plugin."""
        return ", ".join(map(_package, _found(self.group, self.builtin).get(name, ())))

    def load(self, name: str) -> type[Any]:
        """Import a plugin that :meth:`names` lists; return its class.

        Raises :class:`MissingExtra`, naming the package, where two packages bring the name, where the plugin cannot be
        imported, or where it is not what the group promises.
        """
        entry, *others = _found(self.group, self.builtin)[name]
        if others:
            raise self._fault(name, "is brought by more than one package", "uninstall all but one of them")
        if not _NAME.fullmatch(name):
            raise self._fault(name, "has a name that cannot be stored", "1 to 64 letters, digits, '_', '.', '+', '-'")
        try:
            loaded = entry.load()
        except LetiError:
            raise
        except Exception as error:  # somebody else's module may raise anything
            said = [type(error).__name__, *str(error).strip().splitlines()[:1]]
            reason = f"cannot be loaded: {': '.join(said)[:300]}"
            raise self._fault(name, reason, "install what it needs, or uninstall it") from error
        fault = self._broken_promise(name, loaded)
        if fault:
            raise self._fault(name, f"{entry.value} {fault}", "mend it, or uninstall it")
        return loaded  # type: ignore[no-any-return]  # a class, as was just checked

    def _broken_promise(self, name: str, loaded: object) -> str:
        """Return what is wrong with a loaded object, empty where nothing is."""
        # Not issubclass: a protocol with data members refuses it.
        if not isinstance(loaded, type) or self.promise not in loaded.__mro__:
            return f"is no class that inherits {self.promise.__module__}.{self.promise.__name__}"
        if inspect.isabstract(loaded):
            lacking = sorted(name for name in dir(loaded) if _is_abstract(getattr(loaded, name, None)))
            return f"lacks {', '.join(lacking)}"
        if self.named_by and getattr(loaded, self.named_by, None) != name:
            return f"has {self.named_by} = {getattr(loaded, self.named_by, None)!r}, not {name!r}"
        return ""

    def _fault(self, name: str, reason: str, remedy: str) -> MissingExtra:
        package = self.package(name)
        return MissingExtra(f"{name!r} of {package} ({self.group}) {reason}", remedy=remedy, package=package)


def _is_abstract(method: object) -> bool:
    return getattr(method, "__isabstractmethod__", False) is True


@functools.cache
def _found(group: str, builtin: tuple[str, ...]) -> Mapping[str, tuple[EntryPoint, ...]]:
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for entry in entry_points(group=group):
        if entry.name in builtin:
            log.warning("%s brings %r (%s), which is built in: left out", _package(entry), entry.name, group)
        else:
            found[entry.name] = (*found.get(entry.name, ()), entry)
    return MappingProxyType(dict(sorted(found.items())))


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "an unknown package"
