"""Scores: what a network is worth, or loses, with one change at a time, each computed once.

Each score is kept on disk under what it is of, so that an analysis that was interrupted goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Final, final

from leti.compression.files import write_whole
from leti.core.codec import Json
from leti.core.errors import InvalidInput
from leti.generator.importers import Imported

Score = Callable[[Imported], float]
"""A number for a network on data, such as its accuracy, which is the better the more, or a loss, the less."""

Progress = Callable[[int, int], None]
"""Is told how many scores are there, and of how many."""


@final
class Scores:
    """The scores of a network under changes: those that are there already, and those that are not yet.

    ``cache`` is a folder, which any number of analyses may share; ``evaluation`` must then name what ``score`` does,
    and on which data, as that cannot be told from outside: raises :class:`~leti.core.errors.InvalidInput` where it does
    not. ``total`` is how many scores will be asked for.
    """

    def __init__(
        self,
        imported: Imported,
        score: Score,
        *,
        cache: Path | None = None,
        evaluation: str = "",
        progress: Progress | None = None,
        total: int = 0,
    ) -> None:
        if cache is not None and not evaluation:
            raise InvalidInput("must say what is cached: the data, and what is computed of them", field="evaluation")
        self._score: Final = score
        self._cache: Final = cache
        self._evaluation: Final = evaluation
        self._progress: Final = progress
        self._done, self._total = 0, total
        self._content: Final = content_hash(imported) if cache is not None else ""

    def of(self, change: Json, made: Callable[[], Imported]) -> float:
        """Return the score of the network that ``change`` names, which is made only where it is not known."""
        key = json.dumps([self._content, self._evaluation, change], sort_keys=True)
        path = None if self._cache is None else self._cache / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
        score = _read(path)
        if score is None:
            score = float(self._score(made()))
            if path is not None:
                _write(path, score)
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)
        return score


def content_hash(imported: Imported) -> str:
    """Return the SHA-256 (64 hex digits) of a network: its graph's wiring and operators, and all its weights."""
    digest = hashlib.sha256(json.dumps(imported.graph.to_json(), sort_keys=True).encode())
    for arrays in imported.loaded_weights():
        for array in arrays:
            digest.update(repr(array.shape).encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


def _read(path: Path | None) -> float | None:
    """Return a score that was kept; one that is damaged counts as none."""
    try:
        return None if path is None else float(json.loads(path.read_text())["score"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _write(path: Path, score: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({"score": score}).encode())
