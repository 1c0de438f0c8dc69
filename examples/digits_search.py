"""Search small networks for digits that are right and fast on this machine: python digits_search.py [FOLDER].

The whole loop, for real: a service and a LiteRT agent on this machine measure 60 networks of the space and train
predictors on them; the search then asks for latencies by the thousand, and trains in PyTorch the few that are worth it,
on scikit-learn's digits. Evolution stands beside random search with as many trainings, by the hypervolume of latency
and accuracy, with two seeds. Needs: pip install leti[agent,boosting,compression,service].
"""

import functools
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from leti.cli.processes import LetiProcess, ServiceProcess
from leti.client import LatencyClient
from leti.compression.architecture.fronts import hypervolume
from leti.compression.architecture.results import SearchResult
from leti.compression.architecture.search import search
from leti.compression.architecture.variation import Variation
from leti.compression.training.comparing import accuracy
from leti.compression.training.data import Data, Labelled
from leti.compression.training.fine_tuning import Recipe, fine_tune
from leti.core.farm import CampaignRequest
from leti.core.graph import Graph
from leti.core.queries import Encodings, PredictionRequest
from leti.core.searching import LatencyLimit
from leti.core.spec import NetworkConfig, NetworkSpec
from leti.core.training import TrainingRequest
from leti.generator.importers import Imported
from leti.generator.spaces import get_space
from leti.generator.weights import random_weights

SPACE, CONFIG = "chains", NetworkConfig((16, 16, 1))
LAYERS, LAYER = (
    4,
    5,
)  # layers of a network here, and positions that say a layer: kind, channels, kernel, stride, repeats
KINDS, CHANNELS, KERNELS, STRIDES = (1, 2, 3), (0, 2, 4, 6), (0, 2, 3), (0, 1)  # conv, separable, basic; 8, 16, 32, 48
MEASURED, GENERATIONS, POPULATION = 60, 4, 5
CHANCE = 0.1


def small_space() -> dict[int, tuple[int, ...]]:
    """Return the options of positions: up to four layers, the first halves the image; 13.6 million networks."""
    only: dict[int, tuple[int, ...]] = dict.fromkeys(range(len(get_space(SPACE).positions)), (0,))
    for layer in range(LAYERS):
        kinds, strides = (KINDS, STRIDES[1:]) if layer == 0 else ((0, *KINDS), STRIDES)
        only.update(enumerate((kinds, CHANNELS, KERNELS, strides), LAYER * layer))
    return only


@functools.cache
def digits() -> Data:
    """Return scikit-learn's digits at 16×16: 1,200 to train with, 597 to choose by."""
    pixels, classes = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(pixels))
    images = (pixels[order].reshape(-1, 8, 8, 1).repeat(2, 1).repeat(2, 2) / 8 - 1).astype(np.float32)
    labels = classes[order].astype(np.int64)

    def train(epoch: int) -> Iterator[Labelled]:
        for chosen in np.array_split(np.random.default_rng(epoch).permutation(1200), 40):
            yield images[chosen], labels[chosen]

    return Data(40, train, lambda: [(images[1200:], labels[1200:])], lambda: [images[:100]])


def objective(spec: NetworkSpec, graph: Graph) -> dict[str, float]:
    """Return the accuracy of a network after four epochs from random weights: the search asks it of each once."""
    fresh = Imported(graph, ("",) * len(graph.ops), random_weights(graph, seed=0))
    made = fine_tune(fresh, digits(), recipe=Recipe(epochs=4, learning_rate=3e-3))
    return {"accuracy": accuracy(made, digits())}


def learn(client: LatencyClient, agent: LetiProcess, networks: list[NetworkSpec]) -> str:
    """Have networks measured and predictors trained on them; return the platform."""
    while not client.platforms():
        agent.check()
        time.sleep(0.2)
    platform = client.platforms()[0].id
    asked = tuple(spec.to_json() for spec in networks)
    campaign = client.create_campaign(CampaignRequest("digits", platform, networks=asked, repeats=2, profile=False))
    while not campaign.finished:
        agent.check()
        time.sleep(0.5)
        campaign = client.campaign(campaign.id)
    report = client.train(TrainingRequest(platform, ("flops", "linear", "lookup_table", "xgboost")))
    for one in report.predictors:
        print(
            f"{'*' if one.active else ' '} {one.kind:14} off by {one.metrics.mdape:.1%}, {one.metrics.n_test} held out"
        )
    return platform


def shown(found: SearchResult, limit_ms: float) -> float:
    """Print a front; return its hypervolume as a share of what a network of no latency and no errors would have."""
    points = [(point.values["accuracy"], -point.latencies[0].latency_ms) for point in found.front]
    volume = hypervolume(np.array(points), np.array([CHANCE, -limit_ms])) / (limit_ms * (1 - CHANCE))
    counts = found.counts
    print(
        f"\n{found.strategy}, seed {found.seed}: hypervolume {volume:.4f}; {len(found.points)} trainings, "
        f"{counts.latencies} latencies in {counts.requests} requests and {counts.seconds['service']:.1f} s"
    )
    for point in found.front:
        (latency,) = point.latencies
        layers = " ".join(f"{one.name}{dict(one.attributes)['channels']}" for one in point.spec.layers[1:-1])
        print(f"{latency.latency_ms:7.4f} ms  {point.values['accuracy']:6.1%}  {layers}")
    return volume


def main(home: Path) -> None:
    """Measure, learn, search twice by each strategy."""
    started = time.monotonic()
    variation = Variation(get_space(SPACE), CONFIG, 0, small_space())
    drawn = variation.distinct(MEASURED + 200, variation.drawn, ())
    agent = ["agent", "run", "--backend", "litert", "--spool", str(home / "spool")]
    with ServiceProcess(home) as service, LatencyClient(service.url) as client:
        with LetiProcess([*agent, "--url", service.url], log=home / "agent.log") as process:
            platform = learn(client, process, [one.spec for one in drawn[:MEASURED]])
        others = Encodings(SPACE, tuple(one.choices for one in drawn[MEASURED:]), CONFIG)
        (columns,) = client.predict_columns(PredictionRequest((platform,), encodings=others)).platforms
        limit = LatencyLimit(platform, round(statistics.median(ms for ms in columns.latency_ms if ms is not None), 4))
        print(f"the budget is {limit.at_most_ms} ms, what half of them keep; {time.monotonic() - started:.0f} s so far")
        volumes: dict[str, list[float]] = {"evolution": [], "random": []}
        for seed in range(2):
            for strategy, found in volumes.items():
                result = search(
                    SPACE,
                    client=client,
                    limits=(limit,),
                    objective=objective,
                    strategy=strategy,
                    generations=GENERATIONS,
                    population=POPULATION,
                    seed=seed,
                    config=CONFIG,
                    only=small_space(),
                    out=home / "evaluations",
                )
                found.append(shown(result, limit.at_most_ms))
    print(f"\nhypervolume by seed: {volumes}; {time.monotonic() - started:.0f} s in all")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "digits-search").resolve())
