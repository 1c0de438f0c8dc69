"""What a compression is asked, checked: the network as it is measured, the target, the budget, the data."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, final, get_args

from leti.compression.budgets import Budget, Speedup, Within
from leti.compression.scores import content_hash
from leti.compression.searching.rivals import PLANNERS
from leti.compression.targets import Target
from leti.compression.training.data import Data
from leti.compression.training.fine_tuning import Recipe
from leti.core.errors import InvalidGraph, InvalidInput
from leti.core.extras import needs
from leti.core.graph import Graph, TensorType
from leti.generator.cost import make_operator
from leti.generator.fusion import fuse
from leti.generator.importers import Imported
from leti.generator.precision import precision_of
from leti.generator.weights import check_weights

with needs("compression"):
    import numpy as np

Method = Literal["quantize", "prune", "low_rank"]
METHODS: Final[tuple[Method, ...]] = get_args(Method)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A compression: ``network`` of batch 1 in float32 with weights, what for, by which means, and how much effort.

    ``recipe`` is that of the fine-tuning of the best plan and its ``rivals`` alike, ``evaluations`` what each search
    among the rivals looks at, and ``held_out`` how many networks more are measured to judge the predictions by.
    """

    network: Imported
    target: Target
    budget: Budget
    data: Data | None
    max_drop: float = 0.005
    methods: tuple[Method, ...] = METHODS
    recipe: Recipe = Recipe(epochs=8)
    rivals: tuple[str, ...] = ("macs", "uniform", "nsga2", "tpe")
    evaluations: int = 300
    held_out: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what no type says; raise :class:`~leti.core.errors.InvalidInput` naming the field."""
        rivals = tuple(name for name in PLANNERS if name != "latency")
        shapes = [tensor_type.shape for tensor_type in self.network.graph.inputs]
        for name, is_right, remedy in (
            ("budget", isinstance(self.budget, (Speedup, Within)), "Speedup(2), or Within(12)"),
            ("data", self.data is None or isinstance(self.data, Data), "a leti.compression.training.data.Data"),
            ("max_drop", math.isfinite(self.max_drop) and 0 <= self.max_drop < 1, "a share of 0 to 1, as 0.005"),
            ("methods", bool(self.methods) and set(self.methods) <= set(METHODS), f"some of {', '.join(METHODS)}"),
            ("rivals", set(self.rivals) <= set(rivals), f"some of {', '.join(rivals)}"),
            ("evaluations", self.evaluations >= 1, "1 or more"),
            ("held_out", self.held_out >= 0, "0 or more"),
            ("model", len(shapes) == 1 and len(shapes[0]) >= 2, "a network of one input of samples"),
            ("model", precision_of(self.network.graph) == "float32", "a network in float32"),
        ):
            if not is_right:
                raise InvalidInput(f"cannot be {getattr(self, name, shapes)!r}", field=name, remedy=remedy)

    def identity(self) -> str:
        """Return what tells networks, targets and data apart; what else is asked, each step adds for itself."""
        hashed = hashlib.sha256(content_hash(self.network).encode())
        hashed.update(self.target.name.encode())
        if self.data is not None:
            for images in self.data.calibrate():
                hashed.update(np.ascontiguousarray(images).data)
            images, classes = next(iter(self.data.evaluate()))
            hashed.update(np.ascontiguousarray(images).data)
            hashed.update(np.ascontiguousarray(classes).data)
        return hashed.hexdigest()

    def samples(self) -> tuple[tuple[Any], ...]:
        """Return calibration inputs, one sample each, as the network of batch 1 takes them."""
        assert self.data is not None  # noqa: S101 - who asks has data
        return tuple((image[None],) for images in self.data.calibrate() for image in images)


def for_one_sample(imported: Imported) -> Imported:
    """Return a network with its weights for a batch of 1, as latencies are measured.

    Raises :class:`~leti.core.errors.InvalidInput` where the network does more with its batch than to keep it.
    """
    graph = imported.graph
    batches = {tensor_type.shape[0] for tensor_type in graph.inputs if tensor_type.shape}
    if len(batches) != 1 or batches == {1}:
        return imported
    (batch,) = batches
    try:
        changed = _in_batches_of_one(graph, batch)
        check_weights(changed, imported.loaded_weights())
    except (InvalidInput, InvalidGraph) as error:
        raise InvalidInput(
            f"does more with its batch of {batch} than to keep it: {error}",
            field="model",
            remedy="export it for a batch of 1",
        ) from error
    return replace(imported, graph=changed)


def _in_batches_of_one(graph: Graph, batch: int) -> Graph:
    ops = []
    for op in graph.ops:
        if op.kind == "constant":
            ops.append(op)
            continue
        attributes = dict(op.attributes)
        shape = attributes.get("shape")
        if isinstance(shape, tuple) and shape[:1] == (batch,):
            attributes["shape"] = (1, *shape[1:])
        made = make_operator(
            op.kind, _one(op.inputs, batch), _one(op.outputs, batch), tuple(sorted(attributes.items()))
        )
        ops.append(made)
    return fuse(Graph(_one(graph.inputs, batch), tuple(ops), graph.wiring, graph.outputs))


def _one(types: Sequence[TensorType], batch: int) -> tuple[TensorType, ...]:
    return tuple(
        TensorType((1, *t.shape[1:]), t.dtype) if len(t.shape) > 1 and t.shape[0] == batch else t for t in types
    )
