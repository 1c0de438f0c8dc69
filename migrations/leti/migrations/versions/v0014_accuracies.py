"""What networks reached on tasks, once trained.

Revision: 0014
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "accuracies",
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("task", sa.String(length=100), nullable=False),
        sa.Column("accuracy", sa.Double(), nullable=False),
        sa.Column("remark", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["fingerprint"], ["networks.fingerprint"], name="fk_accuracies_fingerprint_networks"),
        sa.PrimaryKeyConstraint("fingerprint", "task", name="pk_accuracies"),
    )


def downgrade() -> None:
    op.drop_table("accuracies")
