"""Serving: predictors that stay loaded."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import final

from leti.core.prediction import Predictor
from leti.service.predictor_files import PredictorFiles

LOADED = 8
"""Predictors that stay loaded."""


@final
class LoadedPredictors:
    """Predictors by the SHA-256 of their content, loaded when first asked for; those asked for last stay loaded."""

    def __init__(self, files: PredictorFiles) -> None:
        self._files = files
        self._loaded: OrderedDict[str, Predictor] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, sha256: str) -> bool:
        """Return whether a predictor is loaded, and can be had whatever became of its files."""
        with self._lock:
            return sha256 in self._loaded

    def get(self, sha256: str) -> Predictor:
        """Return a predictor; raise :class:`ArtifactError` where its files are gone or damaged."""
        with self._lock:
            if sha256 not in self._loaded:
                self._loaded[sha256] = self._files.load(sha256)
                if len(self._loaded) > LOADED:
                    self._loaded.popitem(last=False)
            self._loaded.move_to_end(sha256)
            return self._loaded[sha256]
