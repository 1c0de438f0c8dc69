"""Reduced-order networks beside weight SVD: python benchmarks/reduced_order.py [--seeds 0 1 2 3 4] [--distorted].

A perceptron of three hidden layers of 256 learns two thirds of scikit-learn's digits (8×8). It is reduced without
fine-tuning to a tenth of its multiply-accumulates, by its order and by SVD of its weights, and judged with both on the
other third. With ``--distorted`` each digit stands several times, turned, moved and made noisy: noise has many
dimensions. The interval of a difference is a bootstrap of the digits, all images of one together. Latencies are
LiteRT's for one image, in float32 on one thread, each network in turn.
"""

import argparse
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ai_edge_litert.interpreter import Interpreter
from scipy.ndimage import affine_transform
from sklearn.datasets import load_digits

from leti.compression.low_rank.applying import decomposed
from leti.compression.reduced_order import ReducedLayer, ReducedOrder, reduce_order_to
from leti.compression.training.executing import executable, outputs, weights_of
from leti.core.graph import TensorType
from leti.generator.export.tflite import export_tflite
from leti.generator.importers import Imported
from leti.generator.importers.draft import Constant, Draft
from leti.generator.weights import Array

FACTOR = 10.0
BOOTSTRAPS = 2000
PASSES = 200


@dataclass(frozen=True, slots=True)
class Digits:
    """Images (samples, 64), labels, and which digit each image was made of, to fit and to judge."""

    fit: Array
    fit_labels: Array
    judge: Array
    judge_labels: Array
    judge_origins: Array


def digits(seed: int, fit_copies: int = 1, judge_copies: int = 1) -> Digits:
    """Return two thirds of the digits to fit and a third to judge, each so many times; once is as it is."""
    images, labels = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(images))
    fit, judge = np.repeat(order[:1200], fit_copies), np.repeat(order[1200:], judge_copies)
    made = [
        np.stack([distorted(images[i] / 16, rng) for i in part]) if copies > 1 else images[part] / 16
        for part, copies in ((fit, fit_copies), (judge, judge_copies))
    ]
    return Digits(made[0].astype(np.float32), labels[fit], made[1].astype(np.float32), labels[judge], judge)


def distorted(image: Array, rng: np.random.Generator) -> Array:
    """Return a digit (64,) turned by up to 12°, moved by up to half a pixel, with noise."""
    angle, middle = np.deg2rad(rng.uniform(-12, 12)), np.array((3.5, 3.5))
    turn = np.array(((np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle)))) * rng.uniform(0.92, 1.08)
    moved = middle - turn @ middle + rng.uniform(-0.5, 0.5, 2)
    made = affine_transform(image.reshape(8, 8), turn, offset=moved, order=1).reshape(-1)
    return np.asarray(made + rng.normal(0, 0.05, 64))


def perceptron(seed: int, widths: Sequence[int] = (256, 256, 256, 10)) -> Imported:
    """Return a perceptron as PyTorch begins one."""
    torch.manual_seed(seed)
    draft = Draft()
    value, size = draft.input(TensorType((1, 64))), 64
    for i, width in enumerate(widths):
        layer = torch.nn.Linear(size, width)
        weights = [Constant.of(layer.weight.detach().numpy()), Constant.of(layer.bias.detach().numpy())]
        made = TensorType((1, width))
        value, size = draft.place("fully_connected", (value,), made, weights=weights, name=f"dense_{i}"), width
        if i < len(widths) - 1:
            value = draft.place("relu", (value,), made, name=f"relu_{i}")
    draft.outputs.append(value)
    return draft.finish(weights=True)


def trained(imported: Imported, data: Digits, epochs: int) -> Imported:
    """Return the network after some epochs of Adam."""
    network = executable(imported)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    images, labels = torch.from_numpy(data.fit), torch.from_numpy(data.fit_labels)
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(len(images)), 64):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(network(images[batch])[0], labels[batch]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return weights_of(network, imported)


def hits(imported: Imported, data: Digits) -> Array:
    """Return which images are recognised, (samples,)."""
    return np.asarray(outputs(imported, (data.judge,))[0].argmax(1) == data.judge_labels)


def reduced(whole: Imported, data: Digits) -> ReducedOrder:
    """Return the network reduced to a tenth of its multiply-accumulates, by up to 2,000 of the images fitted to."""
    calibration = data.fit[:: max(1, len(data.fit) // 2000)]
    return reduce_order_to(whole, calibration, int(whole.graph.macs / FACTOR), first=0)


def weight_svd(whole: Imported, macs: int) -> Imported:
    """Return the network whose hidden layers are two factors each, of the largest rank with at most so many MACs."""
    hidden = [i for i, op in enumerate(whole.graph.ops) if op.kind == "fully_connected"][:-1]
    last = whole.graph.ops[-1].macs
    per_rank = sum(op.inputs[0].elements + op.outputs[0].elements for op in (whole.graph.ops[i] for i in hidden))
    return decomposed(whole, dict.fromkeys(hidden, ((macs - last) // per_rank,)))


def interval(changes: Array, origins: Array, seed: int = 0) -> tuple[float, float]:
    """Return the central 95 % of the mean change, by bootstrap of the digits that images were made of."""
    _, place = np.unique(origins, return_inverse=True)
    sums, counts = np.bincount(place, changes), np.bincount(place)
    drawn = np.random.default_rng(seed).integers(0, len(sums), (BOOTSTRAPS, len(sums)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def latencies_us(networks: Mapping[str, Imported]) -> dict[str, float]:
    """Return the median over passes of the time of one image, the networks in turn in each pass."""
    interpreters: dict[str, Any] = {}
    for name, network in networks.items():
        model = export_tflite(network.graph, weights=network.weights)
        interpreters[name] = Interpreter(model_content=model, num_threads=1)
        interpreters[name].allocate_tensors()
    times: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(PASSES):
        for name, interpreter in interpreters.items():
            interpreter.invoke()
            start = time.perf_counter()
            for _ in range(50):
                interpreter.invoke()
            times[name].append((time.perf_counter() - start) / 50 * 1e6)
    return {name: statistics.median(each) for name, each in times.items()}


def main() -> None:
    """Print a table, a seed and network a row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--distorted", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"load {os.getloadavg()[0]:.1f}")
    print("| seed | network | MACs | of the whole | accuracy | change, points (95 %) | µs | of the whole |")
    print("|---|---|---|---|---|---|---|---|")
    reports, changes = [], []
    for seed in arguments.seeds:
        data = digits(seed, 5, 10) if arguments.distorted else digits(seed)
        whole = trained(perceptron(seed), data, epochs=12 if arguments.distorted else 30)
        found = reduced(whole, data)
        networks = {
            "whole": whole,
            "reduced order": found.imported,
            "weight SVD": weight_svd(whole, found.imported.graph.macs),
        }
        times, right = latencies_us(networks), {name: hits(each, data) for name, each in networks.items()}
        for name, network in networks.items():
            change = right[name].astype(float) - right["whole"]
            low, high = interval(change, data.judge_origins)
            print(
                f"| {seed} | {name} | {network.graph.macs:,} | 1/{whole.graph.macs / network.graph.macs:.1f} "
                f"| {right[name].mean():.2%} | {100 * change.mean():+.2f} ({100 * low:+.2f} … {100 * high:+.2f}) "
                f"| {times[name]:.1f} | 1/{times['whole'] / times[name]:.2f} |"
            )
        changes.append(right["reduced order"].astype(float) - right["whole"])
        reports += [f"| {seed} | {_words(each)} |" for each in found.deviation.layers]
        reports.append(
            f"| {seed} | output | | | | | | {found.deviation.output_error:.3f} | {found.deviation.output_bound:.2f} |"
        )
    pooled = np.concatenate(changes)
    low, high = interval(pooled, np.arange(len(pooled)) // (10 if arguments.distorted else 1))
    print(f"\nall seeds: {100 * pooled.mean():+.2f} points ({100 * low:+.2f} … {100 * high:+.2f})\n")
    print("| seed | layer | elements | rank | rows | tail | projection (bound) | error | bound |")
    print("|---|---|---|---|---|---|---|---|---|")
    print("\n".join(reports))


def _words(layer: ReducedLayer) -> str:
    projection = f"{layer.projection_error:.3f} ({layer.projection_bound:.2f})"
    return (
        f"{layer.name} | {layer.size} | {layer.rank} | {layer.rows} | {layer.tail:.3f} | {projection} "
        f"| {layer.error:.3f} | "
    )


if __name__ == "__main__":
    main()
