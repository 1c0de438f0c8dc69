"""Training: all members of a graph network at once, each on its own part of the examples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from leti.core.extras import needs
from leti.core.prediction import Progress
from leti.predictors.batch import Vector
from leti.predictors.gcn.architecture import Architecture
from leti.predictors.gcn.collation import collate
from leti.predictors.gcn.graphs import OperatorGraphs
from leti.predictors.gcn.network import GraphNetwork
from leti.predictors.gcn.recipe import Recipe

with needs("gcn"):
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch.nn import functional


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread inside the block: threads that spin on busy cores cost ten times and more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train(
    architecture: Architecture,
    graphs: OperatorGraphs,
    base_ms: Vector,
    targets: Vector,
    learns: NDArray[np.bool_],
    recipe: Recipe,
    *,
    seed: int,
    progress: Progress,
    overhead_ms: float = 1.0,
) -> dict[str, NDArray[np.float32]]:
    """Return the weights of a network that says ``targets`` (graphs,) of graphs whose nodes start at ``base_ms`` (n,).

    ``learns`` (graphs, members) says which member learns from which graph. The same arguments give the same weights;
    torch's own generator and number of threads are as before afterwards.
    """
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        network = GraphNetwork(architecture)
        if architecture.head == "priced":
            with torch.no_grad():
                network.overhead.fill_(float(np.log(overhead_ms)))
        _descend(network, graphs, base_ms, targets, learns, recipe, seed, progress)
        return {name: weight.numpy().copy() for name, weight in network.state_dict().items()}


def _descend(
    network: GraphNetwork,
    graphs: OperatorGraphs,
    base_ms: Vector,
    targets: Vector,
    learns: NDArray[np.bool_],
    recipe: Recipe,
    seed: int,
    progress: Progress,
) -> None:
    batch, epochs = recipe.sizes(len(graphs))
    steps = max(len(graphs) // batch, 1)
    optimizer = torch.optim.AdamW(_decayed(network, recipe.decay), lr=recipe.rate, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.rate, total_steps=epochs * steps, pct_start=recipe.warm_up
    )
    goal, mask = (torch.from_numpy(array.astype(np.float32)) for array in (targets, learns))
    chance = np.random.default_rng(seed % 2**63)
    for epoch in range(epochs):
        progress(epoch, epochs)
        for rows in np.array_split(chance.permutation(len(graphs)), steps):
            loss = _loss(network, graphs[rows], base_ms[graphs.nodes(rows)], goal[rows], mask[rows], recipe.bend)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            schedule.step()
    progress(epochs, epochs)


def _loss(
    network: GraphNetwork,
    graphs: OperatorGraphs,
    base_ms: Vector,
    goal: torch.Tensor,
    mask: torch.Tensor,
    bend: float,
) -> torch.Tensor:
    """Return Huber's loss, the mean over graphs and the sum over the members that learn from them."""
    said = network(collate(graphs, base_ms))
    off = functional.huber_loss(said, goal[:, None].expand_as(said), delta=bend, reduction="none") / bend
    return (off * mask).sum() / len(goal)


def _decayed(network: GraphNetwork, decay: float) -> list[dict[str, object]]:
    """Return the weights in two groups: all decay but the overhead, whose zero is one millisecond and no less."""
    free = [weight for name, weight in network.named_parameters() if name == "overhead"]
    others = [weight for name, weight in network.named_parameters() if name != "overhead"]
    return [{"params": others, "weight_decay": decay}, {"params": free, "weight_decay": 0.0}]
