"""Protocol E: per-operator times of phones' GPUs, corrected with a few end-to-end times, against the rest of them.

Reads ``qed_tflite_cnn_ops_gpu.csv.gz`` and ``qed_tflite_cnn_e2e_gpu.csv.gz`` (USC's mobile-ml-benchmark): every
operator of 102 networks, and the networks end to end, in microseconds, on three phones. 20 networks, drawn by the seed,
are measured end to end; the others are predicted from the sum of their operators and the correction learnt on the 20.
"""

from __future__ import annotations

import csv
import gzip
import math
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from leti.core.errors import InvalidInput
from leti.core.extras import needs

if TYPE_CHECKING:
    from leti.predictors.batch import Vector

PLATFORMS: Final = ("pixel4", "mi8se", "iphonexs")
TRAIN: Final = 20
"""Networks whose end-to-end time the correction may see."""

OPERATORS: Final = "qed_tflite_cnn_ops_gpu.csv.gz"
NETWORKS: Final = "qed_tflite_cnn_e2e_gpu.csv.gz"
_MAX_BYTES: Final = 64 * 2**20
_MAX_ROWS: Final = 200_000


@final
@dataclass(frozen=True, slots=True, eq=False)
class OperatorTable:
    """n networks on one platform: sums of their operators' times and end-to-end times in ms, operators, file bytes.

    Each column is ``(n,)``, in the order of ``models``.
    """

    platform: str
    models: tuple[str, ...]
    sums_ms: Vector
    measured_ms: Vector
    kernels: Vector
    weight_bytes: Vector

    @property
    def features(self) -> dict[str, Vector]:
        """What a correction may use beside the sum, in this order."""
        return {"kernels": self.kernels, "weight_bytes": self.weight_bytes}


def run(folder: Path, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Return one row a platform and seed: shares within 1, 5, 10 % and the median error, corrected and not.

    Keys are ``platform``, ``seed``, ``n_train``, ``n_test``, and for ``plain_sum`` and ``corrected`` each a mapping of
    ``within_1``, ``within_5``, ``within_10``, ``mdape`` over the test networks; ``terms`` says what the correction
    consists of. Raises :class:`~leti.core.errors.InvalidInput` for files that are missing or not what they should be.
    """
    with needs("boosting"):
        from leti.predictors.lookup.correction import correct
    rows: list[dict[str, Any]] = []
    for table in read_tables(folder):
        for seed in seeds:
            order = list(range(len(table.models)))
            random.Random(seed).shuffle(order)  # noqa: S311 - a reproducible split, not a secret
            train, test = sorted(order[:TRAIN]), sorted(order[TRAIN:])
            features = table.features
            seen = {name: column[train] for name, column in features.items()}
            correction = correct(table.sums_ms[train], seen, table.measured_ms[train])
            unseen = {name: column[test] for name, column in features.items()}
            corrected = correction.latencies_ms(table.sums_ms[test], unseen)
            rows.append(
                {
                    "platform": table.platform,
                    "seed": seed,
                    "n_train": len(train),
                    "n_test": len(test),
                    "plain_sum": _errors(table.sums_ms[test], table.measured_ms[test]),
                    "corrected": _errors(corrected, table.measured_ms[test]),
                    "terms": dict(zip(correction.terms, correction.weights, strict=True)),
                }
            )
    return rows


def read_tables(folder: Path) -> tuple[OperatorTable, ...]:
    """Return the table of each platform; networks that stand in one file only are left out."""
    with needs("boosting"):
        import numpy as np
    operators, networks = _read(folder / OPERATORS), _read(folder / NETWORKS)
    ends = {row["model"]: row for row in networks}
    models = tuple(sorted({row["model"] for row in operators} & set(ends)))
    if len(models) <= TRAIN:
        raise InvalidInput(f"holds {len(models)} networks with both times, {TRAIN + 1} are needed", field=OPERATORS)
    place = {model: i for i, model in enumerate(models)}
    kept = [row for row in operators if row["model"] in place]
    of = np.array([place[row["model"]] for row in kept])
    size = np.array([_number(ends[model], "size", NETWORKS) for model in models])
    tables = []
    for platform in PLATFORMS:
        times = np.array([_number(row, f"{platform}|gpu|float", OPERATORS) for row in kept])
        measured = np.array([_number(ends[model], f"{platform}|gpu|float|mean", NETWORKS) for model in models])
        if measured.min() == 0:
            raise InvalidInput(f"holds an end-to-end time of 0 on {platform}", field=NETWORKS)
        sums = np.bincount(of, weights=times, minlength=len(models))
        counts = np.bincount(of, minlength=len(models)).astype(np.float64)
        tables.append(OperatorTable(platform, models, sums / 1e3, measured / 1e3, counts, size))
    return tuple(tables)


def _read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a gzipped CSV of a size that can be."""
    try:
        with gzip.open(path, "rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidInput(
            f"cannot be read: {error}", field=path.name, remedy="give the folder of the tables"
        ) from error
    if len(content) > _MAX_BYTES:
        raise InvalidInput(f"is larger than {_MAX_BYTES} bytes", field=path.name)
    try:
        rows = list(csv.DictReader(content.decode("utf-8").splitlines()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"is not a CSV table: {error}", field=path.name) from error
    if not rows or len(rows) > _MAX_ROWS or not rows[0].get("model"):
        raise InvalidInput(f"must hold 1 to {_MAX_ROWS} rows with a column 'model'", field=path.name)
    return rows


def _number(row: dict[str, str], column: str, file: str) -> float:
    try:
        value = float(row[column])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"has no number for {str(row.get('model'))[:80]!r}", field=f"{file}: {column}") from error
    if not (math.isfinite(value) and value >= 0):
        raise InvalidInput(f"has {value} for {row['model'][:80]!r}", field=f"{file}: {column}")
    return value


def _errors(predicted_ms: Vector, measured_ms: Vector) -> dict[str, float]:
    with needs("boosting"):
        import numpy as np
    off = np.abs(predicted_ms / measured_ms - 1)
    within = {f"within_{percent}": float(np.mean(off <= percent / 100)) for percent in (1, 5, 10)}
    return {**within, "mdape": float(np.median(off))}
