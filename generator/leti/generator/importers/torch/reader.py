"""PyTorch importer: a .pt2 file of ``torch.export.save``, or an ``ExportedProgram``, becomes a draft.

A program is read in the form in which it was exported, which has PyTorch's own operators (``conv2d``, ``batch_norm``,
``scaled_dot_product_attention``) and writes in place. Decomposing it first would make it functional, but would also
split a ``chunk`` once for each of its parts and turn dropouts into copies; so writes are followed here, by
:mod:`~leti.generator.importers.torch.memory`. A program that writes through a view of what is read again is decomposed
where it is at hand; of a file, it is asked for.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, final

from leti.core.errors import ArtifactError, InvalidInput, TooLarge
from leti.core.extras import needs
from leti.core.graph import Graph, TensorType
from leti.generator.cost import Shape
from leti.generator.importers.draft import Constant, Draft, NoCounterpart, Operand
from leti.generator.importers.shapes import check_shapes
from leti.generator.importers.torch.archive import FIELD, SAVE_AGAIN, Archive, damage_reported
from leti.generator.importers.torch.call import Call
from leti.generator.importers.torch.folding import CREATES, FOLDS, MOST_ELEMENTS, SAME, VIEWS, fold, numpy_dtype
from leti.generator.importers.torch.memory import Cell, Memory
from leti.generator.importers.torch.operators import OPERATORS
from leti.generator.importers.torch.program import Name, Program, ProgramGraph, ProgramNode, Subgraph, read_program
from leti.generator.weights import Array

with needs("import-torch"):
    import numpy as np

_MOST_COMPUTED: Final = 2**26  # elements of all constants that are computed
_MOST_NODES: Final = 5 * Graph.MAX_OPS  # many place no operator
_MOST_DEPTH: Final = 16  # of graphs in graphs
_INLINED: Final = frozenset({"wrap_with_set_grad_enabled", "wrap_with_autocast"})
_SEVERAL: Final = frozenset(
    {
        "split",
        "split_with_sizes",
        "chunk",
        "tensor_split",
        "unsafe_split",
        "unsafe_chunk",
        "unbind",
        "topk",
        "max",
        "min",
    }
)
"""Operators of the table that make all of their outputs; of the others, only the first."""


def read_torch(source: object, input_shapes: Mapping[str, Shape]) -> Draft:
    """Return the draft of a .pt2 file, of its bytes, or of an ``ExportedProgram``, its tensors as they stand there.

    ``input_shapes`` are the shapes of inputs that were exported with dynamic dimensions, by the inputs' names.
    ``torch.export.export(..., strict=True)`` without gradients puts PyTorch's own kernels for whole encoder layers in a
    program, which stay unknown: leave ``strict`` at its default, or call ``torch.backends.mha.set_fastpath_enabled``.
    Raises :class:`InvalidInput` for another object, a pickled model, a model in training mode and an open shape;
    :class:`ArtifactError` for a damaged file; :class:`TooLarge` for a program over the limits.
    """
    if isinstance(source, Path | bytes):
        return _read(Archive(source), input_shapes)
    program = _exported(source)
    try:
        return _read(Archive(_saved(program)), input_shapes)
    except _WrittenThroughView:
        return _read(Archive(_saved(_functional(program))), input_shapes)


class _WrittenThroughView(InvalidInput):
    """A tensor is read after it was written to through a view of it."""


def _exported(source: object) -> Any:
    with needs("import-torch"):
        from torch.export import ExportedProgram
    if not isinstance(source, ExportedProgram):
        raise InvalidInput(
            f"is a {type(source).__name__}, which does not say what it is run on",
            field=FIELD,
            remedy="give torch.export.export(model.eval(), inputs)",
        )
    return source


def _functional(program: Any) -> Any:
    """Return the program without operators that write in place; no operator is decomposed for its own sake."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, about itself
        return program.run_decompositions({})


def _saved(program: Any) -> bytes:
    """Return a program as a file, which is the one form that is read."""
    with needs("import-torch"):
        import torch

    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.export.save(program, buffer)
    except Exception as error:  # of many kinds, which depend on what the program holds
        raise InvalidInput(f"cannot be saved by PyTorch: {error!s:.200}", field=FIELD, remedy=SAVE_AGAIN) from error
    return buffer.getvalue()


def _read(archive: Archive, input_shapes: Mapping[str, Shape]) -> Draft:
    program = read_program(archive.model, input_shapes)
    draft = Draft()
    reader = _Reader(program.graph, _Tensors(archive, program), draft, set(program.outputs))
    for name in program.inputs:
        reader.bind(name, draft.input(program.graph.type(name)))
    reader.run()
    for name in program.outputs:
        operand = reader.find(name)
        draft.outputs.append(draft.constant(operand, name) if isinstance(operand, Constant) else operand)
    return draft


@final
class _Tensors:
    """The tensors that a program stores: each is one constant, however often it is read."""

    def __init__(self, archive: Archive, program: Program) -> None:
        self._archive = archive
        self._program = program
        self._found: dict[str, Constant] = {}
        self.computed = 0

    def find(self, name: str) -> Constant | None:
        """Return a stored tensor; raise :class:`ArtifactError` where it is not of the type that the program states."""
        if name not in self._found:
            if name not in self._program.stored:
                return None
            found = self._archive.tensor(*self._program.stored[name])
            if TensorType(found.shape, found.dtype) != self._program.graph.type(name):
                raise ArtifactError(f"is stored as {found.dtype} {found.shape}, not as stated", field=name)
            self._found[name] = found
        return self._found[name]

    def is_known(self, name: str) -> bool:
        """Return whether a tensor is stored and no parameter, so that what is computed of it may be computed here."""
        return name in self._program.stored and name not in self._program.parameters


@final
class _Reader:
    """Places a graph's nodes in a draft, one after the other."""

    def __init__(self, graph: ProgramGraph, tensors: _Tensors, draft: Draft, outputs: set[str], depth: int = 0) -> None:
        if len(graph.nodes) > _MOST_NODES:
            raise TooLarge(f"has {len(graph.nodes)} nodes", field=FIELD, limit=_MOST_NODES)
        self._graph = graph
        self._tensors = tensors
        self._draft = draft
        self._depth = depth
        self._read = {name for node in graph.nodes for name in node.tensors()} | outputs
        self._memory = Memory()
        self._values: dict[Cell, Operand] = {}
        self._known: dict[Cell, Array] = {}

    def bind(self, name: str, operand: Operand) -> None:
        """Say what a tensor is."""
        self._values[self._memory.cell(name)] = operand

    def find(self, name: str) -> Operand:
        """Return a tensor as it is now; raise :class:`ArtifactError` where nothing has made it."""
        if self._memory.is_stale(name):
            raise _WrittenThroughView(
                f"{name} is read after a view of it was written to",
                field=FIELD,
                remedy="export the model as torch.export.export(model, inputs).run_decompositions({})",
            )
        cell = self._memory.cell(name)
        if cell in self._known:
            return Constant.of(self._known[cell].copy(), self._graph.type(name).dtype)
        operand = self._values.get(cell)
        found = self._tensors.find(name) if operand is None and not self._depth else operand
        if found is None:
            raise ArtifactError(f"reads {name!r:.80}, which nothing before it makes", field=FIELD)
        return found

    def run(self) -> None:
        """Place all nodes."""
        for node in self._graph.nodes:
            if node.outputs:  # the others assert something, or compute sizes, which are known
                self._run(node)

    def _run(self, node: ProgramNode) -> None:
        namespace, _, rest = node.target.partition(".")
        packet = rest.partition(".")[0]
        writes = packet.endswith("_") and not packet.endswith("__")
        name = packet.removesuffix("_") if writes else packet
        label = name if namespace in ("aten", "higher_order") else f"{namespace}.{name}"
        made_by = tuple(made for made in node.outputs if made in self._read or not self._graph.is_empty(made))
        node = replace(node, outputs=made_by)
        outputs = tuple(self._graph.type(made) for made in node.outputs)
        placed = len(self._draft.nodes)
        with damage_reported(node.layer):
            if namespace == "aten" and self._fold(name, node, outputs, writes):
                return
            if namespace == "higher_order" and name in _INLINED:
                made: Sequence[Operand | None] = self._inline(node)
            else:
                made = self._place(label if namespace == "aten" else "", label, node, outputs)
        check_shapes(self._draft, self._draft.nodes[placed:])
        self._keep(name, node, outputs, made, writes)

    def _fold(self, name: str, node: ProgramNode, outputs: tuple[TensorType, ...], writes: bool) -> bool:
        """Compute a node of known tensors; return whether it is one."""
        elements = sum(output.elements for output in outputs)
        reads = [] if name in CREATES and not writes else list(node.tensors())
        known = not self._depth and all(self._is_known(read) for read in reads)
        if name not in FOLDS or not known or elements > MOST_ELEMENTS:
            return False
        self._tensors.computed += elements
        if self._tensors.computed > _MOST_COMPUTED:
            raise TooLarge("computes too many constants", field=node.layer, limit=_MOST_COMPUTED)
        made = fold(name, node, outputs, self._array, in_place=writes)
        self._note(name, node, writes)
        self._known.update(zip(map(self._memory.cell, node.outputs), made, strict=True))
        return True

    def _is_known(self, name: str) -> bool:
        cell = self._memory.cell(name)
        stored = cell not in self._values and self._tensors.is_known(name)
        return (cell in self._known or stored) and not self._memory.is_stale(name)

    def _array(self, name: str) -> Array:
        """Return a known tensor, which may be written to; something for one whose values do not matter."""
        cell = self._memory.cell(name)
        if cell not in self._known:
            if not self._is_known(name):
                return np.empty((), np.bool_)
            operand = self.find(name)
            if isinstance(operand, Constant):
                self._known[cell] = operand.array().astype(numpy_dtype(operand.dtype))
        return self._known[cell]

    def _place(
        self, key: str, label: str, node: ProgramNode, outputs: tuple[TensorType, ...]
    ) -> Sequence[Operand | None]:
        call = Call(node, outputs, self.find, self._read, self._draft)
        several = key in _SEVERAL or not any(call.is_read(i) for i in range(1, len(outputs)))
        if key in OPERATORS and several:
            try:
                made = OPERATORS[key](call)
                return (made,) if isinstance(made, int | Constant) else made
            except NoCounterpart:
                pass
        return self._draft.unknown(label[:80], [self.find(name) for name in node.tensors()], outputs, name=node.layer)

    def _inline(self, node: ProgramNode) -> Sequence[Operand | None]:
        """Place the nodes of a graph that is run as it stands."""
        arguments = list(node.arguments.values())
        (position,) = (i for i, argument in enumerate(arguments) if isinstance(argument, Subgraph))
        inner = arguments[position]
        if self._depth >= _MOST_DEPTH or not isinstance(inner, Subgraph):
            raise TooLarge("has graphs in graphs", field=node.layer, limit=_MOST_DEPTH)
        graph = self._graph.inner(inner)
        names = [output.name for output in graph.outputs if isinstance(output, Name)]
        reader = _Reader(graph, self._tensors, self._draft, set(names), self._depth + 1)
        read = [argument.name for argument in arguments[position + 1 :] if isinstance(argument, Name)]
        for name, outer in zip(graph.inputs, read, strict=True):
            reader.bind(name, self.find(outer))
        reader.run()
        return [reader.find(name) for name in names]

    def _keep(
        self,
        name: str,
        node: ProgramNode,
        outputs: tuple[TensorType, ...],
        made: Sequence[Operand | None],
        writes: bool,
    ) -> None:
        """Note what a node has made, and what it has written over."""
        for kind, operand in zip(outputs, made, strict=False):
            if operand is not None and self._type(operand) != kind:
                raise ArtifactError(f"{node.target} makes {self._type(operand)}, not {kind}", field=node.layer)
        self._note(name, node, writes)
        if writes:
            for cell in self._memory.write(node.outputs[0]):
                self._known.pop(cell, None)
        for output, operand in zip(node.outputs, made, strict=False):
            if operand is not None:
                self._known.pop(self._memory.cell(output), None)
                self._values[self._memory.cell(output)] = operand

    def _type(self, operand: Operand) -> TensorType:
        return TensorType(operand.shape, operand.dtype) if isinstance(operand, Constant) else self._draft.types[operand]

    def _note(self, name: str, node: ProgramNode, writes: bool) -> None:
        source = next(node.tensors(), None)
        if writes or (source and name in SAME and self._graph.type(source) == self._graph.type(node.outputs[0])):
            self._memory.place(node.outputs[0], source)
            return
        for i, output in enumerate(node.outputs):
            view = name in VIEWS and source is not None
            self._memory.place(output, source if view else None, (node.outputs[0], i) if view else None)
