"""ONNX files and models become drafts."""

from leti.generator.importers.onnx.reader import read_onnx

__all__ = ["read_onnx"]
