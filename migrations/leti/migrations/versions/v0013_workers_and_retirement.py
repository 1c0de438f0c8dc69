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
    workers = sa.table("workers", sa.column("started_at", sa.Double()), sa.column("seen_at", sa.Double()))
    op.add_column("workers", sa.Column("started_at", sa.Double(), nullable=True))
    op.execute(sa.update(workers).values(started_at=workers.c.seen_at))
    with op.batch_alter_table("workers") as batch:
        batch.alter_column("started_at", existing_type=sa.Double(), nullable=False)
    op.add_column("predictors", sa.Column("retired_at", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("predictors", "retired_at")
    op.drop_column("workers", "started_at")
