"""``leti serve``: the REST service, on an embedded database or on PostgreSQL."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from leti.cli.options import DatabaseUrl, ServiceHome, SettingsFile, service_settings

if TYPE_CHECKING:
    from leti.service.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


def serve(
    home: ServiceHome = None,
    host: Annotated[str, typer.Option(help="Address to listen on; without authentication, loopback only.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Ask for no token: on loopback only, where every user may do everything.")
    ] = False,
    database_url: DatabaseUrl = None,
    config: SettingsFile = None,
) -> None:
    """Serve latencies over REST; an empty folder is made ready first."""
    settings = service_settings(config, home=home, database_url=database_url, auth=False if no_auth else None)
    from leti.service.server import serve as run

    def announce(url: str) -> None:
        typer.echo(f"LETI serves {url} (documentation: {url}/docs)")
        if not settings.auth:
            typer.echo("authentication is off: every user of this machine may do everything")
        elif not _has_tokens(settings):
            typer.echo(f"there is no token yet: leti token create admin --role admin {_place(settings)}")

    run(settings, host=host, port=port, on_ready=announce)


def _has_tokens(settings: Settings) -> bool:
    from leti.service.store import Store

    store = Store.open(settings)
    try:
        return bool(store.tokens.list())
    finally:
        store.close()


def _place(settings: Settings) -> str:
    return "--database-url …" if settings.database_url else f"--home {shlex.quote(str(settings.home))}"
