"""``leti settings``: what the service's settings are, and where each comes from."""

from __future__ import annotations

import os
from typing import Annotated

import typer
from rich.table import Table

from leti.cli.options import SettingsFile
from leti.cli.report import new_console


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(settings)


def settings(
    config: SettingsFile = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/settings.md instead.")] = False,
) -> None:
    """Show the service's settings, where each comes from, and what it means."""
    from leti.service.configuration import FIELDS, configure, page

    if markdown:
        typer.echo(page(), nl=False)
        return
    found = configure(config, os.environ)
    table = Table("setting", "value", "from", "meaning")
    for name, one in FIELDS.items():
        value = getattr(found.settings, name)
        shown = "(set)" if one.metadata["secret"] and value else str(value)
        table.add_row(name, shown, found.origins.get(name, "default"), one.metadata["doc"])
    new_console().print(table)
