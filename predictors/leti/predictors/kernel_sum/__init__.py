"""Kernel-level sum: a regressor a kind of kernel, added up, in nn-Meter's manner."""
