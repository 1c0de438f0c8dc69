"""Alembic's environment: runs migrations on the connection that is handed in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import context

if TYPE_CHECKING:
    from sqlalchemy import Connection


def run() -> None:
    """Run what Alembic asked for inside the transaction of ``config.attributes["connection"]``.

    ``config.attributes["metadata"]``, where it is given, is what ``revision --autogenerate`` compares with.
    """
    attributes = context.config.attributes
    connection: Connection = attributes["connection"]
    context.configure(
        connection=connection,
        target_metadata=attributes.get("metadata"),
        compare_type=True,
        render_as_batch=True,  # SQLite alters a table by copying it
    )
    with context.begin_transaction():
        context.run_migrations()


run()
