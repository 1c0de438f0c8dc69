"""PyTorch programs and .pt2 files become drafts."""

from leti.generator.importers.torch.reader import read_torch

__all__ = ["read_torch"]
