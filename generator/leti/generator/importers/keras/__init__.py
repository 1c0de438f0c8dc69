"""Keras 3 models and .keras files become drafts."""

from leti.generator.importers.keras.reader import read_keras

__all__ = ["read_keras"]
