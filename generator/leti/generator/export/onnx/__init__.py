"""Graphs become ONNX files, images channels first."""

from leti.generator.export.onnx.exporter import export_onnx

__all__ = ["export_onnx"]
