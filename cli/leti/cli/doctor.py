"""``leti doctor``: what is wrong with an installation, and what to do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from leti.cli.options import DatabaseUrl, JsonFile, ServiceHome, SettingsFile
from leti.cli.report import new_console, new_table, write_json
from leti.core.codec import to_json
from leti.core.extras import needs
from leti.core.wire import Health

if TYPE_CHECKING:
    from leti.service.diagnosis import State

_STYLES: dict[State, str] = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(
    home: ServiceHome = None,
    database_url: DatabaseUrl = None,
    config: SettingsFile = None,
    url: Annotated[str, typer.Option("--url", envvar="LETI_URL", help="Ask this service too.")] = "",
    json_file: JsonFile = None,
) -> None:
    """Check settings, folder, database, artifacts, tokens, devices, queue and tasks; say what to do.

    Nothing is changed. The exit code is 1 where something is broken.
    """
    with needs("service"):
        from leti.service.configuration import configure
        from leti.service.diagnosis import diagnose

    def health() -> Health:
        from leti.client import LatencyClient

        with LatencyClient(url, retries=0) as client:
            return client.health()

    findings = tuple(
        diagnose(lambda: configure(config, os.environ, home=home, database_url=database_url), health if url else None)
    )
    table = new_table("leti doctor")
    for heading in ("check", "", "found", "what to do"):
        table.add_column(heading, overflow="fold")
    for one in findings:
        table.add_row(one.check, Text(one.state, _STYLES[one.state]), one.found, one.remedy)
    new_console().print(table)
    write_json(json_file, to_json(findings))
    if any(one.state == "fail" for one in findings):
        raise typer.Exit(1)
