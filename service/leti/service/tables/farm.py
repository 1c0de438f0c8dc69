"""The farm: devices, platforms, campaigns, leases, jobs, failures, measurements."""

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
    false,
    text,
)

from leti.service.tables.columns import Fingerprint, Id, Name, PackedJson, metadata

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
    Column("holder", String(16), ForeignKey("tokens.id")),  # the agent's token that speaks for it
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
    Column("imported", Boolean, nullable=False, server_default=false()),  # of a dataset's, not the platform's own
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
    Column("baseline", Fingerprint),  # measured in every lease that has other jobs of the campaign
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
    Column("claimed_by", String(16), ForeignKey("tokens.id")),
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
    Index(None, "platform_id", "id"),  # this one and those below: pages of one platform, campaign, state, network
    Index(None, "campaign_id", "id"),
    Index(None, "state", "id"),
    Index(None, "fingerprint"),
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
    Index(None, "platform_id", "id"),
    Index(None, "campaign_id", "id"),
    Index(None, "fingerprint"),
)
Index(
    "uq_measurements_job_id_on_time",
    measurements.c.job_id,
    unique=True,
    sqlite_where=measurements.c.late == false(),
    postgresql_where=measurements.c.late == false(),
)
