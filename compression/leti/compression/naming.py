"""Functions of the user's own, by name: data to train with, an objective to search by."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable

from leti.core.errors import InvalidInput


def named_function(name: str, field: str) -> Callable[..., object]:
    """Return the function that ``package.module:function`` names.

    Raises :class:`~leti.core.errors.InvalidInput` for ``field`` where there is no such function.
    """
    try:
        module, _, attribute = name.partition(":")
        if not (module and attribute):
            raise ValueError("it names no function")
        found = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidInput(
            f"{name!r} cannot be had: {error}", field=field, remedy="give package.module:function, on Python's path"
        ) from error
    if not callable(found):
        raise InvalidInput(f"{name!r} is no function", field=field, remedy="give package.module:function")
    function: Callable[..., object] = found
    return function
