"""Training of one graph network for several platforms, all members and platforms in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leti.core.extras import needs
from leti.core.prediction import Progress
from leti.predictors.gcn.architecture import Architecture
from leti.predictors.gcn.collation import collate
from leti.predictors.gcn.export import Weights
from leti.predictors.gcn.graphs import OperatorGraphs
from leti.predictors.gcn.network import GraphNetwork
from leti.predictors.gcn.recipe import Recipe
from leti.predictors.gcn.training import one_thread

with needs("gcn"):
    import numpy as np
    import torch
    from torch.func import functional_call
    from torch.nn import functional

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FIRST_VECTORS = 0.3


def train_heads(
    architecture: Architecture,
    graphs: OperatorGraphs,
    targets: NDArray[np.float64],
    learns: NDArray[np.bool_],
    keeps: NDArray[np.bool_],
    recipe: Recipe,
    *,
    seed: int,
    progress: Progress | None = None,
) -> tuple[Weights, NDArray[np.float32], NDArray[np.float32]]:
    """Return the weights of a network, and the vectors ``(p, members, units)`` and levels ``(p, members)``.

    The network says ``targets`` (graphs, p). ``learns`` (graphs, p) says on which platform a graph was measured,
    ``keeps`` (graphs, members) which member learns from it. The same arguments give the same weights; torch's own
    generator and number of threads are as before afterwards.
    """
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        network = GraphNetwork(architecture)
        shape = (targets.shape[1], 1, architecture.members)
        out = (torch.randn(*shape, architecture.units) * _FIRST_VECTORS / architecture.units**0.5).requires_grad_()
        level = torch.zeros(shape, requires_grad=True)
        _descend(network, out, level, graphs, targets, learns, keeps, recipe, seed, progress)
        weights = {name: weight.numpy().copy() for name, weight in network.state_dict().items()}
        return weights, out.detach()[:, 0].numpy().copy(), level.detach()[:, 0].numpy().copy()


def _descend(
    network: GraphNetwork,
    out: torch.Tensor,
    level: torch.Tensor,
    graphs: OperatorGraphs,
    targets: NDArray[np.float64],
    learns: NDArray[np.bool_],
    keeps: NDArray[np.bool_],
    recipe: Recipe,
    seed: int,
    progress: Progress | None,
) -> None:
    batch, epochs = recipe.sizes(len(graphs))
    steps = max(len(graphs) // batch, 1)
    trunk = [weight for name, weight in network.named_parameters() if name not in ("out", "level")]
    optimizer = torch.optim.AdamW([*trunk, out, level], lr=recipe.rate, weight_decay=recipe.decay, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.rate, total_steps=epochs * steps, pct_start=recipe.warm_up
    )
    goal = torch.from_numpy(targets.T.astype(np.float32))[:, :, None]  # (p, graphs, 1), and so the mask
    mask = torch.from_numpy((learns.T[:, :, None] & keeps).astype(np.float32))
    chance = np.random.default_rng(seed % 2**63)
    for epoch in range(epochs):
        if progress is not None:
            progress(epoch, epochs)
        for rows in np.array_split(chance.permutation(len(graphs)), steps):
            collated = collate(graphs[rows], np.zeros(int(graphs.lengths[rows].sum())))
            # A vector for each platform broadcasts over one pass of the trunk: (p, graphs, members).
            said = functional_call(network, {"out": out, "level": level}, (collated,))
            wanted = goal[:, rows].expand_as(said)
            off = functional.huber_loss(said, wanted, delta=recipe.bend, reduction="none") / recipe.bend
            loss = (off * mask[:, rows]).sum() / (len(rows) * len(goal))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_([*trunk, out, level], 5.0)
            optimizer.step()
            schedule.step()
    if progress is not None:
        progress(epochs, epochs)
