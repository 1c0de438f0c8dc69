"""Prices: what a search asks the latencies of its candidates of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from leti.compression.searching.candidates import Costs
from leti.core.graph import Graph
from leti.core.patches import Patch
from leti.generator.compressing.pieces import Pieces


class Prices(ABC):
    """What the forms of a network cost on one platform; asked for many at a time."""

    _pieces: Pieces | None = None

    @abstractmethod
    def price(self, base: Graph, patches: Sequence[Patch]) -> Costs:
        """Return the costs of a base network under each of many patches: ``(patches,)`` of each measure.

        The base is in float32; a patch's precision is one that the platform runs. Raises
        :class:`~leti.core.errors.InvalidInput` for a patch that does not fit, naming ``patches[...]``, and
        :class:`~leti.core.errors.NotPredictable` for an operator that has no price: none counts as zero.
        """

    def _pieces_of(self, base: Graph) -> Pieces:
        """Return the pieces that patches of a base are made of, found once for the base that was asked for last."""
        if self._pieces is None or self._pieces.graph is not base:
            self._pieces = Pieces(base)
        return self._pieces
