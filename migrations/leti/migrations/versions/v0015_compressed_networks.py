"""Compressed networks: the base that one is a form of, and the patch that makes it.

Revision: 0015
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("networks", sa.Column("base", sa.String(length=64), nullable=True))
    op.add_column("networks", sa.Column("patch", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    # What made them is forgotten; the networks stay, as graphs.
    op.execute("UPDATE networks SET source = 'graph' WHERE source = 'patch'")
    op.drop_column("networks", "patch")
    op.drop_column("networks", "base")
