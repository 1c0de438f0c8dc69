"""``leti backup`` and ``leti restore``: everything that a service keeps in its home folder, as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from leti.cli.options import ServiceHome, SettingsFile, service_settings


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(backup)
    app.command()(restore)


def backup(
    file: Annotated[Path, typer.Argument(help="The backup to write, a tar file.", dir_okay=False)],
    home: ServiceHome = None,
    config: SettingsFile = None,
) -> None:
    """Copy the embedded database and the artifacts into one file, also while the service runs."""
    settings = service_settings(config, home=home)
    from leti.service.backup import back_up

    made = back_up(settings, file)
    typer.echo(f"{file}: the database and {made.artifacts} artifacts, {made.bytes / 2**20:.1f} MiB")


def restore(
    file: Annotated[Path, typer.Argument(help="The backup to read.", exists=True, dir_okay=False)],
    home: ServiceHome = None,
    config: SettingsFile = None,
) -> None:
    """Fill a new home folder from a backup; what is there already is never overwritten."""
    settings = service_settings(config, home=home)
    from leti.service.backup import restore as fill

    made = fill(file, settings)
    typer.echo(f"{settings.home}: the database and {made.artifacts} artifacts; leti doctor looks at them")
