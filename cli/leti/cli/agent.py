"""``leti agent``: measure on this machine what the service asks for."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from leti.cli.options import DEFAULT_URL, Url
from leti.device_agents.backends import DEFAULT_BACKEND


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(agent)


def agent(
    url: Url = DEFAULT_URL,
    backend: Annotated[str, typer.Option(help="Runtime to measure with, built in or a plugin's.")] = DEFAULT_BACKEND,
    device_name: Annotated[str, typer.Option(help="Name of this device; its host name where left out.")] = "",
    threads: Annotated[int, typer.Option(min=1, max=256, help="Threads of the runtime; one repeats best.")] = 1,
    spool: Annotated[Path, typer.Option(help="Folder that keeps results until the service has them.")] = Path(
        "leti-spool"
    ),
    max_jobs: Annotated[int, typer.Option(min=1, max=64, help="Networks measured interleaved at a time.")] = 8,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Measure above other processes where the system permits it.")
    ] = False,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="Stop when nothing is queued; a dead agent's jobs are not yet.")
    ] = False,
) -> None:
    """Measure on this machine, with LiteRT on its CPU unless told otherwise: lease jobs, time them, report."""
    from leti.client import LatencyClient
    from leti.core.extras import needs

    with needs("agent"):
        from leti.device_agents.desktop.bench import DesktopBench
        from leti.device_agents.worker import Agent

    bench = DesktopBench(backend, threads=threads, name=device_name, realtime=realtime)
    stop = threading.Event()

    def _stop(signum: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    typer.echo(f"LETI agent measures as {bench.platform.id}")
    with LatencyClient(url) as client:
        worker = Agent(client, bench, spool=spool, max_jobs=max_jobs)
        summary = worker.run(stop, until_idle=until_idle)
    typer.echo(f"LETI agent stops: {summary}")
