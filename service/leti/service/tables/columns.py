"""What every table is made of: the metadata, and types of columns."""

from __future__ import annotations

import json
import zlib
from typing import Any, Final

from pydantic_core import to_json
from sqlalchemy import BigInteger, Integer, LargeBinary, MetaData, String
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator
from typing_extensions import override

metadata: Final = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

Id: Final = BigInteger().with_variant(Integer, "sqlite")
"""64 bits; SQLite numbers rows by itself only where the type is called INTEGER."""

Fingerprint: Final = String(64)

Name: Final = String(200)


def packed(value: Any) -> bytes:
    """Return what a column of packed JSON holds; handed to one, it goes in as it is.

    ``value`` is plain JSON data, or a dataclass whose fields are all its JSON form. To pack takes as long as to write a
    row: who writes many does it before the transaction begins.
    """
    return zlib.compress(to_json(value, inf_nan_mode="constants"), 6)


class PackedJson(TypeDecorator[Any]):
    """JSON that nobody searches by (graphs, raw samples), compressed: some ten times smaller than its text."""

    impl = LargeBinary
    cache_ok = True

    @override
    def process_bind_param(self, value: Any, dialect: Dialect) -> bytes | None:
        return value if value is None or isinstance(value, bytes) else packed(value)

    @override
    def process_result_value(self, value: bytes | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(zlib.decompress(value))
