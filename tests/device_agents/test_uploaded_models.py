"""An uploaded file on a real runtime: the agent measures the very bytes that were sent."""

import hashlib
from pathlib import Path

import httpx
import pytest

from leti.client import LatencyClient
from leti.core.farm import CampaignRequest
from leti.core.spec import NetworkConfig
from leti.core.uploads import Upload
from leti.device_agents.timing import Protocol

pytest.importorskip("fastapi", reason="the service's extra is not installed")
pytest.importorskip("psutil", reason="the agent extra is not installed")
worker = pytest.importorskip("leti.device_agents.worker", reason="the agent extra is not installed")
desktop = pytest.importorskip("leti.device_agents.desktop.bench", reason="the agent extra is not installed")
pytest.importorskip("flatbuffers", reason="the export extra is not installed")

from leti.core.codec import from_json
from leti.generator.export.formats import export_model
from leti.generator.lowering import lower
from leti.generator.spaces import get_space
from leti.service.settings import Settings
from leti.service.store import Store
from leti.service.tasks.worker import run_tasks


def test_an_uploaded_file_is_measured_on_a_real_runtime(service, tmp_path: Path) -> None:
    at = service(60.0)
    graph = lower(get_space("nasbench201").sample(1, 3, NetworkConfig(modules_per_stack=1))[0])
    content = export_model(graph, seed=17)
    answer = httpx.post(
        f"{at.url}/v1/uploads",
        params={"format": "tflite"},
        content=content,
        headers={"content-type": "application/octet-stream"},
    )
    assert answer.status_code == 201, answer.text
    settings = Settings(home=at.home, auth=False)
    store = Store.open(settings)
    run_tasks(store, settings)
    store.close()
    found = from_json(Upload, httpx.get(f"{at.url}/v1/uploads/{answer.json()['id']}").json())
    assert (found.state, found.fingerprint) == ("known", graph.fingerprint())

    bench = desktop.DesktopBench("litert", name="test-machine", protocol=Protocol(passes=3, retries=0))
    try:
        with LatencyClient(at.url) as client:
            client.register_platform(bench.platform)
            request = CampaignRequest("mine", bench.platform.id, networks=(found.fingerprint,), repeats=1)
            client.create_campaign(request)
            agent = worker.Agent(client, [bench], spool=tmp_path / "spool", poll_s=0.1, idle_s=0.3)
            assert agent.run(until_idle=True).measured == 1
            (row,) = client.measurements(platform_id=bench.platform.id, limit=10).items
            assert row.fingerprint == found.fingerprint
            recipe = client.measurement(row.id).recipe
            assert recipe.model_sha256 == hashlib.sha256(content).hexdigest()
    finally:
        bench.close()
