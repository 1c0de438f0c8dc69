"""Exporting: a dataset becomes a file, a piece at a time."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from types import MappingProxyType
from typing import IO, Final

from leti.core.codec import to_json
from leti.core.datasets import FILE_VERSION, DatasetFormat, DatasetHeader, DatasetRow
from leti.core.errors import ArtifactError
from leti.core.extras import needs
from leti.service.datasets.columns import COLUMNS, HEADER, METADATA, cells_of, written
from leti.service.store import Store

PIECE: Final = 1_000
"""Networks that are read, and written, at a time."""

Rows = Iterator[tuple[DatasetRow, ...]]


def export(store: Store, dataset_id: int, form: DatasetFormat, file: IO[bytes]) -> None:
    """Write a dataset into ``file``.

    Raises :class:`~leti.core.errors.NotFound`, and :class:`~leti.core.errors.MissingExtra` where pyarrow is not
    installed, which writes Parquet.
    """
    WRITERS[form](written(to_json(header_of(store, dataset_id))), _pieces(store, dataset_id), file)


def header_of(store: Store, dataset_id: int) -> DatasetHeader:
    """Return what a file says of a dataset as a whole; raise :class:`~leti.core.errors.NotFound`."""
    info = store.datasets.get(dataset_id)
    reference = store.networks.get(store.datasets.reference(dataset_id))
    if reference.spec is None:
        raise ArtifactError("the reference network has no spec", field="reference")
    return DatasetHeader(
        file_version=FILE_VERSION,
        leti_version=metadata.version("leti"),
        dataset_id=info.id,
        created_at=info.created_at,
        platform=store.platforms.platform(info.platform_id),
        reference=reference.fingerprint,
        reference_spec=reference.spec,
        reference_zero=reference.zero,
        reference_version=info.reference_version,
        reference_latency_ms=info.reference_latency_ms,
        holdout_share=info.holdout_share,
        seed=info.seed,
        networks_train=info.networks_train,
        networks_holdout=info.networks_holdout,
        repeatability=info.repeatability,
    )


def _pieces(store: Store, dataset_id: int) -> Rows:
    after = ""
    while rows := store.datasets.rows(dataset_id, after=after, limit=PIECE):
        yield rows
        after = rows[-1].fingerprint


def _write_csv(header: str, pieces: Rows, file: IO[bytes]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, HEADER])
    for rows in pieces:
        for row in rows:
            writer.writerow([*cells_of(row), header])
            header = ""
    text.flush()
    text.detach()


def _write_parquet(header: str, pieces: Rows, file: IO[bytes]) -> None:
    with needs("arrow"):
        import pyarrow
        from pyarrow import parquet
    types = {
        "text": pyarrow.string(),
        "json": pyarrow.string(),
        "number": pyarrow.float64(),
        "whole": pyarrow.int64(),
    }
    fields = [pyarrow.field(name, types[kind], nullable=False) for name, kind in COLUMNS.items()]
    schema = pyarrow.schema(fields, metadata={METADATA: header})
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for rows in pieces:
            columns = zip(*map(cells_of, rows), strict=True)
            arrays = [pyarrow.array(column, field.type) for column, field in zip(columns, fields, strict=True)]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))


WRITERS: Final[Mapping[DatasetFormat, Callable[[str, Rows, IO[bytes]], None]]] = MappingProxyType(
    {"csv": _write_csv, "parquet": _write_parquet}
)
