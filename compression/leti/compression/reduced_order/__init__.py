"""Reduced-order networks: layers compute a few selected elements of what they make, without fine-tuning.

Gusak, Daulbaev, Ponomarev, Cichocki, Oseledets, "Reduced-Order Modeling of Deep Neural Networks" (2021).
"""
