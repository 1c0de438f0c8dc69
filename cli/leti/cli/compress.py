"""``leti compress``: a network that keeps a latency budget, made of one that does not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from leti.cli.benches import BenchOptions, open_benches
from leti.cli.compressing import at_hand, compressed, precisions, report, show, summary
from leti.cli.network import InputShapesOption, read_network
from leti.cli.options import DEFAULT_URL, JsonFile, PlatformId, SeedOption, Url, choose_platform, connect
from leti.cli.report import new_console, write_json
from leti.core.errors import InvalidInput
from leti.core.extras import needs

if TYPE_CHECKING:
    from leti.compression.results import Compression
    from leti.compression.targets import Target
    from leti.generator.importers import Imported

NOT_MET: Final = 3
"""The exit code where the budget is not met by measurement, or too much accuracy is lost."""

Budget = Annotated[str, typer.Option("--budget", help="How fast it has to be: 2x, or a time such as 12ms.")]
MaxDrop = Annotated[str, typer.Option("--max-drop", help="Accuracy that may be lost: 0.5pp, in percentage points.")]
Out = Annotated[
    Path,
    typer.Option(help="Folder of report, models and all steps; the same command goes on there.", file_okay=False),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(compress)


def compress(
    model: Annotated[str, typer.Argument(help="Model with weights: .keras, .pt2, .onnx or .tflite.")] = "",
    platform: PlatformId = "",
    url: Url = DEFAULT_URL,
    budget: Budget = "2x",
    max_drop: MaxDrop = "0.5pp",
    data: Annotated[
        str,
        typer.Option(
            help="package.module:function, from this folder or Python's path, that returns what to train, judge and "
            "calibrate with (leti.compression.training.data.Data); without it nothing is trained or judged."
        ),
    ] = "",
    methods: Annotated[str, typer.Option(help="What may be done, with commas between.")] = "quantize,prune,low_rank",
    out: Out = Path("leti-compressed"),
    backend: Annotated[
        str, typer.Option("--backend", help="Measure on this machine with this runtime, without a service.")
    ] = "",
    delegate: Annotated[str, typer.Option("--delegate", help="What that runtime executes with; its usual one.")] = "",
    table: Annotated[
        Path | None,
        typer.Option(
            help="Table of kernels that an earlier compression measured: predict by it, measure nothing.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    kernels: Annotated[
        bool,
        typer.Option(
            "--kernels",
            help="Have the service's agents measure kernels by themselves, as is done where the platform has no "
            "predictor, and do not ask its predictor.",
        ),
    ] = False,
    epochs: Annotated[int, typer.Option(min=0, help="Epochs that what was compressed is trained for.")] = 8,
    input_shape: InputShapesOption = None,
    seed: SeedOption = 0,
    demo: Annotated[
        bool, typer.Option("--demo", help="Show it all on digits and this machine, under 8 minutes; takes no model.")
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Find a compressed form of a network that keeps a latency budget, and show that it does by measuring it.

    The exit code is 0 only where the budget is met when measured and no more accuracy is lost than may be; else 3.
    """  # fmt: skip
    with needs("compression"):
        from leti.compression.budgets import read_budget, read_drop
    console = new_console()
    try:
        if demo:
            from leti.cli.compress_demo import run_demo

            is_met, said = run_demo(console, out, seed)
        else:
            network = _network(model, input_shape)
            asked = {
                "budget": read_budget(budget),
                "max_drop": read_drop(max_drop),
                "methods": tuple(name.strip() for name in methods.split(",")),
                "data": _data(data),
                "epochs": epochs,
                "seed": seed,
            }
            with _target(network, platform, url, backend, delegate, table, kernels) as target:
                found = compressed(console, network, target, out, **asked)
            report(found, out, Path(model).name, seed)
            show(console, found, out)
            is_met, said = met(found), summary(found, out)
    except KeyboardInterrupt:
        typer.echo(f"what was done is kept in {out}: the same command goes on from there", err=True)
        raise
    write_json(json_file, said)
    if not is_met:
        raise typer.Exit(NOT_MET)


def met(found: Compression) -> bool:
    """Return whether a compression does what was asked, by measurement."""
    return found.verdict in ("met", "met by precision")


def _network(model: str, input_shapes: list[str] | None) -> Imported:
    from leti.compression.steps.asking import for_one_sample

    if not model:
        raise InvalidInput("must be given", field="MODEL", remedy="name a model file, or try `leti compress --demo`")
    if Path(model).suffix not in (".keras", ".pt2", ".onnx", ".tflite"):
        raise InvalidInput(f"{model[:80]!r} has no weights", field="MODEL", remedy="give .keras, .pt2, .onnx, .tflite")
    return for_one_sample(read_network(model, weights=True, input_shapes=input_shapes))


def _data(name: str) -> Any:
    """Return the user's data, whose module may stand in the folder that the command is run in."""
    from leti.compression.training.data import load_data

    sys.path.append(str(Path.cwd()))
    return load_data(name) if name else None


@contextmanager
def _target(
    network: Imported, platform: str, url: str, backend: str, delegate: str, table: Path | None, kernels: bool
) -> Iterator[Target]:
    """Yield what the network is compressed for: a service's platform, this machine, or a table alone."""
    from leti.compression.targets import target_of

    given = [name for name, value in (("--backend", backend), ("--table", table), ("--platform", platform)) if value]
    if len(given) > 1:
        raise InvalidInput(f"do not go together: {', '.join(given)}", field=given[0], remedy="give one of them")
    if table is not None:
        yield _by_table(network, table)
    elif backend:
        with open_benches(BenchOptions(backends=(backend,), delegates=(delegate,) if delegate else ())) as benches:
            if len(benches) > 1:
                raise InvalidInput(
                    "must be given", field="--delegate",
                    remedy="one of " + ", ".join(bench.platform.delegate for bench in benches),
                )  # fmt: skip
            yield at_hand(network, benches[0])
    else:
        with connect(url) as client:
            yield target_of(choose_platform(client, platform), client, network.graph, by_kernels=kernels)


def _by_table(network: Imported, path: Path) -> Target:
    """Return a table alone as a target; of int8 only where it knows the network in int8."""
    from leti.compression.pricing.by_cells import CellTable
    from leti.compression.targets import Target
    from leti.generator.precision import quantized

    prices = CellTable.load(path)
    has_int8 = not prices.missing([quantized(network.graph, "full_integer").graph])
    return Target(prices.platform, dict.fromkeys(precisions(has_int8=has_int8), prices))
