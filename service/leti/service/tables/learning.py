"""What is learnt: datasets, predictors, their holdouts, and predictions kept to be scored."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    true,
)

from leti.service.tables.columns import Fingerprint, Id, Name, PackedJson, metadata

datasets: Final = Table(
    "datasets",
    metadata,
    Column("id", Id, primary_key=True),
    Column("platform_id", Name, ForeignKey("platforms.id"), nullable=False),
    Column("reference_latency_id", Id, ForeignKey("reference_latencies.id"), nullable=False),
    Column("holdout_share", Double, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("repeatability", JSON(none_as_null=True)),
    Column("origin", JSON(none_as_null=True)),  # of one that was imported, with the file that brought it
    Column("file_sha256", String(64)),
    Index(None, "file_sha256", unique=True),
)

dataset_items: Final = Table(
    "dataset_items",
    metadata,
    Column("dataset_id", Id, ForeignKey("datasets.id"), primary_key=True),
    Column("fingerprint", Fingerprint, ForeignKey("networks.fingerprint"), primary_key=True),
    Column("part", String(8), nullable=False),
    Column("ratio", Double, nullable=False),
    Column("count", Integer, nullable=False),
    Column("spread", Double, nullable=False),
    Column("group", Text, nullable=False),
    Column("operator_times", PackedJson),
)

predictors: Final = Table(
    "predictors",
    metadata,
    Column("id", Id, primary_key=True),
    Column("platform_id", Name, ForeignKey("platforms.id"), nullable=False),
    Column("dataset_id", Id, ForeignKey("datasets.id"), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("artifact_sha256", String(64), nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("cross_validation_mdape", Double, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("retired_at", Double),  # since when its files may be gone
    UniqueConstraint("platform_id", "kind", "version"),
)
Index(
    "uq_predictors_platform_id_active",
    predictors.c.platform_id,
    unique=True,
    sqlite_where=predictors.c.active == true(),
    postgresql_where=predictors.c.active == true(),
)

holdout_points: Final = Table(
    "holdout_points",
    metadata,
    Column("predictor_id", Id, ForeignKey("predictors.id"), primary_key=True),
    Column("fingerprint", Fingerprint, ForeignKey("networks.fingerprint"), primary_key=True),
    Column("measured_ms", Double, nullable=False),
    Column("latency_ms", Double, nullable=False),
    Column("low_ms", Double, nullable=False),
    Column("high_ms", Double, nullable=False),
)

predictions: Final = Table(
    "predictions",
    metadata,
    Column("predictor_id", Id, ForeignKey("predictors.id"), primary_key=True),
    Column("fingerprint", Fingerprint, primary_key=True),
    Column("coverage", Double, primary_key=True),
    Column("latency_ms", Double, nullable=False),
    Column("low_ms", Double, nullable=False),
    Column("high_ms", Double, nullable=False),
    Column("created_at", Double, nullable=False),
    Index(None, "fingerprint"),
    Index(None, "created_at"),
)
