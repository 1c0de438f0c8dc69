"""Since when a worker runs; since when a predictor's files may be gone.

Revision: 0013
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_table("workers")  # they say within a minute that they are there
    _create_workers(sa.Column("started_at", sa.Double(), nullable=False))
    op.add_column("predictors", sa.Column("retired_at", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("predictors", "retired_at")
    op.drop_table("workers")
    _create_workers()


def _create_workers(*more: sa.Column[float]) -> None:
    op.create_table(
        "workers",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        *more,
        sa.PrimaryKeyConstraint("name", name="pk_workers"),
    )
