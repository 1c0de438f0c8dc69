"""Compression that meets a latency budget: a user of the client, of graphs and of their weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leti.compression.budgets import Speedup, Within

if TYPE_CHECKING:
    from leti.compression.compressor import compress

__all__ = ["Speedup", "Within", "compress"]


def __getattr__(name: str) -> object:
    """Return what is heavy to import when it is asked for."""
    if name == "compress":
        from leti.compression.compressor import compress

        return compress
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
