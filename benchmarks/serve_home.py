"""A service's folder for ``benchmarks/serve.py``: measured networks, and a predictor a search space.

Latencies are made up of operators and multiply-accumulates: time is all that counts here. The predictors are real ones,
trained as ``benchmarks/predict.py`` trains its own, on networks of the space's default config; what is measured are
small networks of NAS-Bench-201, whose model files are written in no time.
"""

from __future__ import annotations

import random
from pathlib import Path

from fastapi.testclient import TestClient

from leti.core.codec import from_json, to_json
from leti.core.device import Device, Platform
from leti.core.farm import CampaignRequest, Lease, LeaseRequest, Result, Sample
from leti.core.graph import Graph
from leti.core.measurement import Measurement, Pass, Recipe
from leti.core.prediction import Metrics
from leti.core.spec import NetworkConfig
from leti.core.training import HoldoutPoint
from leti.generator.lowering import lower
from leti.generator.spaces import get_space
from leti.predictors import registry
from leti.service.app import create_app
from leti.service.artifacts import ArtifactStore
from leti.service.predictor_files import PredictorFiles
from leti.service.settings import Settings
from leti.service.store import NewPredictor, Store
from leti.service.store.predictors import Serving

KIND = "xgboost"
MEASURED = 24
"""Networks that are measured on each platform."""

SMALL = NetworkConfig(stem_channels=4, stacks=1, modules_per_stack=1)
"""Of the measured networks."""

REFERENCE_MS = 1.25


def prepare(home: Path, space: str, trained_on: int, kind: str = KIND) -> str:
    """Make a folder with a platform that serves a predictor of a space; return the platform's id."""
    platform = Platform(Device(f"bench-{space}", "desktop", "soc", 2), "litert", "2.3.0", "xnnpack")
    settings = Settings(home, auth=False)
    store = Store.open(settings)
    try:
        with TestClient(create_app(store, settings), base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as client:
            _measure(client, store, platform)
        dataset = store.datasets.freeze(
            platform.id,
            minimum=2,
            holdout_share=0.25,
            seed=0,
            split=lambda groups, _before: (range(len(groups) // 2), range(len(groups) // 2, len(groups))),
        )
        predictor = registry.create(kind).fit(*_examples(space, trained_on))
        sha256 = PredictorFiles(ArtifactStore.open(settings)).save(predictor)
        zero = Metrics(trained_on, 0, *[0.0] * 5, None, None, None, 0.9, 0.0, 0.0, 0.0)
        point = HoldoutPoint(dataset.test[0].fingerprint, space, *[REFERENCE_MS] * 4)
        store.predictors.add(dataset, [NewPredictor(kind, sha256, zero, 0.0, (point,))], Serving(kind, "promoted"))
    finally:
        store.close()
    return platform.id


def latency_ms(graph: Graph, chance: random.Random) -> float:
    """Return a latency that is made up."""
    return (1 + graph.macs / 1e7 + 0.02 * len(graph.ops)) * chance.lognormvariate(0, 0.1)


def _examples(space: str, count: int) -> tuple[list[Graph], list[float]]:
    found, chance = get_space(space), random.Random(0)
    graphs = [lower(spec) for spec in found.sample(count, 0, found.default_config)]
    return graphs, [latency_ms(graph, chance) for graph in graphs]


def _measure(client: TestClient, store: Store, platform: Platform) -> None:
    """Have the service hand out jobs, and report latencies, as an agent would."""
    _post(client, "/platforms", platform)
    sample = Sample("nasbench201", MEASURED, 0, SMALL)
    _post(client, "/campaigns", CampaignRequest("measured", platform.id, (sample,), repeats=1))
    chance = random.Random(0)
    while answer := _post(client, "/leases", LeaseRequest("agent", platform.id, 8)):
        lease = from_json(Lease, answer)
        graphs = store.networks.graphs([job.fingerprint for job in lease.jobs])
        for job, graph in zip(lease.jobs, graphs, strict=True):
            sample_ms = (latency_ms(graph, chance),) * 2
            passes = (Pass(sample_ms, (REFERENCE_MS,) * 2),) * 3
            recipe = Recipe("0.1.0", "2.3.0", "ab" * 32)
            measurement = Measurement(job.fingerprint, platform.id, lease.reference, passes, recipe)
            _post(client, "/results", Result(lease.id, lease.token, job.id, job.repeat, measurement))


def _post(client: TestClient, path: str, body: object) -> object:
    answer = client.post(f"/v1{path}", json=to_json(body))
    if answer.status_code not in (200, 201, 204):
        raise SystemExit(f"{path}: {answer.status_code} {answer.text}")
    return answer.json() if answer.status_code != 204 else None
