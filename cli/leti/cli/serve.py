"""``leti serve``: the REST service, on an embedded database or on PostgreSQL."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leti.cli.options import DatabaseUrl, ServiceHome, SettingsFile, service_settings
from leti.cli.processes import Keeper, LetiProcess

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
    workers: Annotated[
        int,
        typer.Option(min=0, max=64, help="Workers that train beside the service; 0 where `leti worker` runs apart."),
    ] = 1,
    database_url: DatabaseUrl = None,
    config: SettingsFile = None,
) -> None:
    """Serve latencies over REST; an empty folder is made ready first."""
    settings = service_settings(config, home=home, database_url=database_url, auth=False if no_auth else None)
    from leti.service.server import serve as run

    def announce(url: str) -> None:
        typer.echo(f"LETI serves {url} (dashboard: {url}/dashboard, API: {url}/docs)")
        if not settings.auth:
            typer.echo("authentication is off: every user of this machine may do everything")
        elif not _has_tokens(settings):
            typer.echo(f"there is no token yet: leti token create admin --role admin {_place(settings)}")

        kept.start()

    with Keeper(workers, lambda number: _worker(number, settings.home, database_url, config)) as kept:
        run(settings, host=host, port=port, on_ready=announce)


def _worker(number: int, home: Path, database_url: str | None, config: Path | None) -> LetiProcess:
    """Start a worker with the settings of this command; a database's password goes by the environment."""
    arguments = ["worker", "--home", str(home), *(() if config is None else ("--config", str(config)))]
    environment = dict(os.environ)
    if database_url is not None:
        environment.pop("LETI_DATABASE_URL_FILE", None)
        environment["LETI_DATABASE_URL"] = database_url
    return LetiProcess(arguments, log=home / f"worker-{number + 1}.log", environment=environment, append=True)


def _has_tokens(settings: Settings) -> bool:
    from leti.service.store import Store

    store = Store.open(settings)
    try:
        return bool(store.tokens.list())
    finally:
        store.close()


def _place(settings: Settings) -> str:
    return "--database-url …" if settings.database_url else f"--home {shlex.quote(str(settings.home))}"
