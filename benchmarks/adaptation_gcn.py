"""Ways to adapt to a new device: python benchmarks/adaptation_gcn.py FOLDER [--targets] [--samples 10] [--seeds 5].

FOLDER holds HELP's table of NAS-Bench-201; the protocol is D's, samples at random. Each source device is left out of
the sources once and is the new one, which is how ways are compared; ``--targets`` takes the four devices that are for
reporting alone. Printed are, for each way, Spearman's correlation on the queries and the share within 10 %, mean over
devices and seeds, and Spearman by device. The ways:

- mix, residual, bayes: :mod:`leti.predictors.adaptation.transfer` on predictors of each source by itself.
- xgboost, lightgbm: the mix, times what 50 small trees find in the logarithm of what it leaves, from the sources'
  predictions alone, or from these with the network's parts and positions.
- gcn: a graph network that all sources train, an embedding each. ``embedding``: only the new device's embedding is
  learnt, in closed form, with the sources' as a prior; ``mix``: it is a non-negative sum of theirs; ``bayes``: the
  same prior, with parts and positions beside the readout; ``tuned``: from the embedding on, all weights descend.
"""

import argparse
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import torch
import xgboost
from scipy import stats

from leti.cli.protocol_d import POOL, QUERIES, SOURCES, TABLE, TARGETS, Devices, read_devices
from leti.predictors.adaptation.features import SourceScale, TransferFeatures
from leti.predictors.adaptation.transfer import Columns, Formula, Method, fit_bayes, fit_mix, fit_residual
from leti.predictors.batch import Batch, Matrix, Vector
from leti.predictors.evaluation import Sample
from leti.predictors.gcn.collation import collate
from leti.predictors.gcn.graphs import OperatorGraphs
from leti.predictors.gcn.network import GraphNetwork
from leti.predictors.gcn.together import Trunk, train_trunk
from leti.predictors.positional import PositionalPredictor

TREES = 50
STEPS = 50
RATE = 1e-3


@dataclass(frozen=True)
class Setting:
    """What is known of all networks of the table before the new device is measured."""

    alone: Columns
    together: Columns
    readout_only: Columns
    trunk: Trunk
    units_ms: Vector
    encoded: OperatorGraphs


Way = Callable[[Setting, list[int], Vector, int], Vector]
"""From the measured networks, their latencies in ms and a seed to the latencies of all networks."""


def fitted(method: Method, columns: Columns, picked: list[int], measured: Vector) -> Formula:
    """Return a formula, the scale of the sources taken from the pool."""
    return method(columns.part(picked), measured, SourceScale.of(columns.source_ms[slice(*POOL)]))


def by_formula(method: Method, of: Callable[[Setting], Columns]) -> Way:
    """Return a way that is one of :mod:`leti.predictors.adaptation.transfer`."""

    def way(setting: Setting, picked: list[int], measured: Vector, seed: int) -> Vector:
        return fitted(method, of(setting), picked, measured).latencies_ms(of(setting))

    return way


def by_trees(regressor: Callable[[int], Any], parts: bool) -> Way:
    """Return a way that boosts trees on what a mix leaves."""

    def way(setting: Setting, picked: list[int], measured: Vector, seed: int) -> Vector:
        columns = setting.alone
        mixed = fitted(fit_mix, columns, picked, measured).latencies_ms(columns)
        rows = np.log(columns.source_ms)
        if parts:
            rows = np.hstack([rows, columns.parts, columns.positions])
        trees = regressor(seed).fit(rows[picked], np.log(measured / mixed[picked]))
        boosted: Vector = mixed * np.exp(trees.predict(rows))
        return boosted

    return way


def tuned(setting: Setting, picked: list[int], measured: Vector, seed: int) -> Vector:
    """Learn the embedding in closed form, then let it and the trunk descend for some steps."""
    formula = fitted(fit_bayes, setting.readout_only, picked, measured)
    size = float(measured.mean())
    weights = (formula.sources * setting.units_ms / size).astype(np.float32)
    start = formula.latencies_ms(setting.readout_only) / size
    network = GraphNetwork(setting.trunk.architecture)
    own = {**setting.trunk.weights, "out": np.tensordot(weights, setting.trunk.out, axes=1)}
    own["level"] = np.tensordot(weights, setting.trunk.level, axes=1)
    network.load_state_dict({name: torch.from_numpy(np.asarray(value)) for name, value in own.items()})
    few, every = (
        collate(graphs, np.zeros(len(graphs.kinds))) for graphs in (setting.encoded[np.array(picked)], setting.encoded)
    )
    with torch.no_grad():
        before = network(every)
    goal = torch.from_numpy((measured / size - start[picked]).astype(np.float32))[:, None] + before[picked]
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    for _ in range(STEPS):
        loss = torch.nn.functional.huber_loss(network(few), goal, delta=0.1)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        moved = (network(every) - before).mean(1).numpy().astype(np.float64)
    latency: Vector = size * (start + moved)
    return latency


def xgb(seed: int) -> Any:
    """Return small XGBoost trees."""
    return xgboost.XGBRegressor(
        n_estimators=TREES,
        learning_rate=0.1,
        max_depth=1,
        min_child_weight=2,
        n_jobs=1,
        random_state=seed,
        base_score=0,
    )


def lgbm(seed: int) -> Any:
    """Return small LightGBM trees."""
    return lightgbm.LGBMRegressor(
        n_estimators=TREES,
        learning_rate=0.1,
        num_leaves=2,
        min_child_samples=2,
        min_data_in_bin=1,
        reg_lambda=1.0,
        n_jobs=1,
        random_state=seed,
        verbose=-1,
    )


WAYS: Mapping[str, Way] = {
    "mix": by_formula(fit_mix, lambda setting: setting.alone),
    "residual": by_formula(fit_residual, lambda setting: setting.alone),
    "xgboost, sources": by_trees(xgb, parts=False),
    "xgboost, sources and parts": by_trees(xgb, parts=True),
    "lightgbm, sources": by_trees(lgbm, parts=False),
    "lightgbm, sources and parts": by_trees(lgbm, parts=True),
    "bayes": by_formula(fit_bayes, lambda setting: setting.alone),
    "gcn, mix": by_formula(fit_mix, lambda setting: setting.together),
    "gcn, embedding": by_formula(fit_bayes, lambda setting: setting.readout_only),
    "gcn, tuned": tuned,
    "gcn, bayes": by_formula(fit_bayes, lambda setting: setting.together),
}


def sample_of(devices: Devices, device: str) -> Sample:
    """Return the pool of a source device, trimmed as a target's is."""
    rows = devices.trimmed(device, POOL)
    latencies = tuple(devices.latencies_ms[device][rows].tolist())
    return Sample(tuple(devices.graphs[i] for i in rows.tolist()), latencies, tuple(map(str, rows.tolist())))


def latencies_of(predictors: Sequence[Any], devices: Devices) -> Matrix:
    """Return what predictors say of all networks, ``(n, m)`` in ms."""
    return np.column_stack([np.asarray(each.predict(devices.graphs).latency_ms) for each in predictors])


def prepare(devices: Devices, target: str) -> Setting:
    """Train on all sources but the target."""
    samples = {name: sample_of(devices, name) for name in SOURCES if name != target}
    batch = Batch.of(devices.graphs)
    known = TransferFeatures.learn(devices.graphs[slice(*POOL)]).encode(batch)
    nothing = np.zeros((len(devices.graphs), 1))
    alone = [sample.teach(PositionalPredictor(), seed=0) for sample in samples.values()]
    trunk, together = train_trunk(samples)
    quartiles = [np.quantile(sample.latencies_ms, (0.25, 0.75)) for sample in samples.values()]
    shared_ms = latencies_of(tuple(together.values()), devices)
    return Setting(
        Columns(latencies_of(alone, devices), known.parts, known.positions),
        Columns(shared_ms, known.parts, known.positions),
        Columns(shared_ms, nothing, nothing),
        trunk,
        np.array([float(high - low) / 1.349 for low, high in quartiles]),
        trunk.encoder.encode(batch),
    )


def main() -> None:
    """Adapt by every way to every device, and print how good each is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--targets", action="store_true")
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="X does not have valid feature names")
    new = TARGETS if arguments.targets else SOURCES
    devices = read_devices(arguments.folder / TABLE, {*SOURCES, *new})
    figures: dict[str, list[Any]] = {name: [] for name in WAYS}
    for target in new:
        setting, latencies = prepare(devices, target), devices.latencies_ms[target]
        pool, queries = devices.trimmed(target, POOL), devices.trimmed(target, QUERIES)
        for name, way in WAYS.items():
            found = []
            for seed in range(arguments.seeds):
                picked = np.random.default_rng(seed).choice(pool, arguments.samples, replace=False).tolist()
                predicted = way(setting, picked, latencies[picked], seed)[queries]
                within = np.mean(np.abs(predicted / latencies[queries] - 1) <= 0.1)
                found.append((stats.spearmanr(predicted, latencies[queries]).statistic, within))
            figures[name].append(np.mean(found, axis=0))
    print(f"{arguments.samples} samples, {arguments.seeds} seeds, new devices: {', '.join(new)}")
    for name, by_device in figures.items():
        spearman, within = np.mean(by_device, axis=0)
        each = " ".join(f"{of_one[0]:.3f}" for of_one in by_device)
        print(f"{name:28s} {spearman:.4f}   ±10 % {100 * within:4.1f}   {each}")


if __name__ == "__main__":
    main()
