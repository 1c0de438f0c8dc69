"""Answers to requests that carried a key, to be given again."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, Double, Integer, LargeBinary, String, Table, Text

from leti.service.tables.columns import metadata

kept_answers: Final = Table(
    "kept_answers",
    metadata,
    Column("key_sha256", String(64), primary_key=True),  # of the key, the route, and who sent it
    Column("body_sha256", String(64), nullable=False),
    Column("status", Integer),  # none while the first request is still at work
    Column("media_type", Text),
    Column("answer", LargeBinary),
    Column("expires_at", Double, nullable=False, index=True),
)
