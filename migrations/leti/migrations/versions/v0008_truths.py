"""What the accepted measurements of each network say, and sums by platform and campaign, kept up to date.

They are filled from the measurements and jobs that are there. Lists are read page by page along indexes of their own.

Revision: 0008
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
STATES = ("queued", "leased", "done", "failed", "poison", "cancelled")
TOLERANCES = (0.01, 0.05, 0.1)
PART = 1_000
"""Rows that are written at once."""

INDEXES = (
    ("truths", ["platform_id", "reference", "updated_at"]),
    ("measurements", ["platform_id", "id"]),
    ("measurements", ["campaign_id", "id"]),
    ("jobs", ["platform_id", "id"]),
    ("jobs", ["campaign_id", "id"]),
    ("jobs", ["state", "id"]),
    ("jobs", ["fingerprint"]),
)

platforms = sa.table("platforms", *map(sa.column, ("id", "reference")))
jobs = sa.table("jobs", *map(sa.column, ("campaign_id", "state")), sa.column("noisy", sa.Boolean()))
campaigns = sa.table("campaigns", sa.column("id"))
measurements = sa.table(
    "measurements",
    *map(sa.column, ("id", "platform_id", "fingerprint", "reference", "ratio", "created_at")),
    sa.column("noisy", sa.Boolean()),
    sa.column("late", sa.Boolean()),
)
truths = sa.table(
    "truths",
    *map(sa.column, ("platform_id", "reference", "fingerprint", "ratio", "count", "spread", "newest", "updated_at")),
)
platform_totals = sa.table(
    "platform_totals",
    *map(sa.column, ("platform_id", "reference", "on_time", "networks", "measurements")),
    sa.column("agreement", sa.JSON()),
)
campaign_totals = sa.table("campaign_totals", *map(sa.column, ("campaign_id", *STATES, "noisy")))


def upgrade() -> None:
    op.create_table(
        "truths",
        sa.Column("platform_id", sa.String(length=200), nullable=False),
        sa.Column("reference", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("ratio", sa.Double(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("spread", sa.Double(), nullable=False),
        sa.Column("newest", ID, nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["fingerprint"], ["networks.fingerprint"], name="fk_truths_fingerprint_networks"),
        sa.ForeignKeyConstraint(["newest"], ["measurements.id"], name="fk_truths_newest_measurements"),
        sa.ForeignKeyConstraint(["platform_id"], ["platforms.id"], name="fk_truths_platform_id_platforms"),
        sa.ForeignKeyConstraint(["reference"], ["networks.fingerprint"], name="fk_truths_reference_networks"),
        sa.PrimaryKeyConstraint("platform_id", "reference", "fingerprint", name="pk_truths"),
    )
    op.create_table(
        "platform_totals",
        sa.Column("platform_id", sa.String(length=200), nullable=False),
        sa.Column("reference", sa.String(length=64), nullable=False),
        sa.Column("on_time", sa.BigInteger(), nullable=False),
        sa.Column("networks", sa.BigInteger(), nullable=False),
        sa.Column("measurements", sa.BigInteger(), nullable=False),
        sa.Column("agreement", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["platform_id"], ["platforms.id"], name="fk_platform_totals_platform_id_platforms"),
        sa.ForeignKeyConstraint(["reference"], ["networks.fingerprint"], name="fk_platform_totals_reference_networks"),
        sa.PrimaryKeyConstraint("platform_id", "reference", name="pk_platform_totals"),
    )
    op.create_table(
        "campaign_totals",
        sa.Column("campaign_id", ID, nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in (*STATES, "noisy")),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name="fk_campaign_totals_campaign_id_campaigns"),
        sa.PrimaryKeyConstraint("campaign_id", name="pk_campaign_totals"),
    )
    op.drop_index("ix_measurements_campaign_id", "measurements")
    for table, columns in INDEXES:
        op.create_index("_".join(["ix", table, *columns]), table, columns)
    connection = op.get_bind()
    _count_jobs(connection)
    for row in connection.execute(sa.select(platforms.c.id, platforms.c.reference)).all():
        _sum_up(connection, row.id, row.reference)


def downgrade() -> None:
    for table, columns in INDEXES:
        op.drop_index("_".join(["ix", table, *columns]), table)
    op.create_index("ix_measurements_campaign_id", "measurements", ["campaign_id"])
    for table in ("campaign_totals", "platform_totals", "truths"):
        op.drop_table(table)


def _count_jobs(connection: sa.Connection) -> None:
    counts = [sa.func.coalesce(sa.func.sum(sa.case((jobs.c.state == state, 1), else_=0)), 0) for state in STATES]
    noisy = sa.func.coalesce(sa.func.sum(sa.case((jobs.c.noisy, 1), else_=0)), 0)
    query = (
        sa.select(campaigns.c.id, *counts, noisy)
        .select_from(campaigns.outerjoin(jobs, jobs.c.campaign_id == campaigns.c.id))
        .group_by(campaigns.c.id)
    )
    connection.execute(sa.insert(campaign_totals).from_select([c.name for c in campaign_totals.c], query))


def _sum_up(connection: sa.Connection, platform_id: str, reference: str) -> None:
    """Fill in the truths of a platform's networks, and their sums."""
    on_time = sa.select(sa.func.count()).select_from(measurements)
    on_time = on_time.where(measurements.c.platform_id == platform_id, sa.not_(measurements.c.late))
    agreement: dict[str, Any] = {"networks": 0, "measurements": 0, "pairs": 0}
    agreement |= {"within": [0] * len(TOLERANCES), "pairs_within": [0] * len(TOLERANCES)}
    networks = accepted = 0
    found = _ratios(connection, platform_id, reference)
    while part := list(itertools.islice(found, PART)):
        connection.execute(sa.insert(truths), [_truth(platform_id, reference, *found_of_one) for found_of_one in part])
        networks += len(part)
        for _, ratios, _, _ in part:
            accepted += len(ratios)
            _add(agreement, ratios)
    totals = {
        "platform_id": platform_id,
        "reference": reference,
        "on_time": connection.execute(on_time).scalar_one(),
        "networks": networks,
        "measurements": accepted,
        "agreement": agreement,
    }
    if totals["on_time"]:
        connection.execute(sa.insert(platform_totals).values(**totals))


def _ratios(
    connection: sa.Connection, platform_id: str, reference: str
) -> Iterator[tuple[str, list[float], int, float]]:
    """Yield each network's fingerprint, accepted ratios, newest measurement and when that came."""
    m = measurements.c
    query = (
        sa.select(m.fingerprint, m.ratio, m.id, m.created_at)
        .where(m.platform_id == platform_id, m.reference == reference, sa.not_(m.noisy), sa.not_(m.late))
        .order_by(m.fingerprint, m.id)
    )
    rows = connection.execute(query).all()
    for fingerprint, group in itertools.groupby(rows, key=lambda row: row.fingerprint):
        of_network = list(group)
        yield fingerprint, [row.ratio for row in of_network], of_network[-1].id, of_network[-1].created_at


def _truth(
    platform_id: str, reference: str, fingerprint: str, ratios: Sequence[float], newest: int, updated_at: float
) -> dict[str, Any]:
    middle = statistics.median(ratios)
    return {
        "platform_id": platform_id,
        "reference": reference,
        "fingerprint": fingerprint,
        "ratio": middle,
        "count": len(ratios),
        "spread": max(abs(ratio / middle - 1) for ratio in ratios),
        "newest": newest,
        "updated_at": updated_at,
    }


def _add(agreement: dict[str, Any], ratios: Sequence[float]) -> None:
    """Count how a network's measurements agree, if there are several."""
    if len(ratios) < 2:
        return
    middle = statistics.median(ratios)
    single = [abs(ratio / middle - 1) for ratio in ratios]
    pairs = [abs(a / b - 1) for a, b in itertools.combinations(ratios, 2)]
    agreement["networks"] += 1
    agreement["measurements"] += len(single)
    agreement["pairs"] += len(pairs)
    for i, tolerance in enumerate(TOLERANCES):
        agreement["within"][i] += sum(e <= tolerance for e in single)
        agreement["pairs_within"][i] += sum(e <= tolerance for e in pairs)
