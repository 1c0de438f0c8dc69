"""Array files: tables of latencies as NumPy's ``.npz``, for search that runs without the service.

A file holds arrays of numbers and texts by name, and ``about``: JSON that says what they are. There is no pickle in it,
and none is read.
"""

from __future__ import annotations

import io
import json
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, final

from leti.core.errors import ArtifactError
from leti.core.extras import needs

with needs("boosting"):
    import numpy as np
    from numpy.typing import NDArray

ABOUT: Final = "about"
"""The name of what says what the arrays are."""

_DAMAGE: Final = (
    *(OSError, ValueError, KeyError, EOFError, AttributeError, SyntaxError, TypeError, MemoryError, OverflowError),
    *(NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
"""What NumPy and the archive raise over wrong bytes: a method that is none, a password, a shape too large."""


@final
class ArrayFile(NamedTuple):
    """Arrays by name, and what is said about them."""

    arrays: dict[str, NDArray[Any]]
    about: dict[str, Any]


def write_arrays(arrays: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> bytes:
    """Return a file of arrays of numbers and texts, and JSON about them; equal ones give equal files."""
    content = io.BytesIO()
    text = np.array(json.dumps(about, allow_nan=False, sort_keys=True))
    np.savez_compressed(content, allow_pickle=False, **{**arrays, ABOUT: text})
    return content.getvalue()


def read_arrays(content: bytes) -> ArrayFile:
    """Read what :func:`write_arrays` wrote; raise :class:`~leti.core.errors.ArtifactError` where it is not that."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as packed:
            arrays = {name: packed[name] for name in packed.files}
        about = json.loads(str(arrays.pop(ABOUT)))
    except _DAMAGE as error:
        raise ArtifactError("is no file of arrays", field=ABOUT) from error
    return ArrayFile(arrays, about)
