"""Harms: how much the loss rises by each candidate alone, on data where there are some, of the weights where not.

Rises are summed as they are, of networks that are fitted to samples: on digits that ranked plans best, before training
and after, beside powers of the rises, divergences, and networks that are merely cut (``benchmarks/harming.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from leti.compression.low_rank.ranks import truncation_errors
from leti.compression.pruning.criteria import filters, importance
from leti.compression.scores import Progress, Score, Scores
from leti.compression.searching.proposals import Proposals
from leti.compression.training.data import Data
from leti.compression.training.distilling import logits_value
from leti.compression.training.executing import executable, threads
from leti.core.codec import to_json
from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.core.patches import Patch
from leti.generator.importers import Imported
from leti.generator.weights import Array

with needs("compression"):
    import numpy as np
    import torch
    from torch.nn import functional

SAMPLES: Final = 512
"""Images that a loss is taken on."""

_BATCH: Final = 64

Build = Callable[[Imported, Patch], Imported]
"""Makes the network of a patch, as :func:`~leti.compression.building.built` does with what it is told."""


def harms(
    imported: Imported,
    found: Proposals,
    score: Score,
    build: Build,
    *,
    cache: Path | None = None,
    evaluation: str = "",
    progress: Progress | None = None,
) -> tuple[tuple[float, ...], ...]:
    """Return by how much a score rises with each candidate of each place alone, 0 of the unchanged one.

    ``score`` is a loss, ``build`` what makes each network. ``cache`` is a folder of scores: what is broken off goes on
    where it was. ``evaluation`` must then name the loss, the data, and how networks are built. Rises may be negative,
    by noise.
    """
    total = 1 + sum(len(place.patches) - 1 for place in found.places)
    scores = Scores(imported, score, cache=cache, evaluation=evaluation, progress=progress, total=total)
    base = scores.of(None, lambda: imported)
    return tuple(
        (0.0, *(scores.of(to_json(patch), partial(build, imported, patch)) - base for patch in place.patches[1:]))
        for place in found.places
    )


def cross_entropy(data: Data, *, samples: int = SAMPLES) -> Score:
    """Return the loss of a classifier on the first images that are trained with."""
    batches, count = [], 0
    for images, classes in data.train(0):
        batches.append((images[: samples - count], classes[: samples - count]))
        count += len(batches[-1][0])
        if count >= samples:
            break
    if not count:
        raise InvalidInput("has nothing to train with", field="data.train")
    given, aims = [images for images, _ in batches], [torch.from_numpy(classes).long() for _, classes in batches]

    def loss(imported: Imported) -> float:
        made = _logits(imported, given)
        found = [functional.cross_entropy(one, aim, reduction="sum") for one, aim in zip(made, aims, strict=True)]
        return float(sum(found)) / count

    return loss


def divergence(imported: Imported, inputs: Array) -> Score:
    """Return the divergence of a network's classes from those of ``imported``, on inputs without labels.

    It is Kullback and Leibler's, of this network to another, in nats a sample; ``inputs`` are ``(samples, ...)``.
    """
    given = [inputs[start : start + _BATCH] for start in range(0, len(inputs), _BATCH)]
    if not given:
        raise InvalidInput("are none", field="inputs")
    aims = [functional.log_softmax(logits, dim=-1) for logits in _logits(imported, given)]

    def loss(other: Imported) -> float:
        made = [functional.log_softmax(logits, dim=-1) for logits in _logits(other, given)]
        found = [
            functional.kl_div(one, aim, reduction="sum", log_target=True) for one, aim in zip(made, aims, strict=True)
        ]
        return float(sum(found)) / len(inputs)

    return loss


def weight_errors(imported: Imported, found: Proposals, *, criterion: str = "l1") -> tuple[tuple[float, ...], ...]:
    """Return the share of the squared weights that each candidate of each place loses: what is known without data.

    Channels go by a ``criterion`` that needs none; what ranks lose is what HOSVD does.
    """
    return tuple(
        tuple(_lost(imported, found, place.group, patch, criterion) for patch in place.patches)
        for place in found.places
    )


def _lost(imported: Imported, found: Proposals, number: int | None, patch: Patch, criterion: str) -> float:
    left = 1.0
    if patch.widths and number is not None:
        group = found.patching.channels.groups[number]
        (width,) = patch.widths.values()
        chosen = np.argsort(-importance(imported, group, criterion), kind="stable")[:width]
        squares = np.square(filters(imported, group)).sum(axis=1)
        left *= float(squares[chosen].sum() / (squares.sum() or 1.0))
    lost, whole = 0.0, 0.0
    for operator, ranks in patch.ranks.items():
        kernel = imported.loaded_weights()[operator][0]
        size = float(np.square(kernel, dtype=np.float64).sum())
        lost, whole = lost + size * float(truncation_errors(kernel, [ranks])[0]) ** 2, whole + size
    return 1 - left * (1 - (lost / whole if whole else 0.0))


def _logits(imported: Imported, batches: Iterable[Array]) -> Sequence[torch.Tensor]:
    network = executable(imported, values=(logits_value(imported.graph),))
    with threads(1), torch.inference_mode():
        return [network(torch.from_numpy(np.ascontiguousarray(images)))[-1] for images in batches]
