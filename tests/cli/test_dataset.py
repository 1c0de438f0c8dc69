"""``leti dataset``, and ``leti train --dataset``: from one service to another."""

from __future__ import annotations

import json
import threading

import pytest

pytest.importorskip("fastapi", reason="needs the extra service")
pytest.importorskip("xgboost", reason="needs the extra boosting")
pytest.importorskip("pyarrow", reason="needs the extra arrow")

from leti.client import LatencyClient
from leti.core.device import Device, Platform
from leti.core.farm import CampaignRequest, LeaseRequest, Result, Sample
from leti.core.measurement import Measurement, Pass, Recipe
from leti.core.spec import NetworkConfig
from leti.core.training import TrainingRequest
from leti.service.server import running
from leti.service.settings import Settings
from leti.service.store import Store
from leti.service.tasks.worker import Worker

PLATFORM = Platform(Device("box", "desktop", "soc", 2), "litert", "2.3.0", "xnnpack")
SMALL = NetworkConfig(stem_channels=4, stacks=1, modules_per_stack=1)


@pytest.fixture
def services(tmp_path):
    """Two empty services with their workers, and what ends them."""
    stop = threading.Event()
    threads, stores = [], []
    with running(Settings(tmp_path / "one", auth=False)) as one, running(Settings(tmp_path / "two", auth=False)) as two:
        for name in ("one", "two"):
            settings = Settings(tmp_path / name, auth=False)
            stores.append(Store.open(settings))
            threads.append(threading.Thread(target=Worker(stores[-1], settings).run, args=(stop,)))
            threads[-1].start()
        yield one, two
        stop.set()
        for thread in threads:
            thread.join()
    for store in stores:
        store.close()


def measure(client):
    """Measure networks as an agent would, with latencies that are made up."""
    platform = client.register_platform(PLATFORM)
    client.create_campaign(CampaignRequest("first", platform.id, (Sample("nasbench201", 34, 0, SMALL),), repeats=1))
    while (lease := client.lease(LeaseRequest("agent", platform.id, 64))) is not None:
        for job in lease.jobs:
            ratio = 0.5 + client.network(job.fingerprint).macs / 1e6
            passes = (Pass((1.25 * ratio,), (1.25,)),) * 2
            recipe = Recipe("0.1.0", "2.3.0", "ab" * 32)
            found = Measurement(job.fingerprint, platform.id, lease.reference, passes, recipe)
            client.post_result(Result(lease.id, lease.token, job.id, job.repeat, found))


def test_a_dataset_goes_from_one_service_to_another(services, leti, tmp_path):
    one, two = services
    with LatencyClient(one) as client:
        measure(client)
        trained = client.train(TrainingRequest(PLATFORM.id, ("flops",)))
        rows = client.dataset_rows(trained.dataset_id, limit=1)
        assert rows.next == rows.items[0].fingerprint
        content = client.export_dataset(trained.dataset_id)
    file = tmp_path / "it.parquet"
    done = leti("dataset", "export", trained.dataset_id, file, "--url", one)
    assert done.returncode == 0, done.stderr
    assert file.read_bytes() == content
    assert sorted(path.name for path in tmp_path.glob("*it.*")) == ["it.parquet"]
    done = leti("dataset", "import", file, "--url", two, "--json", tmp_path / "info.json")
    assert done.returncode == 0, done.stderr
    info = json.loads((tmp_path / "info.json").read_text())
    assert info["origin"]["dataset_id"] == trained.dataset_id
    assert PLATFORM.id in leti("dataset", "list", "--url", two).stdout
    trained_there = tmp_path / "trained.json"
    done = leti("train", "--dataset", info["id"], "--kind", "flops", "--url", two, "--json", trained_there)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(trained_there.read_text())["predictors"]
    assert found["cross_validation_mdape"] == trained.predictors[0].cross_validation_mdape
    for arguments, said in (
        (("export", "1", tmp_path / "it.xlsx"), "neither .parquet nor .csv"),
        (("export", "9", tmp_path / "no.csv"), "no dataset 9"),
        (("export", "1", tmp_path / "nowhere" / "it.csv"), "cannot be written"),
    ):
        done = leti("dataset", *arguments, "--url", one)
        assert done.returncode == 2
        assert said in done.stderr
    assert not list(tmp_path.glob("*no.csv*"))
