"""``leti inspect`` and ``leti export``: any network in, any network out."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from leti.core.graph import Graph
from leti.core.spec import NetworkConfig
from leti.generator.lowering import lower
from leti.generator.spaces import SPACES
from leti.generator.spaces.nasbench201 import spec_of

pytest.importorskip("flatbuffers", reason="the export extra is not installed")

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|"
SMALL = NetworkConfig(modules_per_stack=1)


def test_a_cell_is_shown_with_its_costs_and_drawn(leti, tmp_path: Path) -> None:
    graph = lower(spec_of(CELL, SMALL))
    ran = leti(
        *("inspect", CELL, "--config", '{"modules_per_stack": 1}'),
        *("--svg", tmp_path / "cell.svg", "--json", tmp_path / "cell.json"),
    )
    assert ran.returncode == 0, ran.stderr
    assert graph.fingerprint() in ran.stdout
    assert f"{graph.params:,}" in ran.stdout
    assert "conv2d 3×3" in ran.stdout
    assert "unknown operators: none" in ran.stdout
    assert ET.parse(tmp_path / "cell.svg").getroot().tag.endswith("svg")
    written = json.loads((tmp_path / "cell.json").read_text())
    assert Graph.from_json(written["graph"]) == graph
    assert written["fingerprint"] == graph.fingerprint()


@pytest.mark.parametrize("ending", ["tflite", "onnx", "pt2"])
def test_what_is_exported_is_the_same_network_when_it_comes_back(leti, tmp_path: Path, ending: str) -> None:
    if ending == "onnx":
        pytest.importorskip("onnx")
    file = tmp_path / f"network.{ending}"
    exported = leti("export", CELL, file, "--config", '{"modules_per_stack": 1}')
    assert exported.returncode == 0, exported.stderr
    assert f"{file.stat().st_size:,} bytes" in exported.stdout
    ran = leti("inspect", file, "--by", "kind")
    assert ran.returncode == 0, ran.stderr
    assert lower(spec_of(CELL, SMALL)).fingerprint() in ran.stdout


def test_an_onnx_file_becomes_a_tflite_file_with_the_same_weights(leti, tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    pytest.importorskip("onnx")
    litert = pytest.importorskip("leti.device_agents.desktop.litert")
    direct, onnx, through = tmp_path / "direct.tflite", tmp_path / "network.onnx", tmp_path / "through.tflite"
    for source, target in ((CELL, direct), (CELL, onnx), (onnx, through)):
        config = ("--config", '{"modules_per_stack": 1}') if source == CELL else ()
        assert leti("export", source, target, *config).returncode == 0
    first, second = (litert.LiteRTBackend().load(file.read_bytes()).outputs()[0] for file in (direct, through))
    assert np.abs(first - second).max() <= 1e-4 * np.abs(first).max()


def test_names_in_a_file_are_shown_as_they_are(leti, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    names = ["[/foo]", "[bold]w[/bold]", ":smile:", "a\nb\x1b[31mc", "[0]/w"]
    values = [onnx.helper.make_tensor_value_info(f"x{i}", onnx.TensorProto.FLOAT, [1, 4]) for i in range(6)]
    nodes = [
        onnx.helper.make_node("Twist", [f"x{i}"], [f"x{i + 1}"], name=name, domain="my[/d]")
        for i, name in enumerate(names)
    ]
    graph = onnx.helper.make_graph(nodes, "network", values[:1], values[-1:], value_info=values[1:-1])
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("my[/d]", 1)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets), tmp_path / "model.onnx")
    ran = leti("inspect", "model.onnx", "--svg", "model.svg", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "unknown:my[/d].Twist ×5" in ran.stdout
    for name in (*names[:3], "a b [31mc", names[4]):
        assert f" {name} " in ran.stdout
    assert "\x1b" not in ran.stdout
    assert ET.parse(tmp_path / "model.svg").getroot().tag.endswith("svg")


@pytest.mark.parametrize("precision", ["float16", "dynamic_range", "full_integer"])
def test_precisions_are_in_the_file(leti, tmp_path: Path, precision: str) -> None:
    sizes = {}
    for name in ("float32", precision):
        file = tmp_path / f"{name}.tflite"
        assert leti("export", CELL, file, "--precision", name).returncode == 0
        sizes[name] = file.stat().st_size
    assert sizes[precision] < 0.75 * sizes["float32"]


def test_ranges_are_learned_from_data_that_is_given(leti, tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    images = np.random.default_rng(0).uniform(0, 255, (6, 32, 32, 3))
    np.save(tmp_path / "images.npy", images)
    np.savez(tmp_path / "two.npz", images, images)
    (tmp_path / "broken.npy").write_bytes(b"no array")
    small = ("--config", '{"modules_per_stack": 1}')
    assert leti("export", CELL, tmp_path / "float.tflite", *small).returncode == 0
    given = ("--precision", "full_integer", "--representative")
    ran = leti("export", CELL, tmp_path / "int.tflite", *small, *given, tmp_path / "images.npy")
    assert ran.returncode == 0, ran.stderr
    made = []
    for name in ("float", "int"):
        model = litert.Interpreter(str(tmp_path / f"{name}.tflite"), num_threads=1)
        model.allocate_tensors()
        model.set_tensor(model.get_input_details()[0]["index"], images[5:].astype(np.float32))
        model.invoke()
        made.append(model.get_tensor(model.get_output_details()[0]["index"]))
    exact, close = made
    assert np.abs(exact - close).max() <= 0.1 * np.abs(exact).max()
    for name, says in (("two.npz", "not of"), ("broken.npy", "cannot be read"), ("missing.npy", "cannot be read")):
        ran = leti("export", CELL, tmp_path / "int.tflite", *small, *given, tmp_path / name)
        assert ran.returncode == 2
        assert says in ran.stderr
        assert len(ran.stderr.splitlines()) == 1


def test_a_spec_of_any_space_is_read_from_a_file(leti, tmp_path: Path) -> None:
    (spec,) = SPACES["fbnet"].sample(1, 0, NetworkConfig(input_shape=(64, 64, 3)))
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(spec.to_json()))
    ran = leti("inspect", file, "--by", "none")
    assert ran.returncode == 0, ran.stderr
    assert lower(spec).fingerprint() in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("inspect", "absent.tflite"), "absent.tflite"),
        (("inspect", "absent.json"), "absent.json"),
        (("inspect", "model.h5"), ".keras"),
        (("inspect", "model.pth"), "torch.export"),
        (("inspect", "model.bin"), ".onnx"),
        (("inspect", "broken.tflite"), "TFLite"),
        (("inspect", "broken.onnx"), "ONNX"),
        (("inspect", "broken.tflite", "--input-shape", "1,x"), "--input-shape"),
        (("inspect", "broken.tflite", "--input-shape", "1,2", "--input-shape", "1,3"), "twice"),
        (("inspect", CELL, "--input-shape", "1,2"), "--config"),
        (("export", CELL, "model.pb"), ".tflite, .onnx"),
        (("export", CELL, "model.onnx", "--precision", "float16"), "--precision"),
    ],
    ids=lambda value: " ".join(value)[-40:] if isinstance(value, tuple) else None,
)
def test_mistakes_are_one_line(leti, tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    if "broken.onnx" in arguments:
        pytest.importorskip("onnx")
    for name in ("broken.tflite", "broken.onnx"):
        (tmp_path / name).write_bytes(b"no model at all" * 10)
    ran = leti(*arguments, cwd=tmp_path)
    assert ran.returncode == 2
    assert says in ran.stderr
    assert len(ran.stderr.splitlines()) == 1, ran.stderr
