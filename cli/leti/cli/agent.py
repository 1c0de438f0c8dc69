"""``leti agent``: measure on this machine, and on phones behind it, what the service asks for; or begin a platform."""

from __future__ import annotations

from typing import Annotated

import typer

from leti.cli.benches import (
    ANDROID,
    BackendOption,
    BenchOptions,
    BinaryOption,
    ClusterOption,
    DelegateOption,
    DeviceName,
    InvokeLimit,
    MaxJobs,
    MemoryLimit,
    ModelPrecisionOption,
    PrecisionOption,
    RealtimeOption,
    RestOption,
    SerialOption,
    SpoolOption,
    ThreadsOption,
    by_device,
    default_spool,
    open_benches,
    slug,
    stopped_by_signals,
)
from leti.cli.options import DEFAULT_URL, ConfigOption, JsonFile, SeedOption, Url, connect, read_config
from leti.core.errors import NotPermitted
from leti.core.extras import needs
from leti.core.farm import Sample, Sampling
from leti.device_agents.backends import DEFAULT_BACKEND

agents = typer.Typer(help="Measure here what the service asks for.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the command group."""
    app.add_typer(agents, name="agent")


@agents.command()
def run(
    url: Url = DEFAULT_URL,
    backend: BackendOption = None,
    delegate: DelegateOption = None,
    threads: ThreadsOption = None,
    precision: PrecisionOption = None,
    model_precision: ModelPrecisionOption = None,
    device_name: DeviceName = "",
    serial: SerialOption = None,
    benchmark_binary: BinaryOption = None,
    cluster: ClusterOption = "big",
    rest: RestOption = 10.0,
    memory_limit: MemoryLimit = None,
    invoke_limit: InvokeLimit = 60.0,
    spool: SpoolOption = None,
    max_jobs: MaxJobs = 8,
    realtime: RealtimeOption = False,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="Stop when nothing is queued; a dead agent's jobs are not yet.")
    ] = False,
) -> None:
    """Lease jobs, time them, report: with every runtime that is found here, unless told otherwise.

    Options that take one name may be given several times.
    """
    with needs("agent"):
        from leti.device_agents.fleet import Fleet
        from leti.device_agents.worker import Agent

    options = BenchOptions.read(
        backend=backend,
        delegate=delegate,
        threads=threads,
        precision=precision,
        model_precision=model_precision,
        device_name=device_name,
        realtime=realtime,
        serial=serial,
        benchmark_binary=benchmark_binary,
        cluster=cluster,
        rest_s=rest,
        memory_limit=memory_limit,
        invoke_limit=invoke_limit,
    )
    with (
        connect(url) as client,
        open_benches(options) as benches,
        stopped_by_signals() as stop,
    ):
        folder = spool or default_spool(url)
        agents_by_device = [
            Agent(client, its, spool=folder / slug(name), max_jobs=max_jobs) for name, its in by_device(benches).items()
        ]
        for bench in benches:
            typer.echo(f"LETI agent measures as {bench.platform.id}")
        summary = Fleet(agents_by_device).run(stop, until_idle=until_idle)
    typer.echo(f"LETI agent stops: {summary}")


@agents.command()
def enrol(
    url: Url = DEFAULT_URL,
    space: Annotated[str, typer.Option(help="Search space that the networks are drawn from.")] = "nasbench201",
    networks: Annotated[
        int,
        typer.Option(
            min=6, max=5000, help="Networks to measure first; below 40 predictors of other platforms are adapted."
        ),
    ] = 120,
    config: ConfigOption = "",
    seed: SeedOption = 0,
    repeats: Annotated[int, typer.Option(min=1, help="How often a repeated network is measured.")] = 4,
    repeat_share: Annotated[float, typer.Option(min=0, max=1, help="Share of networks that are repeated.")] = 0.2,
    sampling: Annotated[
        Sampling, typer.Option(help="Draw the networks, or choose: unlike each other, or that tell most.")
    ] = "random",
    backend: BackendOption = None,
    delegate: DelegateOption = None,
    threads: ThreadsOption = None,
    precision: PrecisionOption = None,
    model_precision: ModelPrecisionOption = None,
    device_name: DeviceName = "",
    serial: SerialOption = None,
    benchmark_binary: BinaryOption = None,
    cluster: ClusterOption = "big",
    rest: RestOption = 10.0,
    memory_limit: MemoryLimit = None,
    invoke_limit: InvokeLimit = 60.0,
    spool: SpoolOption = None,
    max_jobs: MaxJobs = 8,
    realtime: RealtimeOption = False,
    json_file: JsonFile = None,
) -> None:
    """Measure a first sample on this machine with LiteRT, or on a phone, train on it, and say what more would bring.

    Ctrl-C keeps what was measured; the same command goes on from there.
    """
    with needs("agent"):
        from leti.cli.enrol import Enroller, Enrolment, only_bench

    options = BenchOptions.read(
        backend=backend or [ANDROID if serial or benchmark_binary else DEFAULT_BACKEND],
        delegate=delegate,
        threads=threads,
        precision=precision,
        model_precision=model_precision,
        device_name=device_name,
        realtime=realtime,
        serial=serial,
        benchmark_binary=benchmark_binary,
        cluster=cluster,
        rest_s=rest,
        memory_limit=memory_limit,
        invoke_limit=invoke_limit,
    )
    enrolment = Enrolment(Sample(space, networks, seed, read_config(config)), repeats, repeat_share, sampling)
    with connect(url) as client:
        client.health()  # before anything is started that takes long
        with open_benches(options) as benches:
            bench = only_bench(benches)
            folder = (spool or default_spool(url)) / slug(bench.platform.device.name)
            try:
                Enroller(client, bench, spool=folder, max_jobs=max_jobs).enrol(enrolment, json_file)
            except NotPermitted as error:  # which names one role that may do the one thing that failed
                error.remedy = "to enrol is to measure, to order measurements and to train: use an admin's token"
                raise
