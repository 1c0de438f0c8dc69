"""``leti worker``: trains and evaluates predictors, and does whatever else takes longer than a request may."""

from __future__ import annotations

from typing import Annotated

import typer

from leti.cli.benches import stopped_by_signals
from leti.cli.options import DatabaseUrl, ServiceHome, SettingsFile, service_settings
from leti.core.extras import needs


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(worker)


def worker(
    home: ServiceHome = None,
    processes: Annotated[int, typer.Option(min=1, max=256, help="Tasks that are done at the same time.")] = 1,
    once: Annotated[bool, typer.Option("--once", help="End when no task is left to begin.")] = False,
    database_url: DatabaseUrl = None,
    config: SettingsFile = None,
) -> None:
    """Do the tasks that the service queues, until told to stop; a task that does not end soon is then given back."""
    settings = service_settings(config, home=home, database_url=database_url)
    with needs("service"):
        from leti.service import logs
        from leti.service.store import Store
        from leti.service.tasks.worker import Worker
    logs.configure(settings)
    store = Store.open(settings)
    try:
        with stopped_by_signals() as stop:
            made = Worker(store, settings, processes=processes)
            typer.echo(f"LETI works as {made.name}")
            made.run(stop, until_idle=once)
    finally:
        store.close()
