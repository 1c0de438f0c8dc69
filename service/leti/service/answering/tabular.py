"""Answers as tables: Arrow and Parquet, a row for each network on each platform."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from leti.core.extras import needs
from leti.service.answering.answers import Answers, Failed, PlatformAnswers

if TYPE_CHECKING:
    import pyarrow

METADATA: Final = "leti"
"""The key of the schema's metadata that holds, as JSON, what a table is about: of answers, how many networks were
queued, and how many waited already."""


def arrow(answers: Answers) -> bytes:
    """Return answers as a stream in Arrow's IPC format."""
    return _streamed(table(answers))


def arrow_of(columns: Mapping[str, Sequence[Any]], about: Mapping[str, Any]) -> bytes:
    """Return columns of one type each as a stream in Arrow's IPC format, with what they are as its metadata.

    Raises :class:`~leti.core.errors.MissingExtra` where pyarrow is not installed.
    """
    with needs("arrow"):
        import pyarrow
    made = pyarrow.table({name: list(values) for name, values in columns.items()})
    return _streamed(made.replace_schema_metadata({METADATA: json.dumps(about, allow_nan=False, sort_keys=True)}))


def _streamed(made: pyarrow.Table) -> bytes:
    from pyarrow import ipc

    sink = io.BytesIO()
    with ipc.new_stream(sink, made.schema) as stream:
        stream.write_table(made)
    return sink.getvalue()


def parquet(answers: Answers) -> bytes:
    """Return answers as a Parquet file."""
    made = table(answers)
    from pyarrow import parquet as files

    sink = io.BytesIO()
    files.write_table(made, sink, compression="zstd")
    return sink.getvalue()


def table(answers: Answers) -> pyarrow.Table:
    """Return a row for each platform and network, platform by platform, in the order of the request.

    ``error`` says why there is no latency, ``not_queued`` why a network could not be queued to be measured. Raises
    :class:`~leti.core.errors.MissingExtra` where pyarrow is not installed.
    """
    with needs("arrow"):
        import pyarrow
    failures = answers.failures()
    degenerate = set(answers.degenerate())
    parts = [_part(answers, platform, failures, degenerate) for platform in answers.platforms]
    whole = {name: [value for part in parts for value in part[name]] for name in parts[0]}
    types = _types()
    arrays = [pyarrow.array(values, types[name]) for name, values in whole.items()]
    queued = {p.platform_id: {"queued": p.queued, "waiting": p.waiting} for p in answers.platforms}
    schema = pyarrow.schema(list(types.items()), metadata={METADATA: json.dumps(queued)})
    return pyarrow.Table.from_arrays(arrays, schema=schema)


def _types() -> dict[str, pyarrow.DataType]:
    import pyarrow

    names = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    return {
        "index": pyarrow.int32(),
        "platform_id": names,
        "fingerprint": pyarrow.string(),
        "latency_ms": pyarrow.float64(),
        "low_ms": pyarrow.float64(),
        "high_ms": pyarrow.float64(),
        "coverage": pyarrow.float64(),
        "source": names,
        "predictor": names,
        "version": pyarrow.int32(),
        "distance": pyarrow.float64(),
        "count": pyarrow.int32(),
        "degenerate": pyarrow.bool_(),
        "unknown": pyarrow.list_(pyarrow.string()),
        "error": pyarrow.string(),
        "not_queued": pyarrow.string(),
    }


def _part(
    answers: Answers, platform: PlatformAnswers, failures: list[Failed], degenerate: set[int]
) -> dict[str, list[Any]]:
    """Return the columns of one platform."""
    column = answers.column(platform)
    here = [failed for failed in failures if failed.platform_id in ("", platform.platform_id)]
    errors = {failed.index: str(failed.error) for failed in here if failed.stage != "measure"}
    not_queued = {failed.index: str(failed.error) for failed in here if failed.stage == "measure"}
    unknown = dict(answers.unknown(platform))
    count = range(len(answers))
    said = {
        None: (None, None, None, None),
        True: (1.0, "measured", "", 0),
        False: (answers.coverage, "predicted", platform.predictor, platform.version),
    }
    rows = [said[None if answer.latency_ms is None else answer.measured] for answer in column]
    return {
        "index": list(count),
        "platform_id": [platform.platform_id] * len(column),
        "fingerprint": list(answers.fingerprints(platform)),
        "latency_ms": [answer.latency_ms for answer in column],
        "low_ms": [answer.low_ms for answer in column],
        "high_ms": [answer.high_ms for answer in column],
        "coverage": [row[0] for row in rows],
        "source": [row[1] for row in rows],
        "predictor": [row[2] for row in rows],
        "version": [row[3] for row in rows],
        "distance": [answer.distance for answer in column],
        "count": [answer.measurements for answer in column],
        "degenerate": [i in degenerate for i in count],
        "unknown": [unknown.get(i, ()) for i in count],
        "error": [errors.get(i) for i in count],
        "not_queued": [not_queued.get(i) for i in count],
    }
