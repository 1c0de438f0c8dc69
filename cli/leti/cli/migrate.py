"""``leti migrate``: bring the database's schema to what this release needs, once, before services start."""

from __future__ import annotations

from typing import Annotated

import typer

from leti.cli.options import DatabaseUrl, ServiceHome, SettingsFile, service_settings
from leti.core.errors import NotFound


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(migrate)


def migrate(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; fail where there is something to do.")
    ] = False,
    home: ServiceHome = None,
    database_url: DatabaseUrl = None,
    config: SettingsFile = None,
) -> None:
    """Bring the database's schema to what this release needs, make it where there is none, and say from where to where.

    Several that start at once take turns. Back the database up before an upgrade: `leti backup`.
    """
    settings = service_settings(config, home=home, database_url=database_url)
    from leti.service import logs
    from leti.service.database import Database

    logs.configure(settings)
    if check and not settings.database_url and not settings.database_file.exists():
        raise NotFound(f"there is no {settings.database_file}", field="home", remedy="leti migrate makes it")
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database.named_by(settings)
    try:
        if check:
            database.check_schema()
        before = database.schema()
        database.upgrade()
        after = database.schema()
    finally:
        database.close()
    if before.current:
        typer.echo(f"the schema is {after.found}: there is nothing to do")
    else:
        typer.echo(f"the schema went from {before.found or 'nothing'} to {after.found}")
