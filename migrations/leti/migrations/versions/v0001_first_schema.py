"""The first schema: networks, platforms, campaigns, jobs, leases, measurements, datasets, predictors, predictions.

Revision: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "networks",
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("space", sa.String(length=64), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("zero", sa.String(length=16), nullable=False),
        sa.Column("isomorphism_class", sa.Text(), nullable=False),
        sa.Column("degenerate", sa.Boolean(), nullable=False),
        sa.Column("macs", sa.BigInteger(), nullable=False),
        sa.Column("params", sa.BigInteger(), nullable=False),
        sa.Column("peak_memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("graph", sa.LargeBinary(), nullable=False),
        sa.Column("model_sha256", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name="pk_networks"),
    )
    op.create_table(
        "platforms",
        sa.Column("id", sa.String(length=200), nullable=False),
        sa.Column("platform", sa.JSON(), nullable=False),
        sa.Column("reference", sa.String(length=64), nullable=False),
        sa.Column("last_token", sa.BigInteger(), nullable=False),
        sa.Column("last_heartbeat", sa.Double(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["reference"], ["networks.fingerprint"], name="fk_platforms_reference_networks"),
        sa.PrimaryKeyConstraint("id", name="pk_platforms"),
    )
    op.create_table(
        "campaigns",
        sa.Column("id", ID, nullable=False),
        sa.Column("platform_id", sa.String(length=200), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("zero", sa.String(length=16), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("networks", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["platform_id"], ["platforms.id"], name="fk_campaigns_platform_id_platforms"),
        sa.PrimaryKeyConstraint("id", name="pk_campaigns"),
        sa.UniqueConstraint("platform_id", "name", name="uq_campaigns_platform_id_name"),
    )
    op.create_table(
        "leases",
        sa.Column("id", ID, nullable=False),
        sa.Column("platform_id", sa.String(length=200), nullable=False),
        sa.Column("agent", sa.String(length=200), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["platform_id"], ["platforms.id"], name="fk_leases_platform_id_platforms"),
        sa.PrimaryKeyConstraint("id", name="pk_leases"),
        sa.UniqueConstraint("platform_id", "token", name="uq_leases_platform_id_token"),
    )
    op.create_index("ix_leases_platform_id_state_expires_at", "leases", ["platform_id", "state", "expires_at"])
    op.create_table(
        "reference_latencies",
        sa.Column("id", ID, nullable=False),
        sa.Column("platform_id", sa.String(length=200), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("reference", sa.String(length=64), nullable=False),
        sa.Column("latency_ms", sa.Double(), nullable=False),
        sa.Column("measurements", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["platform_id"], ["platforms.id"], name="fk_reference_latencies_platform_id_platforms"),
        sa.ForeignKeyConstraint(
            ["reference"], ["networks.fingerprint"], name="fk_reference_latencies_reference_networks"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_reference_latencies"),
        sa.UniqueConstraint("platform_id", "version", name="uq_reference_latencies_platform_id_version"),
    )
    op.create_table(
        "datasets",
        sa.Column("id", ID, nullable=False),
        sa.Column("platform_id", sa.String(length=200), nullable=False),
        sa.Column("reference_latency_id", ID, nullable=False),
        sa.Column("holdout_share", sa.Double(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["platform_id"], ["platforms.id"], name="fk_datasets_platform_id_platforms"),
        sa.ForeignKeyConstraint(
            ["reference_latency_id"],
            ["reference_latencies.id"],
            name="fk_datasets_reference_latency_id_reference_latencies",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_datasets"),
    )
    op.create_table(
        "jobs",
        sa.Column("id", ID, nullable=False),
        sa.Column("campaign_id", ID, nullable=False),
        sa.Column("platform_id", sa.String(length=200), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("repeat", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("deaths", sa.Integer(), nullable=False),
        sa.Column("lease_id", ID, nullable=True),
        sa.Column("noisy", sa.Boolean(), nullable=False),
        sa.Column("failure_kind", sa.String(length=32), nullable=True),
        sa.Column("failure_message", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name="fk_jobs_campaign_id_campaigns"),
        sa.ForeignKeyConstraint(["fingerprint"], ["networks.fingerprint"], name="fk_jobs_fingerprint_networks"),
        sa.ForeignKeyConstraint(["lease_id"], ["leases.id"], name="fk_jobs_lease_id_leases"),
        sa.ForeignKeyConstraint(["platform_id"], ["platforms.id"], name="fk_jobs_platform_id_platforms"),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.UniqueConstraint("campaign_id", "fingerprint", "repeat", name="uq_jobs_campaign_id_fingerprint_repeat"),
    )
    op.create_index("ix_jobs_lease_id", "jobs", ["lease_id"])
    op.create_index(
        "ix_jobs_platform_id_state_campaign_id_repeat_position",
        "jobs",
        ["platform_id", "state", "campaign_id", "repeat", "position"],
    )
    op.create_table(
        "dataset_items",
        sa.Column("dataset_id", ID, nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("part", sa.String(length=8), nullable=False),
        sa.Column("ratio", sa.Double(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("spread", sa.Double(), nullable=False),
        sa.Column("group", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name="fk_dataset_items_dataset_id_datasets"),
        sa.ForeignKeyConstraint(
            ["fingerprint"], ["networks.fingerprint"], name="fk_dataset_items_fingerprint_networks"
        ),
        sa.PrimaryKeyConstraint("dataset_id", "fingerprint", name="pk_dataset_items"),
    )
    op.create_table(
        "measurements",
        sa.Column("id", ID, nullable=False),
        sa.Column("platform_id", sa.String(length=200), nullable=False),
        sa.Column("campaign_id", ID, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("lease_id", ID, nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("repeat", sa.Integer(), nullable=False),
        sa.Column("reference", sa.String(length=64), nullable=False),
        sa.Column("ratio", sa.Double(), nullable=False),
        sa.Column("reference_ms", sa.Double(), nullable=False),
        sa.Column("median_ms", sa.Double(), nullable=False),
        sa.Column("min_ms", sa.Double(), nullable=False),
        sa.Column("noisy", sa.Boolean(), nullable=False),
        sa.Column("late", sa.Boolean(), nullable=False),
        sa.Column("measurement", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name="fk_measurements_campaign_id_campaigns"),
        sa.ForeignKeyConstraint(["fingerprint"], ["networks.fingerprint"], name="fk_measurements_fingerprint_networks"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_measurements_job_id_jobs"),
        sa.ForeignKeyConstraint(["lease_id"], ["leases.id"], name="fk_measurements_lease_id_leases"),
        sa.ForeignKeyConstraint(["platform_id"], ["platforms.id"], name="fk_measurements_platform_id_platforms"),
        sa.ForeignKeyConstraint(["reference"], ["networks.fingerprint"], name="fk_measurements_reference_networks"),
        sa.PrimaryKeyConstraint("id", name="pk_measurements"),
        sa.UniqueConstraint("job_id", "lease_id", name="uq_measurements_job_id_lease_id"),
    )
    op.create_index("ix_measurements_campaign_id", "measurements", ["campaign_id"])
    op.create_index("ix_measurements_fingerprint", "measurements", ["fingerprint"])
    op.create_index("ix_measurements_platform_id_fingerprint", "measurements", ["platform_id", "fingerprint"])
    op.create_index(
        "uq_measurements_job_id_on_time",
        "measurements",
        ["job_id"],
        unique=True,
        sqlite_where=sa.text("NOT late"),
        postgresql_where=sa.text("NOT late"),
    )
    op.create_table(
        "predictors",
        sa.Column("id", ID, nullable=False),
        sa.Column("platform_id", sa.String(length=200), nullable=False),
        sa.Column("dataset_id", ID, nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("artifact_sha256", sa.String(length=64), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("cross_validation_mdape", sa.Double(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name="fk_predictors_dataset_id_datasets"),
        sa.ForeignKeyConstraint(["platform_id"], ["platforms.id"], name="fk_predictors_platform_id_platforms"),
        sa.PrimaryKeyConstraint("id", name="pk_predictors"),
        sa.UniqueConstraint("platform_id", "kind", "version", name="uq_predictors_platform_id_kind_version"),
    )
    op.create_index(
        "uq_predictors_platform_id_active",
        "predictors",
        ["platform_id"],
        unique=True,
        sqlite_where=sa.text("active"),
        postgresql_where=sa.text("active"),
    )
    op.create_table(
        "holdout_points",
        sa.Column("predictor_id", ID, nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("measured_ms", sa.Double(), nullable=False),
        sa.Column("latency_ms", sa.Double(), nullable=False),
        sa.Column("low_ms", sa.Double(), nullable=False),
        sa.Column("high_ms", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["fingerprint"], ["networks.fingerprint"], name="fk_holdout_points_fingerprint_networks"
        ),
        sa.ForeignKeyConstraint(["predictor_id"], ["predictors.id"], name="fk_holdout_points_predictor_id_predictors"),
        sa.PrimaryKeyConstraint("predictor_id", "fingerprint", name="pk_holdout_points"),
    )
    op.create_table(
        "predictions",
        sa.Column("predictor_id", ID, nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("coverage", sa.Double(), nullable=False),
        sa.Column("latency_ms", sa.Double(), nullable=False),
        sa.Column("low_ms", sa.Double(), nullable=False),
        sa.Column("high_ms", sa.Double(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["predictor_id"], ["predictors.id"], name="fk_predictions_predictor_id_predictors"),
        sa.PrimaryKeyConstraint("predictor_id", "fingerprint", "coverage", name="pk_predictions"),
    )
    op.create_index("ix_predictions_fingerprint", "predictions", ["fingerprint"])


def downgrade() -> None:
    for table in (
        "predictions",
        "holdout_points",
        "predictors",
        "measurements",
        "dataset_items",
        "jobs",
        "datasets",
        "reference_latencies",
        "leases",
        "campaigns",
        "platforms",
        "networks",
    ):
        op.drop_table(table)
