"""Networks, the model files that were made of them, and what they reached once trained."""

from __future__ import annotations

from typing import Final

from sqlalchemy import JSON, BigInteger, Boolean, Column, Double, ForeignKey, String, Table, Text

from leti.service.tables.columns import Fingerprint, PackedJson, metadata

networks: Final = Table(
    "networks",
    metadata,
    Column("fingerprint", Fingerprint, primary_key=True),
    Column("space", String(64), nullable=False),
    Column("spec", JSON, nullable=False),  # null, as JSON, where there is none
    Column("zero", String(16), nullable=False),
    Column("isomorphism_class", Text, nullable=False),
    Column("degenerate", Boolean, nullable=False),
    Column("macs", BigInteger, nullable=False),
    Column("params", BigInteger, nullable=False),
    Column("peak_memory_bytes", BigInteger, nullable=False),
    Column("graph", PackedJson, nullable=False),
    Column("precision", String(16), nullable=False, server_default="float32"),
    Column("source", String(16), nullable=False, server_default="spec"),
    Column("base", Fingerprint),  # of a compressed network: what the patch is of
    Column("patch", JSON(none_as_null=True)),
    Column("created_at", Double, nullable=False),
)

model_files: Final = Table(
    "model_files",
    metadata,
    Column("fingerprint", Fingerprint, ForeignKey("networks.fingerprint"), primary_key=True),
    Column("format", String(16), primary_key=True),
    Column("sha256", String(64), nullable=False),
)

accuracies: Final = Table(
    "accuracies",
    metadata,
    Column("fingerprint", Fingerprint, ForeignKey("networks.fingerprint"), primary_key=True),
    Column("task", String(100), primary_key=True),
    Column("accuracy", Double, nullable=False),
    Column("remark", Text, nullable=False),
    Column("updated_at", Double, nullable=False),
)
