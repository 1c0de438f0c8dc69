"""``leti repeatability``: measure networks again and again, and tell how far the measurements agree."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from leti.cli.options import ConfigOption, JsonFile, SeedOption, read_config
from leti.cli.report import new_bars, new_console, new_table, write_json
from leti.core.codec import to_json
from leti.core.device import ModelFormat, ModelPrecision, Precision
from leti.core.errors import InvalidInput, MeasurementFailed
from leti.core.extras import needs
from leti.core.spec import NetworkSpec

if TYPE_CHECKING:
    from leti.device_agents.backend import Session
    from leti.device_agents.bench import Bench
    from leti.device_agents.repeatability import NaiveProtocol, StudyReport, Trial


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(repeatability)


def repeatability(
    networks: Annotated[int, typer.Option(min=2, max=2000, help="Networks to measure.")] = 24,
    rounds: Annotated[int, typer.Option(min=2, max=100, help="Measurements of each network, apart in time.")] = 4,
    space: Annotated[str, typer.Option(help="Search space that the networks are drawn from.")] = "nasbench201",
    config: ConfigOption = "",
    least_ms: Annotated[float, typer.Option(min=0.0, help="Leave out networks that are faster than this.")] = 0.5,
    backend: Annotated[str, typer.Option(help="Runtime of this machine to measure with.")] = "litert",
    delegate: Annotated[str, typer.Option(help="What the runtime executes with; its usual one where left out.")] = "",
    threads: Annotated[int, typer.Option(min=1, max=256, help="Threads of the runtime; one repeats best.")] = 1,
    precision: Annotated[Precision, typer.Option(help="What the runtime computes in.")] = "fp32",
    model_precision: Annotated[ModelPrecision, typer.Option(help="What the networks are stored in.")] = "float32",
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Measure above other processes where the system permits it.")
    ] = False,
    disturb: Annotated[
        bool, typer.Option("--disturb", help="Meanwhile load one core, on and off, by another process.")
    ] = False,
    naive: Annotated[
        bool, typer.Option("--naive/--no-naive", help="Measure the same networks by the usual protocols as well.")
    ] = True,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the deviations and the reference's drift into STEM.png and STEM.html.")
    ] = None,
    json_file: JsonFile = None,
    seed: SeedOption = 0,
) -> None:
    """Measure networks of a space several times, apart in time and in another order, and show how far it repeats."""
    with needs("agent"):
        from leti.device_agents import backends
        from leti.device_agents.desktop.bench import DesktopBench
        from leti.device_agents.desktop.disturbance import disturbed
        from leti.device_agents.repeatability import NAIVE, OWN, Study

    runtime = backends.create(backend, delegate=delegate, threads=threads, precision=precision)
    console = new_console()
    models, reference = _models(runtime.model_format, model_precision, space, config, networks, seed)
    bench = DesktopBench(
        backend,
        delegate=delegate,
        threads=threads,
        precision=precision,
        model_precision=model_precision,
        realtime=realtime,
        order=random.Random(seed),  # noqa: S311 - the order of passes, to be had again
    )
    timed_alike = {name: _scheduled(latency_of, bench, realtime) for name, latency_of in NAIVE.items()}
    try:
        with new_bars(console) as bars, disturbed(seed) if disturb else nullcontext():
            chosen = _slow_enough(models, least_ms, networks, runtime.load, bars)
            measuring = bars.add_task("measuring", total=len(chosen) * rounds)
            study = Study(bench, chosen, reference, seed=seed, load=runtime.load if naive else None, naive=timed_alike)
            report = study.run(rounds, lambda done: bars.update(measuring, completed=done))
    finally:
        bench.close()
    _show(console, bench.platform.id, report, rounds)
    write_json(json_file, _summary(bench.platform.id, report, rounds, seed))
    if plot is not None:
        from leti.cli.repeatability_plot import draw

        for path in draw(report, bench.platform.id, plot):
            console.print(f"plot {path}", soft_wrap=True, highlight=False)
    if not report.trials[OWN]:
        raise MeasurementFailed(
            f"none of {len(chosen)} networks could be measured: {next(iter(report.failures.values()))}"
        )


def _models(
    model_format: ModelFormat, model_precision: ModelPrecision, space: str, config: str, count: int, seed: int
) -> tuple[Iterator[bytes], bytes]:
    """Return model files of a space, three times as many as are wanted, and that of the reference network."""
    with needs("export"):
        from leti.generator.export.formats import export_model
        from leti.generator.lowering import lower
        from leti.generator.precision import quantized
        from leti.generator.reference import reference_spec
        from leti.generator.spaces import get_space

    def export(spec: NetworkSpec) -> bytes:
        return export_model(quantized(lower(spec), model_precision).graph, model_format)

    drawn_from = get_space(space)
    specs = drawn_from.sample(3 * count, seed, read_config(config) or drawn_from.default_config)
    return (export(spec) for spec in specs), export(reference_spec())


def _scheduled(latency_of: NaiveProtocol, bench: Bench, realtime: bool) -> NaiveProtocol:
    """Return a naive protocol that runs on the bench's cores, as the bench's own does."""
    from leti.device_agents.desktop.host import scheduled

    def latency_ms(session: Session) -> float:
        with scheduled(bench.platform.affinity, realtime=realtime):
            return latency_of(session)

    return latency_ms


def _slow_enough(models: Iterator[bytes], least_ms: float, count: int, load: Any, bars: Progress) -> list[bytes]:
    """Return the first ``count`` models that take ``least_ms`` or more, by a quick look at each."""
    from leti.device_agents.timing import Clocked

    choosing = bars.add_task("choosing", total=count)
    chosen: list[bytes] = []
    for model in models:
        session = load(model)
        timed = Clocked(session, time.perf_counter_ns)
        if statistics.median(timed.sample_ms() for _ in range(5)) >= least_ms:
            chosen.append(model)
            bars.update(choosing, completed=len(chosen))
        session.close()
        if len(chosen) == count:
            return chosen
    raise InvalidInput(
        f"only {len(chosen)} of the networks that were drawn take {least_ms:g} ms or more",
        field="--least-ms",
        remedy="ask for fewer networks, faster ones, or give a larger --config",
    )


def _show(console: Console, platform_id: str, report: StudyReport, rounds: int) -> None:
    from leti.device_agents.repeatability import CALM_LOAD, CALM_STEAL, OWN, agreement, bands

    networks = len({trial.network for trial in report.trials[OWN]})
    title = f"{platform_id}: {networks} networks, {rounds} measurements of each"
    table = new_table(f"{title}\nSingle measurements near their network's pooled value, and pairs near each other (%)")
    table.add_column("protocol", no_wrap=True)
    for name in ("±1", "±2", "±5", "±10", "pairs ±1", "±2", "±5", "±10"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, trials in _kinds(report).items():
        found = agreement(trials)
        if found is not None:
            shares = (*found.within.values(), *found.pairs_within.values())
            table.add_row(name, *(f"{100 * share:.1f}" for share in shares))
    console.print(table)
    by_latency = new_table("Coefficient of variation by latency (%, median over the networks of a band)")
    by_latency.add_column("protocol", no_wrap=True)
    columns = bands(report.trials[OWN])
    for band in columns:
        by_latency.add_column(f"{band.low_ms:g}–{band.high_ms:g} ms ({band.networks})", justify="right", no_wrap=True)
    for name, trials in _kinds(report).items():
        cvs = {band.low_ms: band.cv for band in bands(trials)}
        by_latency.add_row(name, *(f"{100 * cvs[c.low_ms]:.2f}" if c.low_ms in cvs else "–" for c in columns))
    console.print(by_latency)
    for line in _remarks(report, CALM_LOAD, CALM_STEAL):
        console.print(line, soft_wrap=True, highlight=False)


def _kinds(report: StudyReport) -> dict[str, tuple[Trial, ...]]:
    """Return the trials by protocol; LETI's own all together, and those that it does not call noisy."""
    from leti.device_agents.repeatability import OWN

    own = report.trials[OWN]
    kinds = {OWN: own}
    if any(trial.noisy for trial in own):
        kinds[f"{OWN}, noisy left out"] = tuple(trial for trial in own if not trial.noisy)
    return kinds | {name: trials for name, trials in report.trials.items() if name != OWN}


def _remarks(report: StudyReport, calm_load: float, calm_steal: float) -> Iterator[str]:
    """Yield what else a reader must know: the weather, the reference's drift, the effort, what failed."""
    from leti.device_agents.repeatability import OWN

    loads = [each.load for each in report.weather if each.load is not None]
    steals = [each.steal for each in report.weather if each.steal is not None]
    label = "calm" if report.calm else "NOT calm"
    yield (
        f"machine {label} (load under {calm_load}, steal under {calm_steal:.0%}): "
        f"load up to {max(loads, default=0):.2f}, steal up to {max(steals, default=0):.1%}"
    )
    paces = [each.reference_ms for each in report.weather]
    if paces:
        middle = statistics.median(paces)
        yield (
            f"reference {middle:.3f} ms, from {min(paces) / middle - 1:+.1%} to {max(paces) / middle - 1:+.1%} "
            f"over {len(paces)} batches"
        )
    own = report.trials[OWN]
    yield f"{sum(trial.noisy for trial in own)} of {len(own)} measurements labelled noisy"
    parts = sorted(report.effort_s.items(), key=lambda item: -item[1])
    yield (
        f"{report.networks_per_minute:.0f} networks a minute; overhead {report.overhead:.1%} of measuring: "
        + ", ".join(f"{part} {seconds / report.measuring_s:.1%}" for part, seconds in parts)
    )
    for index, reason in report.failures.items():
        yield f"network {index} could not be measured: {reason}"


def _summary(platform_id: str, report: StudyReport, rounds: int, seed: int) -> dict[str, Any]:
    from leti.device_agents.repeatability import agreement, bands

    return {
        "platform": platform_id,
        "seed": seed,
        "rounds": rounds,
        "calm": report.calm,
        "overhead": report.overhead,
        "networks_per_minute": report.networks_per_minute,
        "effort_s": dict(report.effort_s),
        "measuring_s": report.measuring_s,
        "protocols": {
            name: {"agreement": to_json(agreement(trials)), "bands": [to_json(band) for band in bands(trials)]}
            for name, trials in _kinds(report).items()
        },
        "trials": {name: [to_json(trial) for trial in trials] for name, trials in report.trials.items()},
        "weather": [to_json(each) for each in report.weather],
        "failures": {str(index): reason for index, reason in report.failures.items()},
    }
