"""Two stages of MUSCO against one on scikit-learn's digits: python benchmarks/low_rank.py.

A network is trained on jittered digits, then compressed to the same ranks in two ways: at once, or in two stages with
half of the fine-tuning after each. Both have the same epochs in all, of the same data. Prints the accuracies on
5,373 images of 597 digits that were not trained with, by seed, and the paired difference with 95 % of its normal
distribution; that takes images for independent, which nine of one digit are not, and is too narrow.
"""

import argparse
import math
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from itertools import count

import numpy as np

from leti.compression.low_rank.applying import LowRank
from leti.compression.low_rank.musco import FineTune, Target, compress_in_stages
from leti.compression.low_rank.rules import by_reduction
from leti.compression.training.data import Data, Labelled, digits
from leti.compression.training.executing import outputs
from leti.compression.training.fine_tuning import Recipe, fine_tune
from leti.core.graph import TensorType
from leti.generator.builder import GraphBuilder
from leti.generator.importers import Imported
from leti.generator.weights import random_weights


def network(seed: int) -> Imported:
    """Return an untrained network of five convolutions for digits of 32×32."""
    builder = GraphBuilder(TensorType((64, 32, 32, 1)))
    value = 0
    for channels, stride in ((32, 2), (64, 1), (64, 2), (96, 1), (96, 2)):
        value = builder.relu(builder.conv(value, channels, 3, stride))
    graph = builder.graph(builder.fully_connected(builder.global_mean(value), 10))
    return Imported(graph, tuple(op.kind for op in graph.ops), random_weights(graph, seed))


def right(imported: Imported, data: Data) -> np.ndarray:
    """Say of each image whether the network names its digit."""
    return np.concatenate([outputs(imported, [images])[0].argmax(1) == classes for images, classes in data.evaluate()])


def in_parts(data: Data, recipe: Recipe) -> FineTune:
    """Return a fine-tuning that goes on with the data, at each call, where it was at the end of the last."""
    parts = (replace(data, train=partial(from_epoch, data, part * recipe.epochs)) for part in count())
    return lambda imported: fine_tune(imported, next(parts), recipe=recipe)


def from_epoch(data: Data, first: int, epoch: int) -> Iterable[Labelled]:
    """Return the batches of an epoch, counted from another than the first."""
    return data.train(first + epoch)


def main() -> None:
    """Compare, seed by seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6, help="of fine-tuning, in all")
    parser.add_argument("--factors", type=float, nargs="+", default=[6.0], help="of fewer parameters a layer")
    arguments = parser.parse_args()
    for seed in range(arguments.seeds):
        data = digits(seed=seed)
        base = fine_tune(network(seed), data, recipe=Recipe(epochs=15, learning_rate=2e-3, seed=seed))
        print(f"seed {seed}: base {right(base, data).mean():.2%}", flush=True)
        for factor in arguments.factors:
            half = arguments.epochs // 2
            rule, tune = by_reduction(math.sqrt(factor)), in_parts(data, Recipe(epochs=half, seed=seed))
            *_, (progress, twice) = compress_in_stages(base, rule, tune, Target(), most_stages=2)
            ranks = progress.stages[-1].ranks
            untuned = LowRank.of(base).again(ranks).imported
            once = fine_tune(untuned, data, recipe=Recipe(epochs=2 * half, seed=seed))
            assert once.graph == twice.graph
            found = [right(each, data) for each in (untuned, once, twice)]
            gained = found[2].mean() - found[1].mean()
            deviation = math.sqrt(float(np.var(found[2].astype(float) - found[1])) / len(found[1]))
            print(
                f"  {base.graph.macs / once.graph.macs:.2f}x fewer MACs: untuned {found[0].mean():.2%}, "
                f"one stage {found[1].mean():.2%}, two {found[2].mean():.2%}, "
                f"two less one {gained * 100:+.2f} ± {196 * deviation:.2f} points",
                flush=True,
            )


if __name__ == "__main__":
    main()
