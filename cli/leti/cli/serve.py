"""``leti serve``: the REST service, on an embedded database or on PostgreSQL."""

from __future__ import annotations

from typing import Annotated

import typer

from leti.cli.options import DEFAULT_HOME, Home


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


def serve(
    home: Home = DEFAULT_HOME,
    host: Annotated[str, typer.Option(help="Address to listen on; without authentication, keep to loopback.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    database_url: Annotated[
        str,
        typer.Option(
            envvar="LETI_DATABASE_URL",
            show_envvar=True,
            help="postgresql://… of the database; SQLite in the home folder where left out. A password is better kept "
            "in the environment than in a command line.",
        ),
    ] = "",
) -> None:
    """Serve latencies over REST; an empty folder is made ready first."""
    from leti.core.extras import needs

    with needs("service"):
        from leti.service.server import serve as run
        from leti.service.settings import Settings

    run(Settings(home=home, database_url=database_url), host=host, port=port, on_ready=_announce)


def _announce(url: str) -> None:
    typer.echo(f"LETI serves {url} (documentation: {url}/docs)")
