"""PyTorch export: Graph → exported program (.pt2).

The file is written directly: PyTorch need not be installed, and tracing and saving a network takes it far longer than
writing what it would write. Images are channels first, as PyTorch's users have them, inputs and outputs of the network
as well; what needs the graph's own order, such as a flattening, reads them permuted. Operators that PyTorch does not
have are spelled out with those that it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from leti.core.errors import InvalidGraph, TooLarge
from leti.core.graph import Graph, Op
from leti.generator.export.layouts import Layout, values_wanted
from leti.generator.export.torch.archive import archived
from leti.generator.export.torch.forms import FORMS, form_of
from leti.generator.export.torch.program import Program, Site, Tensor
from leti.generator.export.torch.windows import WINDOWS
from leti.generator.orders import channels_first, identity
from leti.generator.weights import Array, Weights, check_weights, random_weights

MAX_PARAMS: Final = 400_000_000
"""1.6 GB of weights: importers read files of up to 2 GiB."""


def export_torch(graph: Graph, *, seed: int = 0, weights: Weights | None = None) -> bytes:
    """Return the .pt2 file of a graph in float32 or float16, as ``torch.export.load`` reads it.

    ``weights`` holds a tuple of arrays for each operator of the graph, of the shapes that
    :func:`~leti.generator.cost.weight_shapes` gives; without them,
    :func:`~leti.generator.weights.random_weights` of ``seed``. An input of three dimensions or more that windows read
    is channels first in the file, ``(batch, channels, height, width)``, and so is such an output. Raises
    :class:`~leti.core.errors.InvalidInput` for weights that do not fit, :class:`InvalidGraph` for an operator that
    PyTorch cannot say and for a quantised network, :class:`TooLarge` for more than :data:`MAX_PARAMS` parameters.
    """
    program = torch_program(graph, random_weights(graph, seed) if weights is None else weights)
    returned = [program.read(value, program.order_returned(value)) for value in graph.outputs]
    return archived(program, returned)


def torch_program(graph: Graph, weights: Weights, *, channels_first_inputs: bool = True) -> Program:
    """Return the nodes and kept tensors of a graph's program, its values to be read from it in any order of axes.

    Without ``channels_first_inputs``, images are given as the graph has them. Raises what :func:`export_torch` does.
    """
    if graph.params > MAX_PARAMS:
        raise TooLarge(f"has {graph.params} parameters", field="params", remedy=f"at most {MAX_PARAMS}")
    _check(graph)
    check_weights(graph, weights)
    program = Program(values_wanted(graph, _layout))
    for number, tensor_type in enumerate(graph.inputs):
        rank = len(tensor_type.shape)
        is_turned = program.wanted[number] and channels_first_inputs
        program.input(tensor_type, channels_first(rank) if is_turned else identity(rank))
    for op, sources, arrays in zip(graph.ops, graph.wiring, weights, strict=True):
        _write(program, op, sources, arrays)
    return program


def _layout(kind: str) -> Layout:
    return FORMS[kind].layout if kind in FORMS else "last"


def _check(graph: Graph) -> None:
    for i, op in enumerate(graph.ops):
        if op.kind != "constant":
            form_of(op)
        stored = str(op.get("weight_dtype", ""))
        if not stored and op.kind in WINDOWS and "float" not in op.outputs[0].dtype:
            stored = op.outputs[0].dtype
        if stored:
            raise InvalidGraph(
                f"quantised weights are not written, {op.kind!r} has {stored}",
                field=f"ops[{i}]",
                remedy="export the network in float32",
            )


def _write(program: Program, op: Op, sources: tuple[int, ...], arrays: Sequence[Array]) -> None:
    if op.kind == "constant":
        program.known(op.outputs[0], arrays[0])
        return
    form = form_of(op)
    site = Site(program, op, sources, arrays, program.order_read(op, sources, form.layout))
    made = form.write(site)
    for tensor_type, tensor in zip(op.outputs, (made,) if isinstance(made, Tensor) else made, strict=True):
        rank = len(tensor_type.shape)
        program.value(tensor_type, tensor, site.made_order if len(site.made_order) == rank else identity(rank))
