"""Uploaded model files, and networks that come without a spec.

Such a network's spec is JSON's ``null``, which the column takes as it is; its source says where it came from.

Revision: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("networks", sa.Column("source", sa.String(length=16), nullable=False, server_default="spec"))
    op.create_table(
        "uploads",
        sa.Column("id", ID, nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("format", sa.String(length=16), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=True),
        sa.Column("problem", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("task_id", ID, nullable=True),
        sa.ForeignKeyConstraint(["fingerprint"], ["networks.fingerprint"], name="fk_uploads_fingerprint_networks"),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_uploads_task_id_tasks"),
        sa.PrimaryKeyConstraint("id", name="pk_uploads"),
        sa.UniqueConstraint("sha256", "format", name="uq_uploads_sha256_format"),
    )


def downgrade() -> None:
    """Leave networks without a spec where they are, with their measurements.

    The release before predicts from their graphs, cannot show them by themselves, and does not know their files apart
    from those that it writes.
    """
    op.drop_table("uploads")
    op.drop_column("networks", "source")
