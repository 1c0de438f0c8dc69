"""Reduced-order networks: layers compute a few selected elements of what they make, without fine-tuning.

Gusak, Daulbaev, Ponomarev, Cichocki, Oseledets, "Reduced-Order Modeling of Deep Neural Networks" (2021).
"""

from leti.compression.reduced_order.deviation import Deviation, ReducedLayer
from leti.compression.reduced_order.network import ReducedOrder, reduce_order, reduce_order_to

__all__ = ["Deviation", "ReducedLayer", "ReducedOrder", "reduce_order", "reduce_order_to"]
