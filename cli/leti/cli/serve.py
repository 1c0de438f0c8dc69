"""``leti serve``: the REST service, on an embedded database or on PostgreSQL."""

from __future__ import annotations

from typing import Annotated

import typer

from leti.cli.options import DatabaseUrl, ServiceHome, SettingsFile, service_settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


def serve(
    home: ServiceHome = None,
    host: Annotated[str, typer.Option(help="Address to listen on; without authentication, keep to loopback.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    database_url: DatabaseUrl = None,
    config: SettingsFile = None,
) -> None:
    """Serve latencies over REST; an empty folder is made ready first."""
    settings = service_settings(config, home=home, database_url=database_url)
    from leti.service.server import serve as run

    run(settings, host=host, port=port, on_ready=_announce)


def _announce(url: str) -> None:
    typer.echo(f"LETI serves {url} (documentation: {url}/docs)")
