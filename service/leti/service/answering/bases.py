"""Bases of patches: a search asks for thousands of patches of one network, request after request."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final, final

from leti.core.graph import Graph, Op
from leti.generator.compressing.pieces import Pieces

MOST: Final = 4
"""Bases that are remembered, the last used last."""

_Key = tuple[tuple[Op, ...], tuple[tuple[int, ...], ...], tuple[int, ...]]


@final
class Bases:
    """Bases by their operators in their order, which patches name them by. Threads may share it."""

    def __init__(self) -> None:
        self._pieces: OrderedDict[_Key, Pieces] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, graph: Graph) -> Pieces:
        """Return the pieces that patches of a base are made of."""
        key = graph.ops, graph.wiring, graph.outputs
        with self._lock:
            found = self._pieces.get(key)
            if found is not None:
                self._pieces.move_to_end(key)
                return found
        found = Pieces(graph)
        with self._lock:
            self._pieces[key] = found
            if len(self._pieces) > MOST:
                self._pieces.popitem(last=False)
        return found
