"""Devices with their states, failures as events, jobs with a priority that may be cancelled.

Every device that a platform names gets a row; of two descriptions under one name, the newer platform's is kept. What is
known of earlier failures, the last one of each job that ended in one, becomes an event. Jobs set aside as poison say
how they last ended: that they are poison is their state.

Revision: 0004
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
BEFORE = ["platform_id", "state", "campaign_id", "repeat", "position"]
NOW = ["platform_id", "state", "priority", "campaign_id", "repeat", "position"]

platforms = sa.table(
    "platforms",
    sa.column("platform", sa.JSON()),
    *map(sa.column, ("id", "device", "last_heartbeat", "created_at")),
)
devices = sa.table(
    "devices",
    sa.column("device", sa.JSON()),
    *map(sa.column, ("name", "reported_state", "reported_reason", "reported_at", "idle_since")),
    *map(sa.column, ("last_heartbeat", "failures_in_a_row", "row_after", "created_at")),
)
jobs = sa.table(
    "jobs",
    *map(sa.column, ("id", "platform_id", "fingerprint", "state", "lease_id", "failure_kind", "failure_message")),
)
leases = sa.table("leases", *map(sa.column, ("id", "agent", "expires_at")))
failures = sa.table(
    "failures",
    *map(sa.column, ("job_id", "platform_id", "device", "fingerprint", "agent", "lease_id")),
    *map(sa.column, ("kind", "message", "late", "created_at")),
)


def upgrade() -> None:
    op.create_table(
        "devices",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("device", sa.JSON(), nullable=False),
        sa.Column("reported_state", sa.String(length=16), nullable=False),
        sa.Column("reported_reason", sa.Text(), nullable=False),
        sa.Column("reported_at", sa.Double(), nullable=False),
        sa.Column("idle_since", sa.Double(), nullable=False),
        sa.Column("quarantine_reason", sa.Text(), nullable=True),
        sa.Column("quarantined_by", sa.String(length=16), nullable=True),
        sa.Column("quarantined_at", sa.Double(), nullable=True),
        sa.Column("last_heartbeat", sa.Double(), nullable=True),
        sa.Column("failures_in_a_row", sa.Integer(), nullable=False),
        sa.Column("row_after", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_devices"),
    )
    # In one statement, which both databases understand: SQLite adds no constraint to a table that is there.
    op.execute(
        "ALTER TABLE platforms ADD COLUMN device VARCHAR(200)"
        " CONSTRAINT fk_platforms_device_devices REFERENCES devices (name)"
    )
    op.create_index("ix_platforms_device", "platforms", ["device"])
    op.create_table(
        "failures",
        sa.Column("id", ID, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("platform_id", sa.String(length=200), nullable=False),
        sa.Column("device", sa.String(length=200), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("agent", sa.String(length=200), nullable=False),
        sa.Column("lease_id", ID, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("late", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.name"], name="fk_failures_device_devices"),
        sa.ForeignKeyConstraint(["fingerprint"], ["networks.fingerprint"], name="fk_failures_fingerprint_networks"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_failures_job_id_jobs"),
        sa.ForeignKeyConstraint(["lease_id"], ["leases.id"], name="fk_failures_lease_id_leases"),
        sa.ForeignKeyConstraint(["platform_id"], ["platforms.id"], name="fk_failures_platform_id_platforms"),
        sa.PrimaryKeyConstraint("id", name="pk_failures"),
        sa.UniqueConstraint("job_id", "lease_id", "late", name="uq_failures_job_id_lease_id_late"),
    )
    op.create_index("ix_failures_device_id", "failures", ["device", "id"])
    op.create_index("ix_failures_platform_id", "failures", ["platform_id"])
    zero = sa.text("0")
    op.add_column("campaigns", sa.Column("priority", sa.Integer(), nullable=False, server_default=zero))
    op.add_column("jobs", sa.Column("priority", sa.Integer(), nullable=False, server_default=zero))
    op.add_column("jobs", sa.Column("profile", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.drop_index("_".join(["ix_jobs", *BEFORE]), "jobs")
    op.create_index("_".join(["ix_jobs", *NOW]), "jobs", NOW)
    connection = op.get_bind()
    _introduce_devices(connection)
    cancelled = (jobs.c.state == "failed") & (jobs.c.failure_kind == "cancelled")
    connection.execute(
        sa.update(jobs).where(cancelled).values(state="cancelled", failure_kind=None, failure_message=None)
    )
    connection.execute(sa.update(jobs).where(jobs.c.state == "poison").values(failure_kind="lost"))
    _remember_failures(connection)


def downgrade() -> None:
    """Forget events and states of devices; cancelled jobs have failed, with a kind that says so."""
    connection = op.get_bind()
    reason = {"failure_kind": "cancelled", "failure_message": "was cancelled"}
    connection.execute(sa.update(jobs).where(jobs.c.state == "cancelled").values(state="failed", **reason))
    connection.execute(sa.update(jobs).where(jobs.c.state == "poison").values(failure_kind="poison"))
    op.drop_index("_".join(["ix_jobs", *NOW]), "jobs")
    op.create_index("_".join(["ix_jobs", *BEFORE]), "jobs", BEFORE)
    op.drop_column("jobs", "profile")
    op.drop_column("jobs", "priority")
    op.drop_column("campaigns", "priority")
    op.drop_table("failures")
    op.drop_index("ix_platforms_device", "platforms")
    op.drop_column("platforms", "device")
    op.drop_table("devices")


def _introduce_devices(connection: sa.Connection) -> None:
    rows = connection.execute(
        sa.select(platforms.c.id, platforms.c.platform, platforms.c.last_heartbeat, platforms.c.created_at).order_by(
            platforms.c.created_at, platforms.c.id
        )
    ).all()
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        name = row.platform["device"]["name"]
        before = found.get(name, {"last_heartbeat": None, "created_at": row.created_at})
        heard = [at for at in (row.last_heartbeat, before["last_heartbeat"]) if at is not None]
        found[name] = {
            "name": name,
            "device": row.platform["device"],
            "reported_state": "available",
            "reported_reason": "",
            "reported_at": before["created_at"],
            "idle_since": max([before["created_at"], *heard]),
            "last_heartbeat": max(heard, default=None),
            "failures_in_a_row": 0,
            "row_after": 0,
            "created_at": before["created_at"],
        }
    if found:
        connection.execute(sa.insert(devices), list(found.values()))
    for row in rows:
        named = sa.update(platforms).where(platforms.c.id == row.id)
        connection.execute(named.values(device=row.platform["device"]["name"]))


def _remember_failures(connection: sa.Connection) -> None:
    """Make an event of what each job that failed, or is poison, says of its end."""
    columns = (
        jobs.c.id,
        jobs.c.platform_id,
        platforms.c.device,
        jobs.c.fingerprint,
        leases.c.agent,
        leases.c.id,
        jobs.c.failure_kind,
        sa.func.coalesce(jobs.c.failure_message, ""),
        sa.false(),
        leases.c.expires_at,
    )
    known = (
        sa.select(*columns)
        .join(platforms, platforms.c.id == jobs.c.platform_id)
        .join(leases, leases.c.id == jobs.c.lease_id)
        .where(jobs.c.state.in_(("failed", "poison")), jobs.c.failure_kind.is_not(None))
        .order_by(jobs.c.id)
    )
    connection.execute(sa.insert(failures).from_select([column.name for column in failures.c], known))
