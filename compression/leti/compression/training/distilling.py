"""Knowledge distillation: what a network learns from the one that it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from leti.compression.training.executing import executable
from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.core.graph import Graph
from leti.generator.importers import Imported

with needs("compression"):
    import torch
    from torch.nn import functional


@final
@dataclass(frozen=True, slots=True)
class Teacher:
    """A network to learn from, and how much.

    ``share`` of the loss is the teacher's logits at a ``temperature``, the rest the classes. ``hints`` are values of
    the student with values of the teacher that they are to be like, by their numbers in the graphs; ``hint_weight`` is
    what their mean squared error counts.
    """

    imported: Imported
    temperature: float = 4.0
    share: float = 0.9
    hints: tuple[tuple[int, int], ...] = ()
    hint_weight: float = 1.0

    def __post_init__(self) -> None:
        """Check that temperature and shares are such."""
        if not (self.temperature > 0 and 0 <= self.share <= 1 and self.hint_weight >= 0):
            raise InvalidInput("has a temperature above 0, a share of 0 to 1, a weight not below 0", field="teacher")


def logits_value(graph: Graph) -> int:
    """Return the value that holds a classifier's logits: its first output, or what a softmax makes it of.

    The logarithm of a softmax is as good as logits.
    """
    value = graph.outputs[0]
    for op, sources, made in zip(graph.ops, graph.wiring, graph.first_values(), strict=True):
        if made == value and op.kind == "softmax":
            return sources[0]
    return value


def logits_loss(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the divergence of two networks' logits (batch, classes) at a temperature, times its square.

    "Distilling the Knowledge in a Neural Network" (Hinton et al., 2015): with the square, gradients are of one size at
    any temperature.
    """
    soft = functional.log_softmax(student / temperature, dim=-1)
    aim = functional.log_softmax(teacher / temperature, dim=-1)
    return functional.kl_div(soft, aim, reduction="batchmean", log_target=True) * temperature**2


@final
class Hints(torch.nn.Module):
    """The distance of a student's values to its teacher's, by a map of channels that is learned where they differ.

    "FitNets: Hints for Thin Deep Nets" (Romero et al., 2015). A value lies with its channels last.
    """

    def __init__(self, student: Graph, teacher: Teacher, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self._maps = torch.nn.ModuleList()
        for i, (own, its) in enumerate(teacher.hints):
            shapes = [_shape(student, own, f"hints[{i}][0]"), _shape(teacher.imported.graph, its, f"hints[{i}][1]")]
            if shapes[0][1:-1] != shapes[1][1:-1]:
                raise InvalidInput(f"must be images of one size, not {shapes[0]} and {shapes[1]}", field=f"hints[{i}]")
            alike = shapes[0][-1] == shapes[1][-1]
            self._maps.append(torch.nn.Identity() if alike else _drawn(shapes[0][-1], shapes[1][-1], generator))

    def forward(self, student: Sequence[torch.Tensor], teacher: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the mean of the mean squared errors, each over the mean square of what the teacher makes."""
        losses = [
            functional.mse_loss(mapped(own), its) / its.square().mean().clamp(min=1e-12)
            for mapped, own, its in zip(self._maps, student, teacher, strict=True)
        ]
        return torch.stack(losses).mean()


@final
class Lesson:
    """The loss of a batch: against the classes, and against what the teacher makes of it."""

    def __init__(self, student: Graph, teacher: Teacher | None, seed: int) -> None:
        self._teacher = teacher
        self._network = None
        self.hints: Hints | None = None
        self.values: tuple[int, ...] = (logits_value(student),)
        if teacher is not None:
            wanted = (logits_value(teacher.imported.graph), *(its for _, its in teacher.hints))
            self._outputs = len(teacher.imported.graph.outputs)
            self._network = executable(teacher.imported, values=wanted).requires_grad_(False)
            if teacher.hints:
                self.hints = Hints(student, teacher, seed)
                self.values += tuple(own for own, _ in teacher.hints)

    def loss(self, images: torch.Tensor, classes: torch.Tensor, made: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the loss where the student's ``values`` are ``made`` of a batch."""
        hard = functional.cross_entropy(made[0], classes)
        if self._teacher is None or self._network is None:
            return hard
        with torch.no_grad():
            aims = self._network(images)[self._outputs :]
        soft = logits_loss(made[0], aims[0], self._teacher.temperature)
        loss = (1 - self._teacher.share) * hard + self._teacher.share * soft
        if self.hints is not None:
            loss = loss + self._teacher.hint_weight * self.hints(made[1:], aims[1:])
        return loss


def _shape(graph: Graph, value: int, where: str) -> tuple[int, ...]:
    types = graph.value_types
    if not 0 <= value < len(types):
        raise InvalidInput(f"there is no value {value}", field=where, remedy=f"0 to {len(types) - 1}")
    return types[value].shape


def _drawn(given: int, made: int, generator: torch.Generator) -> torch.nn.Linear:
    mapped = torch.nn.Linear(given, made, bias=False)
    with torch.no_grad():
        mapped.weight.copy_(torch.randn(mapped.weight.shape, generator=generator) / given**0.5)
    return mapped
