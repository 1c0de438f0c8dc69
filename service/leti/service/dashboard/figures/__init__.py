"""What is drawn: figures, each with its table and its file."""

from leti.service.dashboard.figures.figure import Column, Figure

__all__ = ["Column", "Figure"]
