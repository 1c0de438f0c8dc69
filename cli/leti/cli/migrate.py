"""``leti migrate``: bring the database's schema to what this release needs, once, before services start."""

from __future__ import annotations

import typer

from leti.cli.options import DatabaseUrl, ServiceHome, SettingsFile, service_settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(migrate)


def migrate(home: ServiceHome = None, database_url: DatabaseUrl = None, config: SettingsFile = None) -> None:
    """Bring the database's schema to what this release needs, make it where there is none, and say from where to where.

    Several that start at once take turns. Back the database up before an upgrade: `leti backup`.
    """
    settings = service_settings(config, home=home, database_url=database_url)
    from leti.service import logs
    from leti.service.database import Database

    logs.configure(settings)
    settings.home.mkdir(parents=True, exist_ok=True)
    database = Database.named_by(settings)
    try:
        before = database.schema()
        database.upgrade()
        after = database.schema()
    finally:
        database.close()
    if before.current:
        typer.echo(f"the schema is {after.found}: there is nothing to do")
    else:
        typer.echo(f"the schema went from {before.found or 'nothing'} to {after.found}")
