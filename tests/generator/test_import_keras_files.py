"""Keras files: read as they were saved; damaged, oversized and foreign ones are refused and run no code."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leti.core.errors import ArtifactError, InvalidInput, LetiError, TooLarge
from leti.generator.importers import import_model

keras = pytest.importorskip("keras")
pytest.importorskip("tensorflow")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras.*")  # numpy's, of Keras's own arrays

layers = keras.layers


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    given = keras.Input((8, 10, 6))
    value = layers.BatchNormalization()(layers.Conv2D(4, 3, use_bias=False, name="conv")(given))
    head = keras.Sequential([keras.Input((6, 8, 4)), layers.GlobalAveragePooling2D(), layers.Dense(3)], name="head")
    model = keras.Model(given, head(keras.ops.relu(value) * 2.0))
    path = tmp_path_factory.mktemp("keras") / "model.keras"
    model.save(path)
    return model, path


def test_a_file_is_the_model_that_was_saved(saved: tuple[Any, Path]) -> None:
    model, path = saved
    read, expected = (import_model(source, weights=True) for source in (path, model))
    assert (read.graph, read.names) == (expected.graph, expected.names)
    assert read.weights is not None
    assert expected.weights is not None
    for made, wanted in zip(read.weights, expected.weights, strict=True):
        assert [array.tolist() for array in made] == [array.tolist() for array in wanted]


def test_reading_leaves_keras_as_it_was(saved: tuple[Any, Path]) -> None:
    keras.utils.clear_session()
    import_model(saved[1])
    assert layers.Dense(2).name == "dense"
    assert threading.active_count() == len(threading.enumerate())
    with keras.StatelessScope():
        pass  # would give values to variables left without, of which there are none
    assert keras.Variable(np.ones(2)).numpy().tolist() == [1, 1]


def rewritten(path: Path, to: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Write a copy of a file with another configuration."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(to, "w") as copy:
        for member in source.infolist():
            data = source.read(member)
            if member.filename == "config.json":
                config = json.loads(data)
                change(config)
                data = json.dumps(config).encode()
            copy.writestr(member.filename, data)
    return to


def _layer(config: dict[str, Any], name: str) -> dict[str, Any]:
    return next(layer for layer in config["config"]["layers"] if layer["config"].get("name") == name)


def test_a_lambda_is_not_run(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    path = tmp_path / "model.keras"
    given = keras.Input((4,))
    step = layers.Lambda(lambda x, to=str(witness): (open(to, "w").close(), x)[1], name="evil")
    keras.Model(given, step(given)).save(path)
    witness.unlink()
    with pytest.raises(InvalidInput) as raised:
        import_model(path)
    assert raised.value.details["layer"] == "evil"
    assert "model object" in raised.value.remedy
    assert not witness.exists()


@pytest.mark.parametrize(
    "described",
    [
        {"module": "os", "class_name": "system", "registered_name": "system"},
        {"module": None, "class_name": "Mine", "registered_name": "package>Mine"},
        {"module": "keras.layers", "class_name": "Conv2D", "registered_name": "package>Conv2D"},
        {"module": "keras_nlp.layers", "class_name": "Mine", "registered_name": "Mine"},
        {"module": "keras.layers", "class_name": "TFSMLayer", "registered_name": None},
    ],
)
def test_custom_classes_are_named(saved: tuple[Any, Path], tmp_path: Path, described: dict[str, Any]) -> None:
    path = rewritten(saved[1], tmp_path / "m.keras", lambda config: _layer(config, "conv").update(described))
    with pytest.raises(InvalidInput) as raised:
        import_model(path)
    assert raised.value.details["layer"] == "conv"
    assert "model object" in raised.value.remedy


def test_a_custom_class_in_an_argument_is_found(saved: tuple[Any, Path], tmp_path: Path) -> None:
    evil = {"module": "builtins", "class_name": "function", "config": "exec", "registered_name": "exec"}
    path = rewritten(
        saved[1], tmp_path / "m.keras", lambda config: _layer(config, "conv")["config"].update(activation=evil)
    )
    with pytest.raises(LetiError):
        import_model(path)


def test_more_weights_than_the_file_holds_take_no_memory(saved: tuple[Any, Path], tmp_path: Path) -> None:
    path = rewritten(
        saved[1], tmp_path / "m.keras", lambda config: _layer(config, "conv")["config"].update(filters=10**12)
    )
    with pytest.raises(ArtifactError):
        import_model(path)


def test_bombs_are_not_unpacked(saved: tuple[Any, Path], tmp_path: Path) -> None:
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(saved[1]) as source:
        config = source.read("config.json")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", config)
        archive.writestr("model.weights.h5", bytes(2**26))
    with pytest.raises(TooLarge, match=r"model\.weights\.h5"):
        import_model(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * (65 * 2**20))
        archive.writestr("model.weights.h5", b"")
    with pytest.raises(TooLarge, match=r"config\.json"):
        import_model(path)


@pytest.mark.parametrize("name", ["../outside", "/outside", "assets/../../outside", "..\\outside"])
def test_members_stay_inside(saved: tuple[Any, Path], tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.keras"
    path.write_bytes(saved[1].read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(ArtifactError, match="outside"):
        import_model(path)


def test_damaged_files_are_reported(saved: tuple[Any, Path], tmp_path: Path) -> None:
    whole = saved[1].read_bytes()
    path = tmp_path / "m.keras"
    rng = np.random.default_rng(0)
    damaged = [b"", b"PK", whole[: len(whole) // 2], whole[:-10], rng.bytes(1000)]
    for place in rng.integers(0, len(whole), 25):
        damaged.append(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
    outcomes = set()
    for data in damaged:
        path.write_bytes(data)
        try:
            import_model(path, weights=True)
            outcomes.add("read")  # a byte that means nothing
        except LetiError as error:
            outcomes.add(type(error).__name__)
    assert "ArtifactError" in outcomes


@pytest.mark.parametrize(
    "config",
    [
        "[" * 100_000,
        "[]",
        "{}",
        '{"class_name": 3}',
        '{"class_name": "Dense", "module": "keras.layers", "config": {"units": 3}}',
        '{"class_name": "Sequential", "module": "keras", "config": {"layers": 3}}',
        '{"class_name": "Functional", "module": "keras", "config": {"layers": [{}]}}',
    ],
)
def test_configurations_of_nonsense_are_reported(tmp_path: Path, config: str) -> None:
    path = tmp_path / "m.keras"
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("config.json", config)
        archive.writestr("model.weights.h5", b"")
    path.write_bytes(data.getvalue())
    with pytest.raises(ArtifactError):
        import_model(path)
