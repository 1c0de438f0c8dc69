"""Patches: what a compression changes about a base network, so that a candidate is said in a few numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from leti.core.device import ModelPrecision
from leti.core.wire import STRICT, NetworkInput


@dataclass(frozen=True, slots=True)
class Patch:
    """A compressed form of a base network; numbers are those of the base graph's operators.

    ``widths[i] = n``: the coupled channel group that the output of operator ``i`` belongs to keeps ``n`` channels.
    ``ranks[i]`` takes an operator apart: a ``conv2d`` of a window into Tucker-2's three (1×1 to ``r_in`` channels, the
    window to ``r_out``, 1×1) where it is ``(r_in, r_out)``, and into CP's four (1×1, a column and a row of each channel
    for itself, 1×1) where it is ``(r,)``; a 1×1 ``conv2d`` or a ``fully_connected`` into an SVD's two, ``(r,)``. The
    bias goes to the last. Widths are changed first, then operators are taken apart, then the precision is applied; the
    base's stays where ``precision`` is empty. A patch that says nothing is the base.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    widths: dict[int, int] = field(default_factory=dict)
    ranks: dict[int, tuple[int, ...]] = field(default_factory=dict)
    precision: ModelPrecision | Literal[""] = ""


@dataclass(frozen=True, slots=True)
class CompressedSample:
    """``count`` compressed forms of a network, drawn by ``seed``: fewer channels, operators of low rank, or both.

    The network takes every form that it takes in a :class:`~leti.core.queries.PredictionRequest`; it is in float32, and
    its forms are in the precision of the platform's models.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    network: NetworkInput
    count: int
    seed: int = 0
