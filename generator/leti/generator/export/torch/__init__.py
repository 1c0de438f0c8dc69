"""Graphs become PyTorch's exported programs (.pt2), images channels first."""

from leti.generator.export.torch.exporter import export_torch

__all__ = ["export_torch"]
