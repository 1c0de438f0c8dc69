"""Fine-tuning: a compressed network learns again, from data and from the network that it was made of."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, final

from leti.compression.training.checkpoints import read_checkpoint, write_checkpoint
from leti.compression.training.data import Data
from leti.compression.training.distilling import Lesson, Teacher
from leti.compression.training.executing import NO_TAPS, Network, Taps, executable, threads, weights_of
from leti.core.errors import InvalidInput, TaskFailed
from leti.core.extras import needs
from leti.generator.importers import Imported

with needs("compression"):
    import torch

Penalty = Callable[[Network], torch.Tensor]
"""A term that is added to the loss: of a network's weights, which it gives in the graph's layout."""

Optimizer = Literal["adamw", "sgd"]


@final
@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained: the learning rate rises over a share of the steps, then falls by half a cosine to 0.

    That is "SGDR" (Loshchilov and Hutter, 2017) without restarts. ``checkpointed`` divides the network into so many
    parts whose activations are computed again in the backward pass: "Training Deep Nets with Sublinear Memory Cost"
    (Chen et al., 2016).
    """

    epochs: int = 4
    optimizer: Optimizer = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warmup: float = 0.05
    most_gradient: float = 5.0
    checkpointed: int = 1
    threads: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name, is_right, remedy in (
            ("epochs", 0 <= self.epochs <= 100_000, "0 to 100000"),
            ("optimizer", self.optimizer in _OPTIMIZERS, ", ".join(_OPTIMIZERS)),
            ("learning_rate", math.isfinite(self.learning_rate) and self.learning_rate > 0, "above 0"),
            ("weight_decay", math.isfinite(self.weight_decay) and self.weight_decay >= 0, "not below 0"),
            ("warmup", 0 <= self.warmup < 1, "0 to 1"),
            ("most_gradient", self.most_gradient > 0, "above 0"),
            ("checkpointed", self.checkpointed >= 1, "at least 1"),
            ("threads", self.threads >= 1, "at least 1"),
        ):
            if not is_right:
                raise InvalidInput(f"cannot be {getattr(self, name)!r}", field=f"recipe.{name}", remedy=remedy)

    def rate(self, done: float) -> float:
        """Return the share of the learning rate when a share of all steps is done."""
        if done < self.warmup:
            return done / self.warmup
        return 0.5 * (1 + math.cos(math.pi * (done - self.warmup) / (1 - self.warmup)))


@final
@dataclass(frozen=True, slots=True)
class Epoch:
    """How far training is: the epochs that are done, of how many, and the mean loss of the last."""

    done: int
    epochs: int
    loss: float


def _sgd(parameters: Any, **said: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, momentum=0.9, nesterov=True, **said)


_OPTIMIZERS: Final[Mapping[Optimizer, Callable[..., torch.optim.Optimizer]]] = MappingProxyType(
    {"adamw": torch.optim.AdamW, "sgd": _sgd}
)


def fine_tune(
    imported: Imported,
    data: Data,
    *,
    teacher: Teacher | None = None,
    recipe: Recipe = Recipe(),
    penalty: Penalty | None = None,
    taps: Taps = NO_TAPS,
    prepare: Callable[[Network], None] | None = None,
    progress: Callable[[Epoch], None] | None = None,
    checkpoint: Path | None = None,
) -> Imported:
    """Return a classifier trained on from its weights, with a teacher where there is one.

    ``taps`` change values on their way (see :func:`~leti.compression.training.executing.executable`), and ``prepare``
    may change the network before it trains, as by parametrizing its weights. After each epoch ``progress`` is told, and
    the state is written to ``checkpoint``, an .npz file: a run of the same network, teacher, recipe and data goes on
    from there, and ends as if it had never stopped. Biases, norms and the weights that lie in vectors do not decay.
    Raises :class:`~leti.core.errors.InvalidInput` for what does not fit, and :class:`~leti.core.errors.TaskFailed`
    where the loss is no number any more.
    """
    if prepare is not None and recipe.checkpointed > 1:
        raise InvalidInput("cannot be of a network that is changed", field="recipe.checkpointed", remedy="give 1")
    lesson = Lesson(imported.graph, teacher, recipe.seed)
    network = executable(imported, values=lesson.values, taps=taps, segments=recipe.checkpointed)
    if prepare is not None:
        prepare(network)
    modules = torch.nn.ModuleDict({"network": network, **({"hints": lesson.hints} if lesson.hints else {})})
    optimizer = _optimizer(modules, recipe)
    run = _digest(imported, teacher, recipe)
    first = read_checkpoint(checkpoint, run, modules, optimizer) if checkpoint is not None else 0
    with threads(recipe.threads):
        for epoch in range(first, recipe.epochs):
            loss = _epoch(network, lesson, data, optimizer, recipe, penalty, epoch)
            if checkpoint is not None:
                write_checkpoint(checkpoint, run, epoch + 1, modules, optimizer)
            if progress is not None:
                progress(Epoch(epoch + 1, recipe.epochs, loss))
    return weights_of(network, imported)


def _optimizer(modules: torch.nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    parameters = list(modules.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return _OPTIMIZERS[recipe.optimizer]([group for group in groups if group["params"]], lr=recipe.learning_rate)


def _epoch(
    network: Network,
    lesson: Lesson,
    data: Data,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    penalty: Penalty | None,
    epoch: int,
) -> float:
    """Train for an epoch; return the mean loss of its samples."""
    total, count = 0.0, 0
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, (images, classes) in enumerate(data.train(epoch)):
        done = (epoch + min((number + 1) / data.batches, 1.0)) / recipe.epochs
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * recipe.rate(done)
        given, aims = torch.from_numpy(images), torch.from_numpy(classes).long()
        made = network(given)[-len(lesson.values) :]
        loss = lesson.loss(given, aims, made)
        if penalty is not None:
            loss = loss + penalty(network)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, recipe.most_gradient)
        optimizer.step()
        total, count = total + float(loss.detach()) * len(images), count + len(images)
    if not math.isfinite(total):
        raise TaskFailed(f"the loss is no number in epoch {epoch + 1}", remedy="give a smaller learning rate")
    if not count:
        raise InvalidInput("has nothing to train with", field="data.train")
    return total / count


def _digest(imported: Imported, teacher: Teacher | None, recipe: Recipe) -> str:
    """Return what a run is known by: its networks, with all their weights, and how it trains."""
    hashed = hashlib.sha256(repr(recipe).encode())
    for network in (imported, *((teacher.imported,) if teacher else ())):
        hashed.update(network.graph.fingerprint().encode())
        for arrays in network.weights or ():
            for array in arrays:
                hashed.update(array.tobytes())
    if teacher:
        hashed.update(repr((teacher.temperature, teacher.share, teacher.hints, teacher.hint_weight)).encode())
    return hashed.hexdigest()
