"""``leti export``: a network as a model file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated

import typer

from leti.cli.network import InputShapesOption, NetworkArgument, read_network
from leti.cli.options import ConfigOption, SeedOption, ZeroOption
from leti.core.device import ModelFormat, ModelPrecision
from leti.core.errors import InvalidInput
from leti.core.extras import needs

_PLAIN: Mapping[str, tuple[str, ModelFormat]] = {".onnx": ("import-onnx", "onnx"), ".pt2": ("export", "pt2")}
"""The extra that writes files of one precision, and their format."""

_SUFFIXES = (".tflite", *_PLAIN)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(export)


def export(
    network: NetworkArgument,
    to: Annotated[
        Path, typer.Argument(help="File to write: .tflite, .onnx or .pt2 (PyTorch's exported program).", dir_okay=False)
    ],
    precision: Annotated[
        ModelPrecision, typer.Option(help="Of a .tflite file: weights and activations of 32 bits, or less.")
    ] = "float32",
    representative: Annotated[
        Path | None,
        typer.Option(
            help="Inputs of the network, to learn its ranges from: .npy, or .npz of an array an input; their first "
            "dimension is the sample. Of precision full_integer; without it, normal data.",
            dir_okay=False,
        ),
    ] = None,
    input_shape: InputShapesOption = None,
    config: ConfigOption = "",
    zero: ZeroOption = "execute",
    seed: SeedOption = 0,
) -> None:
    """Write a network as a model file, with its own weights where it has them, else with random ones."""
    if to.suffix.lower() not in _SUFFIXES:
        raise InvalidInput(f"{to.name!r} has no known ending", field="to", remedy=f"one of {', '.join(_SUFFIXES)}")
    if representative is not None and precision != "full_integer":
        raise InvalidInput("goes with --precision full_integer", field="--representative")
    imported = read_network(network, config=config, zero=zero, input_shapes=input_shape, weights=True)
    graph = imported.graph
    if to.suffix.lower() in _PLAIN:
        if precision != "float32":
            message = f"{to.suffix.lower()} files are written in float32, not {precision}"
            raise InvalidInput(message, field="--precision")
        extra, model_format = _PLAIN[to.suffix.lower()]
        with needs(extra):
            from leti.generator.export.formats import WRITERS

            write = resolve_name(WRITERS[model_format])
        data = write(graph, seed=seed, weights=imported.weights)
    else:
        with needs("export"):
            from leti.generator.export.tflite import export_tflite
            from leti.generator.export.tflite.calibration import read_samples
            from leti.generator.precision import quantized
        chosen = quantized(graph, precision)
        weights = None if imported.weights is None else chosen.weights(imported.weights)
        samples = None if representative is None else read_samples(representative, graph.inputs)
        data = export_tflite(chosen.graph, seed=seed, weights=weights, representative=samples)
    to.write_bytes(data)
    typer.echo(f"{to}: {len(data):,} bytes, {len(graph.ops)} operators, {graph.params:,} parameters")
