"""Boosted trees of three libraries over an additive model and the critical path."""
