"""Baselines: the network that those of a campaign are measured beside.

Revision: 0016
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("campaigns", sa.Column("baseline", sa.String(length=64), nullable=True))


def downgrade() -> None:
    op.drop_column("campaigns", "baseline")
