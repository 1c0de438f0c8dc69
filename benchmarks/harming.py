"""What a plan's harm says of it: python benchmarks/harming.py [--seeds 2] [--plans 16] [--epochs 1] [--folder scores].

A network of six convolutions learns scikit-learn's digits. Each change that a search may make is scored alone, by
several measures of harm; then plans are drawn at random, all of about a third of the multiply-accumulates, built, and
trained on for an epoch or so. Told is how well the sum of a plan's harms, each to a power, ranks what the plans get
right of 5,373 images that were not trained with (Spearman), and how the plan does that is the best by that sum.
"""

import argparse
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from leti.compression.building import built
from leti.compression.reconstructing import Reference
from leti.compression.searching.candidates import Costs, Group, Plan, Problem, priced
from leti.compression.searching.harming import Build, cross_entropy, divergence, harms, weight_errors
from leti.compression.searching.proposals import Proposals, proposals
from leti.compression.searching.solver import solve
from leti.compression.training.comparing import accuracy
from leti.compression.training.data import Data, digits
from leti.compression.training.distilling import Teacher
from leti.compression.training.fine_tuning import Recipe, fine_tune
from leti.core.graph import TensorType
from leti.core.patches import Patch
from leti.generator.builder import GraphBuilder
from leti.generator.compressing.patching import Patching
from leti.generator.importers import Imported
from leti.generator.weights import random_weights

POWERS = (0.5, 1.0, 2.0)
FACTOR = 3.0
NEAR = 0.1


def network(seed: int) -> Imported:
    """Return an untrained network of six convolutions for digits of 32×32."""
    builder = GraphBuilder(TensorType((1, 32, 32, 1)))
    value = 0
    for channels, stride in ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (96, 2)):
        value = builder.relu(builder.conv(value, channels, 3, stride))
    graph = builder.graph(builder.fully_connected(builder.global_mean(value), 10))
    return Imported(graph, tuple(op.kind for op in graph.ops), random_weights(graph, seed))


def macs_of(patching: Patching, patches: Sequence[Patch]) -> Costs:
    """Price patches by their multiply-accumulates alone."""
    macs = [float(patching.patched(patch).graph.macs) for patch in patches]
    return Costs.of(macs, macs=macs)


def with_harms(problem: Problem, rises: Sequence[Sequence[float]], power: float) -> Problem:
    """Return a problem whose candidates harm as told, to a power."""
    groups = tuple(
        Group.of(group.patches, group.costs, np.maximum(rise, 0) ** power, group.kept)
        for group, rise in zip(problem.groups, rises, strict=True)
    )
    return replace(problem, groups=groups)


def drawn(problem: Problem, count: int, seed: int) -> list[Plan]:
    """Draw plans of about a third of the multiply-accumulates."""
    rng, aim = random.Random(seed), problem.dense().macs / FACTOR
    plans: list[Plan] = []
    while len(plans) < count:
        plan = problem.plan([rng.randrange(len(group.patches)) for group in problem.groups])
        if abs(plan.macs / aim - 1) < NEAR:
            plans.append(plan)
    return plans


@dataclass(frozen=True, slots=True)
class Trial:
    """A trained network, and what is asked of plans for it."""

    base: Imported
    data: Data
    epochs: int
    builds: dict[str, Build]

    def judged(self, patch: Patch) -> tuple[float, float]:
        """Return what a plan gets right as it is built, and after training."""
        made = self.builds["fitted"](self.base, patch)
        recipe = Recipe(epochs=self.epochs)
        tuned = fine_tune(made, self.data, teacher=Teacher(self.base), recipe=recipe)
        return accuracy(made, self.data), accuracy(tuned, self.data)


def measures(trial: Trial, found: Proposals, inputs: np.ndarray, folder: Path | None, seed: int) -> dict[str, tuple]:
    """Return the harms of all candidates by each measure, and print how long they take."""
    every: dict[str, tuple] = {"weights": weight_errors(trial.base, found)}
    losses: dict[str, Callable] = {
        "cross entropy": cross_entropy(trial.data),
        "divergence": divergence(trial.base, inputs),
    }
    for loss, score in losses.items():
        for way, build in trial.builds.items():
            started = time.perf_counter()
            name = f"{loss}, {way}"
            every[name] = harms(trial.base, found, score, build, cache=folder, evaluation=f"{name}, digits {seed}")
            count = sum(map(len, every[name])) - len(every[name])
            print(f"  {name}: {count} candidates in {time.perf_counter() - started:.1f} s", flush=True)
    return every


def main() -> None:
    """Compare measures of harm, seed by seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--plans", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keeps scores and training, for another run")
    asked = parser.parse_args()
    ranks: dict[tuple[str, float], list[tuple[float, float]]] = {}
    for seed in range(asked.seeds):
        data = digits(seed=seed)
        checkpoint = None if asked.folder is None else asked.folder / f"base-{seed}.npz"
        if asked.folder is not None:
            asked.folder.mkdir(parents=True, exist_ok=True)
        base = fine_tune(network(seed), data, recipe=Recipe(epochs=40, learning_rate=3e-3), checkpoint=checkpoint)
        print(f"seed {seed}: {accuracy(base, data):.2%} of the digits are right", flush=True)
        inputs = np.concatenate(list(data.calibrate()))
        trial = Trial(
            base, data, asked.epochs, {"cut": built, "fitted": partial(built, reference=Reference.of(base, inputs))}
        )
        found = proposals(base)
        every = measures(trial, found, inputs, asked.folder, seed)
        price = partial(macs_of, found.patching)
        problem = priced(found.candidates(every["weights"]), found.neighbours, price, fit=found.fit)
        plans = drawn(problem, asked.plans, seed)
        results = [trial.judged(problem.patch(plan)) for plan in plans]
        for before, after in results:
            print(f"    {before:.2%} -> {after:.2%}", flush=True)
        for name, rises in every.items():
            for power in POWERS:
                changed = with_harms(problem, rises, power)
                sums = [changed.plan(plan.choices).sensitivity for plan in plans]
                ranked = tuple(-float(spearmanr(sums, column).statistic) for column in zip(*results, strict=True))
                ranks.setdefault((name, power), []).append((ranked[0], ranked[1]))
        for name, rises in every.items():
            best = (
                solve(with_harms(problem, rises, 1.0), [problem.dense().macs / FACTOR], measure="macs").solved[0].plan
            )
            if best is not None:
                before, after = trial.judged(problem.patch(best))
                print(f"  best by {name}: {before:.2%} -> {after:.2%}", flush=True)
    for (name, power), rows in ranks.items():
        told = "  ".join(f"{before:5.2f} {after:5.2f}" for before, after in rows)
        print(f"{name:22} ^{power:<4g} {told}   mean {np.mean(rows, axis=0).round(2)}")


if __name__ == "__main__":
    main()
