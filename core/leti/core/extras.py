"""Optional dependencies: an import behind a missing extra says which extra to install."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from leti.core.errors import MissingExtra


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Turn a failed import inside the block into :class:`MissingExtra` naming ``extra``."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("leti"):
            raise
        raise MissingExtra.named(extra, error.name) from error
