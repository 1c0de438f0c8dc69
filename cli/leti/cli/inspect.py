"""``leti inspect``: what a network is made of, what it costs, and what of it is not known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from leti.cli.network import InputShapesOption, NetworkArgument, read_network
from leti.cli.options import ConfigOption, JsonFile, ZeroOption
from leti.cli.report import new_console, new_table, write_json
from leti.core.graph import Graph, Op
from leti.generator.describe import bytes_text, count_text, op_title, type_text
from leti.generator.drawing import draw
from leti.generator.fusion import fuse

if TYPE_CHECKING:
    from leti.generator.importers import Imported

By = Literal["operator", "kind", "none"]
RuntimeName = Literal["litert", "onnxruntime"]

_COSTS = ("MACs", "params", "weights", "activ.", "MACs/B")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(inspect)


def inspect(
    network: NetworkArgument,
    by: Annotated[By, typer.Option(help="A row an operator, a row a kind, or the totals alone.")] = "operator",
    stored: Annotated[
        bool, typer.Option("--stored", help="Operators as the file has them, nothing folded: the framework's counts.")
    ] = False,
    runtime: Annotated[RuntimeName, typer.Option(help="The runtime whose kernels are formed.")] = "litert",
    input_shape: InputShapesOption = None,
    config: ConfigOption = "",
    zero: ZeroOption = "execute",
    svg: Annotated[Path | None, typer.Option(help="Also draw the network to this file.", dir_okay=False)] = None,
    json_file: JsonFile = None,
) -> None:
    """Show a network's operators and what they cost; list the operators that are not known."""
    imported = read_network(network, config=config, zero=zero, input_shapes=input_shape, fold=not stored)
    graph = fuse(imported.graph, runtime)
    console = new_console()
    console.print(_summary(Path(network).name, graph, runtime))
    if by == "operator":
        console.print(_operators(graph, imported.names))
    elif by == "kind":
        console.print(_kinds(graph))
    for line in _unknown(imported):
        console.print(line)
    if svg is not None:
        svg.write_text(draw(graph, imported.names).svg, encoding="utf-8")
    write_json(json_file, {"fingerprint": graph.fingerprint(), "names": list(imported.names), "graph": graph.to_json()})


def _summary(title: str, graph: Graph, runtime: str) -> Table:
    table = new_table(title)
    table.show_header, table.box = False, None
    table.add_column(no_wrap=True)
    table.add_column()
    types = [*graph.inputs, *(t for op in graph.ops for t in op.outputs)]
    moved = bytes_text(sum(op.activation_bytes for op in graph.ops))
    rows = {
        "fingerprint": graph.fingerprint(),
        "inputs": ", ".join(map(type_text, graph.inputs)),
        "outputs": ", ".join(type_text(types[value]) for value in graph.outputs),
        "operators": f"{len(graph.ops)} in {len(graph.kernels)} kernels of {runtime}",
        "MACs": count_text(graph.macs),
        "parameters": f"{graph.params:,}",
        "weights": bytes_text(graph.weight_bytes),
        "activations": f"{moved} read and written, {bytes_text(graph.peak_memory_bytes)} at once at most",
        "intensity": f"{_intensity(graph.macs, graph.traffic_bytes)} MACs a byte",
    }
    for row in rows.items():
        table.add_row(*row)
    return table


def _operators(graph: Graph, names: tuple[str, ...]) -> Table:
    named = any(names)
    table = _cost_table("operator", *["layer"] * named, "output")
    for op, name in zip(graph.ops, names, strict=True):
        outputs = " ".join(map(type_text, op.outputs[:3]))
        table.add_row(op_title(op), *[name] * named, outputs, *_costs((op,)))
    table.add_section()
    table.add_row("total", *[""] * named, "", *_costs(graph.ops))
    return table


def _kinds(graph: Graph) -> Table:
    table = _cost_table("kind", "count")
    for kind in sorted({op.kind for op in graph.ops}, key=lambda kind: -sum(_weight(op, kind) for op in graph.ops)):
        ops = tuple(op for op in graph.ops if op.kind == kind)
        table.add_row(kind, str(len(ops)), *_costs(ops))
    table.add_section()
    table.add_row("total", str(len(graph.ops)), *_costs(graph.ops))
    return table


def _weight(op: Op, kind: str) -> int:
    return op.macs + op.traffic_bytes if op.kind == kind else 0


def _cost_table(*columns: str) -> Table:
    table = new_table("")
    for name in columns:
        table.add_column(name, overflow="fold")
    for name in _COSTS:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _costs(ops: tuple[Op, ...]) -> tuple[str, ...]:
    macs, traffic = sum(op.macs for op in ops), sum(op.traffic_bytes for op in ops)
    return (
        count_text(macs),
        count_text(sum(op.params for op in ops)),
        bytes_text(sum(op.weight_bytes for op in ops)),
        bytes_text(sum(op.activation_bytes for op in ops)),
        _intensity(macs, traffic),
    )


def _unknown(imported: Imported) -> Iterator[str]:
    """Yield a line for each kind of operator that has no price, with the layers that are of it."""
    ops = imported.graph.ops
    counts = Counter(op.kind for op in ops if op.is_unknown)
    if not counts:
        yield "unknown operators: none"
    for kind, count in sorted(counts.items()):
        layers = [name for op, name in zip(ops, imported.names, strict=True) if op.kind == kind and name]
        named = f": {', '.join(layers[:5])}{', …' if len(layers) > 5 else ''}" if layers else ""
        yield f"{kind} ×{count}{named} (its tensors are counted, what it computes is not)"


def _intensity(macs: int, traffic_bytes: int) -> str:
    return f"{macs / traffic_bytes:.2f}" if macs and traffic_bytes else "·"
