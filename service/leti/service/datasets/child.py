"""The child: what runs in the sandbox on a Parquet file that nobody vouches for. It tells the rows as lines of JSON.

The first line is the header's text, each further one the cells of a row; the last is an object, with the number of
``rows`` or a ``problem``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

from leti.core.errors import InvalidInput, LetiError, TooLarge
from leti.core.extras import needs
from leti.service.datasets.columns import COLUMNS, HEADER, MAX_CELL, METADATA, check_names
from leti.service.uploads.child import contain, forbid, problem_of

BATCH: Final = 256
"""Rows that are decoded at a time."""

MAX_METADATA: Final = 16 * 2**20
"""Bytes of any text, and members of any list, in the file's own description of itself."""


def main() -> None:
    """Read the file that the command line names, and answer on what was standard output."""
    most, name, limits = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    answer = os.dup(1)
    os.dup2(2, 1)  # /dev/null: what libraries print is no answer
    contain(limits["memory_bytes"], limits["timeout_s"])
    with os.fdopen(answer, "w", encoding="utf-8") as pipe:
        json.dump(_told(Path(name), most, pipe), pipe)


def _told(path: Path, most: int, pipe: IO[str]) -> Any:
    """Write the header and the rows as lines, and return the last one."""
    count = 0
    try:
        for line in _lines(path, most):
            json.dump(line, pipe, separators=(",", ":"), ensure_ascii=False)
            pipe.write("\n")
            count += 1
    except MemoryError:
        return problem_of(TooLarge("takes more memory to be read than its reader may take"))
    except LetiError as error:
        return problem_of(error)
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever the reader trips over, the file is at fault
        if type(error).__name__ == "ArrowMemoryError":
            return problem_of(TooLarge("takes more memory to be read than its reader may take"))
        reason = str(error).partition("\n")[0][:200]
        return problem_of(InvalidInput(f"is no Parquet file, or a damaged one: {reason}", field="(body)"))
    return {"rows": count - 1}


def _lines(path: Path, most: int) -> Iterator[Any]:
    with needs("arrow"):
        import pyarrow
        from pyarrow import parquet
    pyarrow.set_memory_pool(pyarrow.system_memory_pool())  # others reserve more address space than there may be
    pyarrow.set_cpu_count(1)
    sys.addaudithook(forbid)
    texts = [name for name, kind in COLUMNS.items() if kind in ("text", "json")]
    file = parquet.ParquetFile(
        path,
        read_dictionary=texts,  # a text that stands in many rows stays one
        pre_buffer=False,
        thrift_string_size_limit=MAX_METADATA,
        thrift_container_size_limit=MAX_METADATA,
    )
    if file.metadata.num_rows > most:
        raise TooLarge(f"holds {file.metadata.num_rows} networks", field="rows", remedy=f"at most {most}", limit=most)
    schema = file.schema_arrow
    _check_schema(schema)
    header = (schema.metadata or {}).get(METADATA)
    if header is None:
        raise InvalidInput(f"is missing from the file's metadata, key {METADATA.decode()}", field=HEADER)
    yield header.decode("utf-8")
    for batch in file.iter_batches(BATCH, columns=list(COLUMNS), use_threads=False):
        columns = [_cells(batch.column(name), name, batch.num_rows) for name in COLUMNS]
        yield from zip(*columns, strict=True)


def _check_schema(schema: Any) -> None:
    from pyarrow import types

    check_names(schema.names, tuple(COLUMNS))
    fits = {
        "text": lambda kind: types.is_dictionary(kind) and types.is_string(kind.value_type),
        "number": types.is_float64,
        "whole": types.is_integer,
    }
    fits["json"] = fits["text"]
    for name, kind in COLUMNS.items():
        found_type = schema.field(name).type
        if not fits[kind](found_type):
            wanted = {"number": "64-bit floats", "whole": "whole numbers"}.get(kind, "texts")
            raise InvalidInput(f"must hold {wanted}, not {str(found_type)[:80]}", field=name)


def _cells(column: Any, name: str, rows: int) -> Iterator[Any]:
    """Yield the cells of a column, each made as it is told."""
    from pyarrow import compute

    if COLUMNS[name] in ("text", "json"):
        longest = compute.max(compute.binary_length(column.dictionary)).as_py() or 0
        if longest > MAX_CELL:
            raise TooLarge(f"has a cell of {longest} bytes", field=name, remedy=f"at most {MAX_CELL}", limit=MAX_CELL)
    return (column[i].as_py() for i in range(rows))


if __name__ == "__main__":
    main()
