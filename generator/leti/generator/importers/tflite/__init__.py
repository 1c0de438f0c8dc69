"""TFLite files of any precision become drafts."""

from leti.generator.importers.tflite.reader import read_tflite

__all__ = ["read_tflite"]
