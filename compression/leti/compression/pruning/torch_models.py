"""PyTorch models are pruned as modules, their own code kept: by torch-pruning's dependency graph.

"DepGraph: Towards Any Structural Pruning", Fang et al., 2023. Which channels stay is said as for
:func:`~leti.compression.pruning.removing.removed`, of the exported model, so that any criterion, schedule or plan
serves both; and what comes out is held against what that function makes.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

from leti.compression.pruning.removing import Kept, removed
from leti.compression.training.executing import outputs
from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.generator.compressing.groups import channel_groups
from leti.generator.importers import Imported
from leti.generator.weights import Array

with needs("compression"):
    import numpy as np
    import torch
    import torch_pruning

_TOLERANCE = 1e-3  # of the largest output: two ways to the same sums


def prune_module(
    model: torch.nn.Module, example_inputs: Sequence[torch.Tensor], imported: Imported, kept: Kept
) -> torch.nn.Module:
    """Return a copy of a model, in inference mode, whose channel groups keep these channels.

    ``imported`` is the model as it was exported and imported with its weights, its operators named as the modules that
    they came from, and ``kept`` speaks of its groups. ``example_inputs`` are what the model is called with. Raises
    :class:`~leti.core.errors.InvalidInput` as ``removed`` does, for a group that no module makes, and where
    torch-pruning removes other channels than these: it takes channels that are concatenated and flattened at once for
    channels that are added, for one.
    """
    twin = removed(imported, kept)
    pruned: torch.nn.Module = copy.deepcopy(model).eval()
    dependencies = torch_pruning.DependencyGraph()
    with torch.enable_grad():  # dependencies are read off the graph of gradients
        dependencies.build_dependency(pruned, example_inputs=tuple(example_inputs))
    groups = channel_groups(imported.graph)
    for number, indices in kept.items():
        gone = sorted(set(range(groups[number].channels)).difference(map(int, indices)))
        if gone:
            module = _module(pruned, imported, groups[number].producers, f"kept[{number}]")
            prune_output = dependencies.get_pruner_of_module(module).prune_out_channels
            dependencies.get_pruning_group(module, prune_output, idxs=gone).prune()
    _compare(pruned, example_inputs, twin)
    return pruned


def _module(model: torch.nn.Module, imported: Imported, producers: Sequence[int], place: str) -> torch.nn.Module:
    """Return a module that makes the channels of a group."""
    modules: dict[str, torch.nn.Module] = dict(model.named_modules())
    for name in (imported.names[i] for i in producers):
        if name in modules:
            return modules[name]
    raise InvalidInput("is made by no module of the model", field=place, remedy="export this model, and import that")


def _compare(pruned: torch.nn.Module, inputs: Sequence[torch.Tensor], twin: Imported) -> None:
    """Raise :class:`InvalidInput` where a module does not compute what its twin computes."""
    reason = "torch-pruning does not make of the model what was asked"
    remedy = "export the pruned network itself, or ask for other channels"
    graph = twin.graph
    try:
        with torch.inference_mode():
            made = pruned(*inputs)
    except RuntimeError as error:
        raise InvalidInput(f"{reason}: {error}", field="model", remedy=remedy) from error
    arrays = [tensor.numpy() for tensor in ((made,) if isinstance(made, torch.Tensor) else made)]
    read = [_channels_last(x.numpy(), t.shape) for x, t in zip(inputs, graph.inputs, strict=True)]
    for found, expected in zip(arrays, outputs(twin, read), strict=True):
        apart = np.abs(_channels_last(found, expected.shape) - expected).max()
        if not apart <= _TOLERANCE * max(float(np.abs(expected).max()), 1e-6):
            raise InvalidInput(f"{reason}: outputs differ by {apart:.3g}", field="model", remedy=remedy)


def _channels_last(array: Array, shape: Sequence[int]) -> Array:
    """Return an image in the graph's order of axes; anything else as it is."""
    moved = np.moveaxis(array, 1, -1) if array.ndim >= 3 else array
    return np.ascontiguousarray(moved) if moved.shape[1:] == tuple(shape[1:]) else array
