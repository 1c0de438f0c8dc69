"""Datasets that hold all that a training needs, and datasets that come from elsewhere.

Repeatability and operator times are kept from now on; of datasets that were frozen before, nothing is made up. An
imported dataset brings a reference latency, which is not the platform's own.

Revision: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

reference_latencies = sa.table("reference_latencies", *map(sa.column, ("id", "version", "imported")))


def upgrade() -> None:
    op.add_column("datasets", sa.Column("repeatability", sa.JSON(), nullable=True))
    op.add_column("datasets", sa.Column("origin", sa.JSON(), nullable=True))
    op.add_column("datasets", sa.Column("file_sha256", sa.String(length=64), nullable=True))
    op.create_index("ix_datasets_file_sha256", "datasets", ["file_sha256"], unique=True)
    op.add_column("dataset_items", sa.Column("operator_times", sa.LargeBinary(), nullable=True))
    op.add_column("reference_latencies", sa.Column("imported", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    """Leave imported datasets where they are, as if they had been measured here.

    Their reference latencies get versions below 0: the newest of a platform is its own.
    """
    imported = sa.update(reference_latencies).where(reference_latencies.c.imported == sa.true())
    op.get_bind().execute(imported.values(version=-reference_latencies.c.id))
    op.drop_column("reference_latencies", "imported")
    op.drop_column("dataset_items", "operator_times")
    op.drop_index("ix_datasets_file_sha256", "datasets")
    op.drop_column("datasets", "file_sha256")
    op.drop_column("datasets", "origin")
    op.drop_column("datasets", "repeatability")
