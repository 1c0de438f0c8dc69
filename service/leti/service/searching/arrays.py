"""Arrays: tables and slabs as NumPy's files, and what is said about them there."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from leti.core.codec import to_json
from leti.core.compression import Slab
from leti.core.searching import LatencyTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

_IN_ARRAYS: Final = frozenset({"places", "latency_ms", "shape"})
"""Fields that stand as arrays, not among what is said about them."""


def about_of(said: LatencyTable | Slab) -> dict[str, Any]:
    """Return what is said about the latencies: where they are from, and how far off they are."""
    return {one.name: to_json(getattr(said, one.name)) for one in fields(said) if one.name not in _IN_ARRAYS}


def written(columns: Mapping[str, Sequence[Any]], about: Mapping[str, Any]) -> bytes:
    """Return columns as a file of arrays."""
    import numpy as np  # the service starts without it

    from leti.predictors.array_files import write_arrays

    return write_arrays({name: np.array(values) for name, values in columns.items()}, about)


def arrays_of(table: LatencyTable) -> bytes:
    """Return a table as a file of arrays.

    ``constant_ms`` (), ``latency_ms`` and ``options`` (places, most options of any), ``places`` and ``counts``
    (places,). Where there is no option, or no network of the fit had it, the latency is NaN.
    """
    import numpy as np

    from leti.predictors.array_files import write_arrays

    counts = [len(place.options) for place in table.places]
    latency_ms = np.full((len(counts), max(counts)), np.nan)
    options = np.full(latency_ms.shape, "", dtype=f"<U{max(len(name) for p in table.places for name in p.options)}")
    for row, place in enumerate(table.places):
        latency_ms[row, : counts[row]] = _filled(place.latency_ms)
        options[row, : counts[row]] = place.options
    arrays = {
        "constant_ms": np.array(table.constant_ms),
        "latency_ms": latency_ms,
        "options": options,
        "places": np.array([place.name for place in table.places]),
        "counts": np.array(counts),
    }
    return write_arrays(arrays, about_of(table))


def slab_arrays(slab: Slab) -> bytes:
    """Return a slab as a file of arrays: ``latency_ms`` of its shape, NaN where there is none, and each axis by name.

    Ranks are ``(values, most ranks of any)``, padded with zeros.
    """
    import numpy as np

    from leti.predictors.array_files import write_arrays

    axes: dict[str, NDArray[Any]] = {
        name: np.array(values) for name, values in slab.axes.varied().items() if name != "rank"
    }
    if slab.axes.rank:
        ranks = slab.axes.rank
        axes["rank"] = np.zeros((len(ranks), max(1, *map(len, ranks))), dtype=np.int64)
        for row, rank in enumerate(ranks):
            axes["rank"][row, : len(rank)] = rank
    latency_ms = np.array(_filled(slab.latency_ms)).reshape(slab.shape)
    return write_arrays({"latency_ms": latency_ms, **axes}, about_of(slab))


def slab_columns(slab: Slab) -> dict[str, Sequence[Any]]:
    """Return a slab as columns, a row for each combination: the axes, then the latency."""
    axes = slab.axes.varied()
    rows = itertools.product(*axes.values())
    return {**dict(zip(axes, zip(*rows, strict=True), strict=True)), "latency_ms": slab.latency_ms}


def _filled(values: Iterable[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]
