"""Graphs become TFLite files, written directly as flatbuffers."""

from leti.generator.export.tflite.exporter import METADATA_FORMAT, METADATA_NAME, export_tflite

__all__ = ["METADATA_FORMAT", "METADATA_NAME", "export_tflite"]
