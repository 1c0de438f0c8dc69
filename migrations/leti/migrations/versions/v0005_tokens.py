"""Tokens, as hashes, with their roles; leases remember the token that claimed them, devices the one that holds them.

Revision: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("created_by", sa.String(length=32), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.Column("last_used_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
        sa.UniqueConstraint("digest", name="uq_tokens_digest"),
    )
    # In one statement, which both databases understand: SQLite adds no constraint to a table that is there.
    for table, column in (("leases", "claimed_by"), ("devices", "holder")):
        op.execute(
            f"ALTER TABLE {table} ADD COLUMN {column} VARCHAR(16)"
            f" CONSTRAINT fk_{table}_{column}_tokens REFERENCES tokens (id)"
        )


def downgrade() -> None:
    """Forget every token: who served with authentication makes new ones after an upgrade."""
    op.drop_column("devices", "holder")
    op.drop_column("leases", "claimed_by")
    op.drop_table("tokens")
