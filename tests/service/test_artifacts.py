"""Artifacts: one suite over every kind of store."""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path

import httpx
import pytest

pytest.importorskip("fastapi", reason="needs the extra service")
pytest.importorskip("ai_edge_litert", reason="needs the extra export")

from leti.core.errors import ArtifactError, InvalidInput, LetiError, MissingExtra, StorageError
from leti.core.spec import NetworkConfig
from leti.generator.lowering import lower
from leti.generator.spaces import get_space
from leti.predictors.registry import predictor_class
from leti.service.artifacts import Artifact, ArtifactStore, Stored
from leti.service.predictor_files import PredictorFiles
from leti.service.settings import Settings

CONTENT = b"a model file" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MODEL = Artifact("models", SHA256, "tflite")


@pytest.fixture(scope="module")
def s3_url():
    """A bucket: that of ``LETI_TEST_S3_URL`` (its server and keys in AWS_…), else one of a server of the tests' own."""
    pytest.importorskip("s3fs", reason="needs the extra s3")
    url = os.environ.get("LETI_TEST_S3_URL", "")
    if url:
        yield url.rstrip("/")
        return
    moto = pytest.importorskip("moto.server", reason="no S3: no LETI_TEST_S3_URL, and moto is not installed")
    server = moto.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        httpx.put(f"http://{host}:{port}/artifacts", timeout=60).raise_for_status()
        yield "s3://artifacts"
    server.stop()


@pytest.fixture(params=["home", "folder", "memory", "s3"])
def settings(request, tmp_path):
    """Settings of a service whose artifacts lie in its home, a shared folder, memory or an S3-compatible store."""
    urls = {"home": "", "folder": str(tmp_path / "shared"), "memory": f"memory://{uuid.uuid4().hex}"}
    if request.param == "s3":
        urls["s3"] = f"{request.getfixturevalue('s3_url')}/{uuid.uuid4().hex}"
    return Settings(tmp_path / "home", artifacts_url=urls[request.param])


@pytest.fixture
def store(settings):
    return ArtifactStore.open(settings)


@pytest.fixture
def elsewhere(settings, tmp_path):
    """The same store, as another machine sees it."""
    home = tmp_path / "another home" if settings.artifacts_url else settings.home
    return ArtifactStore.open(Settings(home, artifacts_url=settings.artifacts_url))


def damage(store, path):
    store._files.pipe_file(f"{store._root}/{path}", b"damaged")


def left(folder: Path) -> list[Path]:
    """Return what was left half-written on this machine."""
    return list(folder.rglob(".parts/*"))


def test_what_is_put_can_be_had_anywhere(store, elsewhere, tmp_path):
    assert store.list("models") == []
    assert not store.exists(MODEL)
    assert store.put(CONTENT, "models", "tflite") == MODEL
    assert store.put(CONTENT, "models", "tflite") == MODEL
    assert elsewhere.exists(MODEL)
    assert elsewhere.get(MODEL) == CONTENT
    for _ in range(2):
        assert elsewhere.path(MODEL).read_bytes() == CONTENT
    assert elsewhere.list("models") == [Stored(MODEL, len(CONTENT))]
    assert elsewhere.list("predictors") == []
    assert -5 < elsewhere.age_s(MODEL) < 300
    with pytest.raises(ArtifactError, match="gone"):
        elsewhere.age_s(Artifact("models", SHA256, "onnx"))
    elsewhere.delete(MODEL)
    elsewhere.delete(MODEL)
    assert not store.exists(MODEL)
    with pytest.raises(ArtifactError, match="gone"):
        store.get(MODEL)
    with pytest.raises(ArtifactError, match="gone"):
        elsewhere.path(MODEL)
    assert not left(tmp_path)


def test_a_stream_is_there_whole_or_not_at_all(store, tmp_path):
    with pytest.raises(ZeroDivisionError), store.receiving() as part:
        part.write(CONTENT[: 1 // 0])
    with store.receiving() as part:
        part.write(CONTENT)
    assert store.list("uploads") == []
    with store.receiving() as part:
        for start in range(0, len(CONTENT), 1000):
            part.write(CONTENT[start : start + 1000])
        assert (part.sha256, part.size_bytes) == (SHA256, len(CONTENT))
        assert store.list("uploads") == []
        received = store.keep(part, "uploads", "onnx")
    assert received == Artifact("uploads", SHA256, "onnx")
    assert store.get(received) == CONTENT
    assert store.copy(received, "models", "onnx") == Artifact("models", SHA256, "onnx")
    store.delete(received)
    assert store.list("uploads") == []
    assert store.get(Artifact("models", SHA256, "onnx")) == CONTENT
    assert not left(tmp_path)


def test_what_is_damaged_is_not_handed_out(store, elsewhere):
    store.put(CONTENT, "models", "tflite")
    copied = elsewhere.path(MODEL)
    if elsewhere._cached(MODEL) == copied:
        copied.write_bytes(b"damaged on one machine")
        assert elsewhere.path(MODEL).read_bytes() == CONTENT
    damage(store, f"models/{MODEL.name}")
    elsewhere.forget(MODEL)
    for read in (store.get, elsewhere.path):
        with pytest.raises(ArtifactError, match="damaged"):
            read(MODEL)
    store.put(CONTENT, "models", "tflite")
    assert elsewhere.path(MODEL).read_bytes() == CONTENT


def test_a_predictor_that_one_machine_saves_another_loads(store, elsewhere, tmp_path):
    graphs = [lower(spec) for spec in get_space("nasbench201").sample(24, 1, NetworkConfig(modules_per_stack=1))]
    predictor = predictor_class("flops")()
    predictor.fit(graphs, [1 + graph.macs / 1e7 for graph in graphs])
    expected = [item.latency_ms for item in predictor.predict(graphs)]
    here, there = PredictorFiles(store), PredictorFiles(elsewhere)
    sha256 = here.save(predictor)
    assert here.save(predictor) == sha256
    artifact = Artifact("predictors", sha256)
    (found,) = elsewhere.list("predictors")
    assert found.artifact == artifact
    for _ in range(2):
        assert [item.latency_ms for item in there.load(sha256).predict(graphs)] == expected
    if elsewhere._cached(artifact).exists():
        (elsewhere._cached(artifact) / "manifest.json").write_text("damaged on one machine")
        assert [item.latency_ms for item in there.load(sha256).predict(graphs)] == expected
    damage(store, f"predictors/{sha256}/manifest.json")
    elsewhere.forget(artifact)
    with pytest.raises(ArtifactError):
        there.load(sha256)
    here.save(predictor)
    elsewhere.forget(artifact)
    assert [item.latency_ms for item in there.load(sha256).predict(graphs)] == expected
    with pytest.raises(ArtifactError):
        there.load("0" * 64)
    assert not left(tmp_path)


def test_copies_of_another_machines_artifacts_stay_within_their_limit(tmp_path):
    url = f"memory://{uuid.uuid4().hex}"
    store = ArtifactStore.open(Settings(tmp_path / "a", artifacts_url=url))
    names = [store.put(bytes([i]) * 1000, "models", "tflite") for i in range(5)]
    small = ArtifactStore.open(Settings(tmp_path / "b", artifacts_url=url, artifact_cache_bytes=2_500))
    for i, name in enumerate(names):
        os.utime(small.path(name), (i, i))  # used one after the other, whatever the clock's grain
    there = {path.name for path in (tmp_path / "b" / "cache" / "models").iterdir()}
    assert there == {name.name for name in names[-2:]}
    assert small.path(names[0]).read_bytes() == bytes(1000)


def test_what_an_earlier_release_wrote_is_found(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / MODEL.name).write_bytes(CONTENT)
    store = ArtifactStore.open(Settings(tmp_path))
    assert store.get(MODEL) == CONTENT
    assert store.path(MODEL) == tmp_path / "models" / MODEL.name


def test_what_a_process_left_half_written_is_swept_away(tmp_path):
    parts = tmp_path / ".parts"
    parts.mkdir()
    for name, age_s in (("old", 2 * 24 * 3600), ("new", 60)):
        (parts / name).write_bytes(b"half")
        now = (parts / name).stat().st_mtime
        os.utime(parts / name, (now - age_s, now - age_s))
    ArtifactStore.open(Settings(tmp_path))
    assert [path.name for path in parts.iterdir()] == ["new"]


@pytest.mark.parametrize("sha256", ["..", "../" * 21 + ".", "A" * 64, "a" * 63, "a" * 64 + "\n", "/" * 64])
def test_only_a_sha256_is_a_name(sha256):
    with pytest.raises(InvalidInput):
        Artifact("models", sha256)
    with pytest.raises(InvalidInput):
        Artifact("models", "a" * 64, "../x")


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("nonsense://bucket", InvalidInput),
        ("sftp://user:secret@host/folder", InvalidInput),
        ("dropbox://folder", MissingExtra),
    ],
)
def test_an_address_that_is_none_is_refused(tmp_path, url, error):
    with pytest.raises(error) as refused:
        ArtifactStore.open(Settings(tmp_path, artifacts_url=url))
    assert "secret" not in str(refused.value)


def test_a_store_that_refuses_is_a_storage_error(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "models").write_text("a file where the folder should be")
    store = ArtifactStore.open(Settings(home))
    with pytest.raises(StorageError) as refused:
        store.put(CONTENT, "models", "tflite")
    assert str(home) not in str(refused.value)
    assert not left(tmp_path)
    with pytest.raises(LetiError):
        store.get(MODEL)
