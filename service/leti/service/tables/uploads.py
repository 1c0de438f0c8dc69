"""Model files that were uploaded."""

from __future__ import annotations

from typing import Final

from sqlalchemy import JSON, BigInteger, Column, Double, ForeignKey, String, Table, UniqueConstraint

from leti.service.tables.columns import Fingerprint, Id, metadata

uploads: Final = Table(
    "uploads",
    metadata,
    Column("id", Id, primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("format", String(16), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("fingerprint", Fingerprint, ForeignKey("networks.fingerprint")),
    Column("problem", JSON(none_as_null=True)),
    Column("created_at", Double, nullable=False),
    Column("task_id", Id, ForeignKey("tasks.id")),
    UniqueConstraint("sha256", "format"),
)
