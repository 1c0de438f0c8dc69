"""This computer's disk: where it takes no more, that is the fault of what measures, not of a network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from leti.core.errors import DeviceFault


@contextmanager
def written_to(folder: Path) -> Iterator[None]:
    """Raise :class:`~leti.core.errors.DeviceFault` (``no-space``) where the block cannot write to ``folder``."""
    try:
        yield
    except OSError as error:
        raise DeviceFault(
            f"{folder} of this computer cannot be written to: {error.strerror or error}",
            field="device",
            remedy="check its space and permissions",
            failure="no-space",
        ) from error
