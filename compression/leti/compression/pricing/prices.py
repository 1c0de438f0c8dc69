"""Prices: what a search asks the latencies of its candidates of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from leti.compression.searching.candidates import Costs
from leti.core.graph import Graph
from leti.core.patches import Patch


class Prices(ABC):
    """What the forms of a network cost on one platform; asked for many at a time."""

    @abstractmethod
    def price(self, base: Graph, patches: Sequence[Patch]) -> Costs:
        """Return the costs of a base network under each of many patches: ``(patches,)`` of each measure.

        The base is in float32; a patch's precision is one that the platform runs. Raises
        :class:`~leti.core.errors.InvalidInput` for a patch that does not fit, naming ``patches[...]``, and
        :class:`~leti.core.errors.NotPredictable` for an operator that has no price: none counts as zero.
        """
