"""A network with weights as a module of PyTorch that can be trained, and its weights taken back out of it.

The nodes are those that the generator writes into a .pt2 file, so that what is trained is what is exported. Where each
weight lies in them is found by writing the same program once more with the weights' own numbers in their place:
whatever moves a weight moves its number with it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final, final

from typing_extensions import override

from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.core.graph import Graph
from leti.generator.export.torch.exporter import torch_program
from leti.generator.export.torch.program import Argument, Dtype, Program, Stored, Tensor
from leti.generator.importers import Imported
from leti.generator.orders import identity
from leti.generator.weights import Array, Weights

with needs("compression"):
    import numpy as np
    import torch
    from torch.fx.passes.split_module import split_module
    from torch.utils.checkpoint import checkpoint

Taps = Mapping[int, torch.nn.Module]
"""What is done to values of the graph, by their numbers, before anything reads them."""

NO_TAPS: Final[Taps] = MappingProxyType({})

_UNNUMBERED: Final = "constant"  # what it holds may be looked at while the program is written


@final
@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A parameter: weight ``position`` of operator ``number``, of the graph's shape; ``order`` says which went where.

    Element ``k`` of the parameter, flat, is element ``order[k]`` of the weight.
    """

    name: str
    number: int
    position: int
    shape: tuple[int, ...]
    order: Array


@final
class Network(torch.nn.Module):
    """A network with weights that trains: called with its inputs as the graph has them (images channels last).

    It returns a tuple: the graph's outputs, then the values asked for, each in the graph's order of axes. Batches
    may be of any size where the network keeps the axis. Parameters are called ``program.KIND_OPERATOR.ROLE``;
    statistics and constants are not trained, and no operator does in training what it does not do otherwise.
    """

    def __init__(self, imported: Imported, values: Sequence[int], taps: Taps, segments: int) -> None:
        super().__init__()
        graph, weights = imported.graph, imported.loaded_weights()
        _check_values(graph, (*values, *taps))
        program = torch_program(graph, weights, channels_first_inputs=False)
        with np.errstate(all="ignore"):  # a number in place of a statistic may have no root
            numbered = torch_program(graph, _numbered(graph, weights), channels_first_inputs=False)
        self._inputs: Final = graph.inputs
        root, names, trained = torch.nn.Module(), dict[str, str](), list[Trained]()
        places = _Places(graph, weights)
        for stored, numbers in zip(program.stored, numbered.stored, strict=True):
            name = f"constants.{len(names)}"
            if stored.is_parameter:
                trained.append(places.trained(stored, numbers.array))
                name = trained[-1].name
            _keep(root, name, torch.from_numpy(stored.array.copy()), is_parameter=stored.is_parameter)
            names[stored.tensor.name] = name
        self.trained: Final = tuple(trained)
        returned = [
            program.read(value, identity(len(program.types[value].shape))) for value in (*graph.outputs, *values)
        ]
        tapped = {program.read(value, program.orders(value)[0]).name: tap for value, tap in taps.items()}
        self.program = _module_of(root, program, names, tapped, returned)
        # In a tuple, as its parameters are those of the program already.
        self._runs = (self.program if segments == 1 else _in_segments(self.program, segments),)

    @override
    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the outputs and the values asked for.

        Raises :class:`~leti.core.errors.InvalidInput` for inputs that do not fit, or another number of samples than the
        graph's where it does more with that axis than to keep it.
        """
        given, known = [tuple(tensor.shape[1:]) for tensor in inputs], [t.shape[1:] for t in self._inputs]
        if given != known:
            raise InvalidInput(f"have the shapes {given}, the network takes {known} a sample", field="inputs")
        try:
            made: tuple[torch.Tensor, ...] = self._runs[0](*inputs)
        except RuntimeError as error:
            sizes = [tensor.shape[:1] for tensor in self._inputs]
            if sizes == [tuple(tensor.shape[:1]) for tensor in inputs]:
                raise
            raise InvalidInput(
                f"the network cannot be run with a batch that is not its own: {error}",
                field="inputs",
                remedy=f"give batches of {sizes[0][0]}",
            ) from error
        return made

    def parameter(self, trained: Trained) -> torch.Tensor:
        """Return a parameter as PyTorch has it."""
        found: torch.Tensor = operator.attrgetter(trained.name)(self.program)
        return found

    def weights(self, number: int) -> dict[int, torch.Tensor]:
        """Return an operator's trained weights by their positions, in the graph's layout and differentiable.

        Penalties are functions of these: filters lie as ``(out, *kernel, in / groups)``.
        """
        return {
            trained.position: self.parameter(trained)
            .reshape(-1)[torch.from_numpy(np.argsort(trained.order))]
            .reshape(trained.shape)
            for trained in self.trained
            if trained.number == number
        }


def executable(imported: Imported, *, values: Sequence[int] = (), taps: Taps = NO_TAPS, segments: int = 1) -> Network:
    """Return a network that PyTorch runs and trains, which also returns these values of its graph.

    ``taps`` are applied to values when they are made: everything reads what a tap makes of one (simulated quantisation,
    say), as do ``values``. Of a network in ``segments``, only what lies between two of them is kept for the backward
    pass, and the rest computed again. Raises
    :class:`~leti.core.errors.InvalidInput` where there are no weights or no such value, and
    :class:`~leti.core.errors.InvalidGraph` for an operator that PyTorch cannot say.
    """
    return Network(imported, values, taps, segments)


def weights_of(network: Network, imported: Imported) -> Imported:
    """Return a network with the weights that training made of its own; those that are not trained stay as they are."""
    weights = [list(arrays) for arrays in imported.loaded_weights()]
    for trained in network.trained:
        made = np.empty(math.prod(trained.shape), np.float32)
        made[trained.order] = network.parameter(trained).detach().cpu().numpy().reshape(-1)
        weights[trained.number][trained.position] = made.reshape(trained.shape)
    return replace(imported, weights=tuple(tuple(arrays) for arrays in weights))


def outputs(imported: Imported, inputs: Sequence[Array], values: Sequence[int] = ()) -> tuple[Array, ...]:
    """Return what a network makes of its inputs: its outputs, then the values asked for, images channels last.

    ``inputs`` are float32 arrays of the graph's shapes, but for the number of samples where the network keeps the axis.
    """
    network = executable(imported, values=values)
    with torch.inference_mode():
        made = network(*(torch.from_numpy(np.ascontiguousarray(array)) for array in inputs))
    return tuple(tensor.numpy() for tensor in made)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let PyTorch use so many threads inside the block: threads that spin on busy cores cost ten times and more."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check_values(graph: Graph, values: Sequence[int]) -> None:
    made = len(graph.inputs) + sum(len(op.outputs) for op in graph.ops)
    for value in values:
        if not 0 <= value < made:
            raise InvalidInput(f"there is no value {value}", field="values", remedy=f"0 to {made - 1}")


# --- where weights lie -----------------------------------------------------------------------------------------------


def _numbered(graph: Graph, weights: Weights) -> Weights:
    """Return weights that are the bits of their own numbers, counted through the whole network."""
    count = 0
    made: list[tuple[Array, ...]] = []
    for op, arrays in zip(graph.ops, weights, strict=True):
        numbers = []
        for array in arrays:
            numbers.append(np.arange(count, count + array.size, dtype=np.int32).view(np.float32).reshape(array.shape))
            count += array.size
        made.append(tuple(arrays) if op.kind == _UNNUMBERED else tuple(numbers))
    return made


@final
class _Places:
    """Finds the weight that a numbered parameter is."""

    def __init__(self, graph: Graph, weights: Weights) -> None:
        self._graph = graph
        self._owners = [(i, k, array) for i, arrays in enumerate(weights) for k, array in enumerate(arrays)]
        self._firsts = np.cumsum([0, *(array.size for _, _, array in self._owners)])

    def trained(self, stored: Stored, numbers: Array) -> Trained:
        """Return which weight a parameter is; raise :class:`InvalidInput` for one that is not float32."""
        if numbers.dtype != np.float32:
            raise InvalidInput(f"{stored.name!r} is {numbers.dtype}", field="model", remedy="train it in float32")
        order = numbers.reshape(-1).view(np.int32).astype(np.int64)
        owner = int(np.searchsorted(self._firsts, order[0], side="right")) - 1
        number, position, array = self._owners[owner]
        name = f"{self._graph.ops[number].kind}_{number}.{stored.name.rpartition('.')[2]}"
        return Trained(name, number, position, array.shape, order - self._firsts[owner])


# --- the program as a module -----------------------------------------------------------------------------------------


def _keep(root: torch.nn.Module, name: str, tensor: torch.Tensor, *, is_parameter: bool) -> None:
    owner, _, role = name.partition(".")
    if owner not in dict(root.named_children()):
        root.add_module(owner, torch.nn.Module())
    module = root.get_submodule(owner)
    if is_parameter:
        module.register_parameter(role, torch.nn.Parameter(tensor))
    else:
        module.register_buffer(role, tensor)


def _module_of(
    root: torch.nn.Module,
    program: Program,
    names: Mapping[str, str],
    tapped: Mapping[str, torch.nn.Module],
    returned: Sequence[Tensor],
) -> torch.fx.GraphModule:
    """Return the module that runs a program; ``names`` are those of tensors that ``root`` keeps, by the program's."""
    graph = torch.fx.Graph()
    env: dict[str, torch.fx.Node] = {}

    def made(tensor: Tensor, node: torch.fx.Node) -> None:
        env[tensor.name] = node
        if tensor.name in tapped:
            root.add_module(f"tap_{tensor.name}", tapped[tensor.name])
            env[tensor.name] = graph.call_module(f"tap_{tensor.name}", (node,))

    for tensor in program.inputs:
        made(tensor, graph.placeholder(tensor.name))
    for kept, name in names.items():
        env[kept] = graph.get_attr(name)
    for call in program.nodes:
        packet, _, overload = call.target.removeprefix("torch.ops.aten.").partition(".")
        arguments = {name: _argument(value, env) for name, value in call.arguments.items()}
        if packet == "reshape":
            arguments["shape"] = _any_batch(call.arguments["self"], arguments["shape"])
        node = graph.call_function(getattr(getattr(torch.ops.aten, packet), overload), kwargs=arguments)
        if len(call.outputs) == 1 and not call.is_list:
            made(call.outputs[0], node)
        else:
            for position, tensor in enumerate(call.outputs):
                made(tensor, graph.call_function(operator.getitem, (node, position)))
    graph.output(tuple(env[tensor.name] for tensor in returned))
    return torch.fx.GraphModule(root, graph)


@final
class _Recomputed(torch.nn.Module):
    """A part of a network whose activations are not kept for the backward pass."""

    def __init__(self, part: torch.nn.Module) -> None:
        super().__init__()
        self.part = part

    @override
    def forward(self, *inputs: torch.Tensor) -> Any:
        return checkpoint(self.part, *inputs, use_reentrant=False)


def _in_segments(program: torch.fx.GraphModule, segments: int) -> torch.fx.GraphModule:
    """Return a program whose nodes, divided into so many parts, are computed again; it shares the parameters."""
    places = {node.name: i for i, node in enumerate(program.graph.nodes)}
    made = split_module(program, program, lambda node: places[node.name] * segments // len(places))
    for name, part in list(made.named_children()):
        if name.startswith("submod_"):
            setattr(made, name, _Recomputed(part))
    return made


def _any_batch(read: Argument, shape: Sequence[int]) -> Sequence[int]:
    """Return the shape of a reshape that keeps the first axis, for as many samples as there are."""
    keeps = isinstance(read, Tensor) and shape and read.type.shape[:1] == tuple(shape[:1]) and math.prod(shape)
    return (-1, *shape[1:]) if keeps else shape


def _argument(value: Argument, env: Mapping[str, torch.fx.Node]) -> Any:
    if isinstance(value, Tensor):
        return env[value.name]
    if isinstance(value, Dtype):
        return getattr(torch, value.name)
    if isinstance(value, (str, int, float)) or value is None:
        return value
    return [env[item.name] if isinstance(item, Tensor) else item for item in value]
