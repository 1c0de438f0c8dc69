"""Workers, their tasks with the logs, and which predictor served which platform when."""

from __future__ import annotations

from typing import Final

from sqlalchemy import JSON, Column, Double, ForeignKey, Index, Integer, String, Table, Text

from leti.service.tables.columns import Id, Name, metadata

workers: Final = Table(
    "workers",
    metadata,
    Column("name", Name, primary_key=True),
    Column("version", String(64), nullable=False),
    Column("seen_at", Double, nullable=False),
    Column("started_at", Double, nullable=False),
)

tasks: Final = Table(
    "tasks",
    metadata,
    Column("id", Id, primary_key=True),
    Column("kind", String(64), nullable=False),
    Column("platform_id", Name, ForeignKey("platforms.id")),
    Column("request", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("created_by", Name, nullable=False),
    # The hold of the worker that has it: the token grows with each, so that those before it are fenced off.
    Column("worker", Name),
    Column("token", Integer, nullable=False),
    Column("expires_at", Double),
    Column("deaths", Integer, nullable=False),
    Column("stage", Text, nullable=False),
    Column("steps_done", Integer, nullable=False),
    Column("steps_total", Integer, nullable=False),
    Column("report", JSON(none_as_null=True)),
    Column("problem", JSON(none_as_null=True)),
    Column("started_at", Double),
    Column("ended_at", Double),
    Index(None, "state", "kind", "id"),
    Index(None, "platform_id", "kind", "id"),
)

task_logs: Final = Table(
    "task_logs",
    metadata,
    Column("task_id", Id, ForeignKey("tasks.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at", Double, nullable=False),
    Column("level", String(8), nullable=False),
    Column("message", Text, nullable=False),
)

promotions: Final = Table(
    "promotions",
    metadata,
    Column("id", Id, primary_key=True),
    Column("platform_id", Name, ForeignKey("platforms.id"), nullable=False),
    Column("predictor_id", Id, ForeignKey("predictors.id"), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("created_by", Name, nullable=False),
    Column("reason", String(16), nullable=False),
    Column("remark", Text, nullable=False),
    Index(None, "platform_id", "id"),
)
