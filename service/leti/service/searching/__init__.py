"""What searches ask besides latencies: which networks fit, breakdowns, tables, and how predictions fared."""

from leti.service.searching.searching import Searching

__all__ = ["Searching"]
