"""What criteria need to know of a network on data: gradients and activations, as PyTorch computes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

from typing_extensions import override

from leti.compression.pruning.criteria import Evidence
from leti.compression.training.executing import executable
from leti.core.extras import needs
from leti.generator.importers import Imported
from leti.generator.weights import Array

with needs("compression"):
    import numpy as np
    import torch

Loss = Callable[[tuple[torch.Tensor, ...], Array], torch.Tensor]
"""Takes a network's outputs and the targets to a scalar."""


def observed(
    imported: Imported,
    inputs: Array,
    targets: Array | None = None,
    loss: Loss | None = None,
    *,
    operators: Sequence[int] = (),
) -> Evidence:
    """Return what a network of one input does on ``inputs``, ``(samples, ...)``: the evidence of its criteria.

    Activations are those of the first output of ``operators``. Where there is a ``loss``, gradients of it with respect
    to all trained weights and to these activations are taken; those of an operator that the loss does not depend on
    are zero. Raises :class:`~leti.core.errors.InvalidInput` where there are no weights or the inputs do not fit.
    """
    firsts, count = imported.graph.first_values(), len(imported.graph.outputs)
    kept = {firsts[i]: _Kept() for i in operators}
    network = executable(imported, values=list(kept), taps=kept)
    given = torch.from_numpy(np.ascontiguousarray(inputs))
    if loss is None or targets is None:
        with torch.inference_mode():
            return Evidence(activations=_by_operator(operators, network(given)[count:]))
    made = network(given)
    parameters = [network.parameter(trained) for trained in network.trained]
    inside = [kept[firsts[i]].value for i in operators]
    found = torch.autograd.grad(
        loss(made[:count], targets), [*parameters, *inside], retain_graph=True, materialize_grads=True
    )
    gradients = [tuple(np.zeros(array.shape, np.float32) for array in arrays) for arrays in imported.loaded_weights()]
    for trained, gradient in zip(network.trained, found, strict=False):
        gradients[trained.number][trained.position].reshape(-1)[trained.order] = gradient.numpy().reshape(-1)
    moved = map(_as_returned, inside, made[count:], found[len(parameters) :])
    return Evidence(gradients, _by_operator(operators, made[count:]), _by_operator(operators, tuple(moved)))


@final
class _Kept(torch.nn.Module):
    """Keeps a value as everything reads it, in the order of axes that PyTorch has it."""

    @override
    def forward(self, value: torch.Tensor) -> torch.Tensor:
        self.value = value
        return value


def _as_returned(inside: torch.Tensor, returned: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Return the gradient of a value in the order of axes that the value is returned in.

    Returned is a transposition of what is inside, and so is linear in it: what it does to the gradient is the
    derivative of its own transpose.
    """
    probe = torch.zeros_like(returned, requires_grad=True)
    (transposed,) = torch.autograd.grad(returned, inside, probe, create_graph=True)
    return torch.autograd.grad(transposed, probe, gradient)[0]


def _by_operator(operators: Sequence[int], values: Sequence[torch.Tensor]) -> dict[int, Array]:
    return {i: value.detach().numpy() for i, value in zip(operators, values, strict=True)}
