"""Plans become networks: built, trained with the network as it is for a teacher, written and judged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, final

from leti.compression.building import built
from leti.compression.reconstructing import Reference
from leti.compression.results import Candidate
from leti.compression.steps.precision import better_quantised
from leti.compression.steps.run import Run
from leti.compression.training.comparing import paired
from leti.core.device import ModelPrecision
from leti.core.extras import needs
from leti.core.graph import Graph
from leti.core.patches import Patch
from leti.generator.compressing.groups import channel_groups
from leti.generator.importers import Imported

with needs("compression"):
    import numpy as np

TWO_STAGES: Final = 2.0
"""Factors beyond which a network is made smaller in two stages, if that is better."""

_SURE: Final = 0.05  # of the paired test: how rarely chance alone makes two stages better


@final
@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A plan's network in float32, its file in the precision of the search, and what the file gets right.

    ``how`` says what was done beyond the usual, and ``kept`` operators stay in float32.
    """

    candidate: Candidate
    network: Imported
    content: bytes
    graph: Graph
    right: Any
    how: str = ""
    kept: tuple[int, ...] = ()


def trained(run: Run, candidate: Candidate, precision: ModelPrecision, *, epochs: int) -> Trained:
    """Return a plan's network: fitted to what it was made of and fine-tuned, or as its weights are without data."""
    made = _built(run, run.asked.network, candidate.patch)
    if run.asked.data is not None and epochs:
        made = run.tuned(made, epochs=epochs)
    return _judged(run, candidate, made, precision, epochs)


def trained_in_stages(run: Run, once: Trained, precision: ModelPrecision) -> Trained:
    """Return the better of a network that was made small at once and the same plan in two stages.

    MUSCO's way (Gusak et al., 2019), and NetAdapt's (Yang et al., 2018): half of the training comes when the channels
    are half way, by a geometric mean, to those of the plan. Two stages are taken where they get more right and chance
    would do so one time in twenty.
    """
    candidate, epochs = once.candidate, once.candidate.epochs
    if run.asked.data is None or epochs < 2 or not candidate.patch.widths:
        return once
    halfway = _halfway(run.asked.network.graph, candidate.patch)
    first = run.tuned(_built(run, run.asked.network, halfway), epochs=epochs // 2)
    second = run.tuned(_built(run, first, candidate.patch), epochs=epochs - epochs // 2)
    twice = _judged(run, candidate, second, precision, epochs)
    compared = paired(once.right, twice.right)
    is_better = compared.difference > 0 and compared.p_value < _SURE
    run.notes.append(
        f"In two stages the plan gets {twice.right.mean():.2%} right, at once {once.right.mean():.2%} "
        f"(paired test: p = {compared.p_value:.2g}). {'Two stages are' if is_better else 'One stage is'} taken."
    )
    return replace(twice, how="in two stages") if is_better else once


def trained_longer(run: Run, once: Trained, precision: ModelPrecision) -> Trained:
    """Return a network that was trained as long again twice over, or as it was where that gets no more right."""
    epochs = 2 * once.candidate.epochs
    if run.asked.data is None or not epochs:
        return once
    made = run.tuned(once.network, epochs=epochs, rate=0.5)
    longer = _judged(run, once.candidate, made, precision, once.candidate.epochs + epochs)
    run.notes.append(
        f"Trained on over {epochs} epochs more it gets {longer.right.mean():.2%} right, before {once.right.mean():.2%}."
    )
    return longer if longer.right.mean() > once.right.mean() else once


def _judged(run: Run, candidate: Candidate, network: Imported, precision: ModelPrecision, epochs: int) -> Trained:
    if precision != "float32":
        found = better_quantised(run, network, precision)
        content, graph, right = found.content, found.graph, found.right
    else:
        content, graph = run.file(network), network.graph
        right = None if run.asked.data is None else run.right("training", network)
    tuned_epochs = 0 if run.asked.data is None else epochs
    accuracy = None if right is None else float(right.mean())
    known = replace(candidate, accuracy=accuracy, size_bytes=len(content), epochs=tuned_epochs)
    return Trained(known, network, content, graph, right)


def _built(run: Run, network: Imported, patch: Patch) -> Imported:
    """Return the network of a patch in float32, fitted to the one that it is made of where there are data."""
    reference = None
    if run.asked.data is not None:
        inputs = np.concatenate(list(run.asked.data.calibrate()))
        reference = Reference.of(network, inputs, seed=run.asked.seed)
    return built(network, replace(patch, precision=""), reference=reference, seed=run.asked.seed)


def _halfway(graph: Graph, patch: Patch) -> Patch:
    channels: Mapping[int, int] = {
        member: group.channels for group in channel_groups(graph) for member in group.members
    }
    return Patch(widths={n: round(math.sqrt(width * channels[n])) for n, width in patch.widths.items()})
