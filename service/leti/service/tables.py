"""The tables. Only the store reads and writes them; only migrations create them.

Points in time are seconds since the epoch (UTC), latencies milliseconds.
"""

from __future__ import annotations

import json
import zlib
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
    true,
)
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


class PackedJson(TypeDecorator[Any]):
    """JSON that nobody searches by (graphs, raw samples), compressed: some ten times smaller than its text."""

    impl = LargeBinary
    cache_ok = True

    @override
    def process_bind_param(self, value: Any, dialect: Dialect) -> bytes | None:
        if value is None:
            return None
        return zlib.compress(json.dumps(value, separators=(",", ":"), allow_nan=False).encode(), 6)

    @override
    def process_result_value(self, value: bytes | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(zlib.decompress(value))


networks: Final = Table(
    "networks",
    metadata,
    Column("fingerprint", Fingerprint, primary_key=True),
    Column("space", String(64), nullable=False),
    Column("spec", JSON, nullable=False),
    Column("zero", String(16), nullable=False),
    Column("isomorphism_class", Text, nullable=False),
    Column("degenerate", Boolean, nullable=False),
    Column("macs", BigInteger, nullable=False),
    Column("params", BigInteger, nullable=False),
    Column("peak_memory_bytes", BigInteger, nullable=False),
    Column("graph", PackedJson, nullable=False),
    Column("precision", String(16), nullable=False, server_default="float32"),
    Column("created_at", Double, nullable=False),
)

model_files: Final = Table(
    "model_files",
    metadata,
    Column("fingerprint", Fingerprint, ForeignKey("networks.fingerprint"), primary_key=True),
    Column("format", String(16), primary_key=True),
    Column("sha256", String(64), nullable=False),
)

devices: Final = Table(
    "devices",
    metadata,
    Column("name", Name, primary_key=True),
    Column("device", JSON, nullable=False),
    Column("reported_state", String(16), nullable=False),
    Column("reported_reason", Text, nullable=False),
    Column("reported_at", Double, nullable=False),
    Column("idle_since", Double, nullable=False),  # since when no lease has kept it busy
    Column("quarantine_reason", Text),
    Column("quarantined_by", String(16)),
    Column("quarantined_at", Double),
    Column("last_heartbeat", Double),
    Column("failures_in_a_row", Integer, nullable=False),
    Column("row_after", BigInteger, nullable=False),  # the row holds failures of higher ids
    Column("created_at", Double, nullable=False),
)

platforms: Final = Table(
    "platforms",
    metadata,
    Column("id", Name, primary_key=True),
    Column("device", Name, ForeignKey("devices.name"), index=True),
    Column("platform", JSON, nullable=False),
    Column("reference", Fingerprint, ForeignKey("networks.fingerprint"), nullable=False),
    Column("last_token", BigInteger, nullable=False),
    Column("last_heartbeat", Double),
    Column("created_at", Double, nullable=False),
)

reference_latencies: Final = Table(
    "reference_latencies",
    metadata,
    Column("id", Id, primary_key=True),
    Column("platform_id", Name, ForeignKey("platforms.id"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("reference", Fingerprint, ForeignKey("networks.fingerprint"), nullable=False),
    Column("latency_ms", Double, nullable=False),
    Column("measurements", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("platform_id", "version"),
)

campaigns: Final = Table(
    "campaigns",
    metadata,
    Column("id", Id, primary_key=True),
    Column("platform_id", Name, ForeignKey("platforms.id"), nullable=False),
    Column("name", Name, nullable=False),
    Column("zero", String(16), nullable=False),
    Column("request", JSON, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("networks", Integer, nullable=False),
    Column("priority", Integer, nullable=False, server_default=text("0")),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("platform_id", "name"),
)

leases: Final = Table(
    "leases",
    metadata,
    Column("id", Id, primary_key=True),
    Column("platform_id", Name, ForeignKey("platforms.id"), nullable=False),
    Column("agent", Name, nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("platform_id", "token"),
    Index(None, "platform_id", "state", "expires_at"),
)

jobs: Final = Table(
    "jobs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("campaign_id", Id, ForeignKey("campaigns.id"), nullable=False),
    Column("platform_id", Name, ForeignKey("platforms.id"), nullable=False),
    Column("fingerprint", Fingerprint, ForeignKey("networks.fingerprint"), nullable=False),
    Column("repeat", Integer, nullable=False),
    Column("position", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("deaths", Integer, nullable=False),
    Column("lease_id", Id, ForeignKey("leases.id")),
    Column("noisy", Boolean, nullable=False),
    Column("failure_kind", String(32)),
    Column("failure_message", Text),
    Column("priority", Integer, nullable=False, server_default=text("0")),
    Column("profile", Boolean, nullable=False, server_default=false()),
    UniqueConstraint("campaign_id", "fingerprint", "repeat"),
    Index(None, "platform_id", "state", "priority", "campaign_id", "repeat", "position"),
    Index(None, "lease_id"),
)

failures: Final = Table(
    "failures",
    metadata,
    Column("id", Id, primary_key=True),
    Column("job_id", Id, ForeignKey("jobs.id"), nullable=False),
    Column("platform_id", Name, ForeignKey("platforms.id"), nullable=False, index=True),
    Column("device", Name, ForeignKey("devices.name"), nullable=False),
    Column("fingerprint", Fingerprint, ForeignKey("networks.fingerprint"), nullable=False),
    Column("agent", Name, nullable=False),
    Column("lease_id", Id, ForeignKey("leases.id"), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("message", Text, nullable=False),
    Column("late", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("job_id", "lease_id", "late"),
    Index(None, "device", "id"),
)

measurements: Final = Table(
    "measurements",
    metadata,
    Column("id", Id, primary_key=True),
    Column("platform_id", Name, ForeignKey("platforms.id"), nullable=False),
    Column("campaign_id", Id, ForeignKey("campaigns.id"), nullable=False),
    Column("job_id", Id, ForeignKey("jobs.id"), nullable=False),
    Column("lease_id", Id, ForeignKey("leases.id"), nullable=False),
    Column("fingerprint", Fingerprint, ForeignKey("networks.fingerprint"), nullable=False),
    Column("repeat", Integer, nullable=False),
    Column("reference", Fingerprint, ForeignKey("networks.fingerprint"), nullable=False),
    Column("ratio", Double, nullable=False),
    Column("reference_ms", Double, nullable=False),
    Column("median_ms", Double, nullable=False),
    Column("min_ms", Double, nullable=False),
    Column("noisy", Boolean, nullable=False),
    Column("late", Boolean, nullable=False),
    Column("measurement", PackedJson, nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("job_id", "lease_id"),
    Index(None, "platform_id", "fingerprint"),
    Index(None, "campaign_id"),
    Index(None, "fingerprint"),
)
Index(
    "uq_measurements_job_id_on_time",
    measurements.c.job_id,
    unique=True,
    sqlite_where=measurements.c.late == false(),
    postgresql_where=measurements.c.late == false(),
)

datasets: Final = Table(
    "datasets",
    metadata,
    Column("id", Id, primary_key=True),
    Column("platform_id", Name, ForeignKey("platforms.id"), nullable=False),
    Column("reference_latency_id", Id, ForeignKey("reference_latencies.id"), nullable=False),
    Column("holdout_share", Double, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
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
)
