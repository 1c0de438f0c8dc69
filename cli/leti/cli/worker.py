"""``leti worker``: trains and evaluates predictors, and does whatever else takes longer than a request may."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from leti.cli.benches import stopped_by_signals
from leti.cli.options import DatabaseUrl, ServiceHome, SettingsFile, service_settings
from leti.core.extras import needs

if TYPE_CHECKING:
    from leti.service.settings import Settings
    from leti.service.tasks.running import Launcher


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(worker)


def worker(
    home: ServiceHome = None,
    processes: Annotated[int, typer.Option(min=1, max=256, help="Tasks that are done at the same time.")] = 1,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="local: processes of this machine; ray: a Ray cluster.")
    ] = "local",
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
        with stopped_by_signals() as stop, _launching(engine, settings) as launch:
            made = Worker(store, settings, processes=processes, launch=launch)
            typer.echo(f"LETI works as {made.name}")
            made.run(stop, until_idle=once)
    finally:
        store.close()


@contextmanager
def _launching(engine: str, settings: Settings) -> Iterator[Launcher]:
    """Give what starts the processes of tasks."""
    if engine == "ray":
        from leti.service.tasks.on_ray import launcher

        with launcher(settings) as launch:
            yield launch
        return
    from leti.service.tasks.running import spawn

    yield spawn
