"""Networks say their precision; model files are kept by format.

Every network was float32 before, unless a newer release has been here and gone: what a graph computes in stands in its
operators, and the precision of a platform's networks in its reference. Model files move to a table of their own.

Revision: 0003
"""

from __future__ import annotations

import json
import zlib
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

networks = sa.table("networks", *map(sa.column, ("fingerprint", "graph", "model_sha256", "precision")))
platforms = sa.table("platforms", sa.column("id"), sa.column("platform", sa.JSON()), sa.column("reference"))
model_files = sa.table("model_files", *map(sa.column, ("fingerprint", "format", "sha256")))


def upgrade() -> None:
    op.create_table(
        "model_files",
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("format", sa.String(length=16), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["fingerprint"], ["networks.fingerprint"], name="fk_model_files_fingerprint_networks"),
        sa.PrimaryKeyConstraint("fingerprint", "format", name="pk_model_files"),
    )
    connection = op.get_bind()
    written = sa.select(networks.c.fingerprint, sa.literal("tflite"), networks.c.model_sha256).where(
        networks.c.model_sha256.is_not(None)
    )
    connection.execute(sa.insert(model_files).from_select(["fingerprint", "format", "sha256"], written))
    op.drop_column("networks", "model_sha256")
    op.add_column("networks", sa.Column("precision", sa.String(length=16), nullable=False, server_default="float32"))
    for fingerprint in connection.scalars(sa.select(networks.c.fingerprint)).all():
        graph = connection.scalars(sa.select(networks.c.graph).where(networks.c.fingerprint == fingerprint)).one()
        precision = _precision_of(json.loads(zlib.decompress(graph)))
        if precision != "float32":
            statement = sa.update(networks).where(networks.c.fingerprint == fingerprint)
            connection.execute(statement.values(precision=precision))
    _tell_platforms(connection)


def downgrade() -> None:
    """Leave the networks of every precision where they are; the release before exports those of its own requests."""
    connection = op.get_bind()
    for row in connection.execute(sa.select(platforms.c.id, platforms.c.platform)).all():
        said = {name: value for name, value in row.platform.items() if name != "model_precision"}
        connection.execute(sa.update(platforms).where(platforms.c.id == row.id).values(platform=said))
    op.drop_column("networks", "precision")
    op.add_column("networks", sa.Column("model_sha256", sa.String(length=64), nullable=True))
    written = sa.select(model_files.c.sha256).where(
        model_files.c.fingerprint == networks.c.fingerprint, model_files.c.format == "tflite"
    )
    connection.execute(sa.update(networks).values(model_sha256=written.scalar_subquery()))
    op.drop_table("model_files")


def _tell_platforms(connection: sa.Connection) -> None:
    """Give platforms the precision of their references back, which the release before does not know."""
    query = (
        sa.select(platforms.c.id, platforms.c.platform, networks.c.precision)
        .join(networks, networks.c.fingerprint == platforms.c.reference)
        .where(networks.c.precision != "float32")
    )
    for row in connection.execute(query).all():
        said = {**row.platform, "model_precision": row.precision}
        connection.execute(sa.update(platforms).where(platforms.c.id == row.id).values(platform=said))


def _precision_of(graph: dict[str, Any]) -> str:
    """Return the precision of a stored graph: what its operators compute in, else what its weights are stored in."""
    made = {item["kind"] for item in graph["ops"] if any(t["dtype"] == "int8" for t in item["outputs"])}
    if made - {"embedding", "constant"}:
        return "full_integer"
    stored = {item["attributes"].get("weight_dtype") for item in graph["ops"]}
    return "dynamic_range" if made or "int8" in stored else "float16" if "float16" in stored else "float32"
