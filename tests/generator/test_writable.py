"""Whether a format can hold a graph is known without writing it, and the answer is that of writing it."""

from __future__ import annotations

import operator_cases as cases
import pytest

from leti.core.device import ModelFormat
from leti.core.errors import InvalidInput
from leti.core.graph import Graph, TensorType
from leti.core.spec import NetworkConfig
from leti.generator.cost import make_operator
from leti.generator.export import formats
from leti.generator.export.formats import check_writable, export_model
from leti.generator.lowering import lower
from leti.generator.precision import PRECISIONS, quantize
from leti.generator.spaces import get_space

FORMATS = {"tflite": "ai_edge_litert", "onnx": "onnx", "pt2": "numpy"}
SPEC = get_space("nasbench201").sample(1, 0, NetworkConfig(modules_per_stack=1))[0]


def graphs() -> list[tuple[str, Graph]]:
    """Return every operator by itself, and a network in every precision."""
    image = TensorType((1, 4, 4, 1))
    bicubic = make_operator("resize", (image,), (TensorType((1, 8, 8, 1)),), (("method", "bicubic"),))
    alone = [(case.name, case.draft.finish(weights=False).graph) for case in cases.CASES]
    networks = [(precision, quantize(lower(SPEC), precision)) for precision in PRECISIONS[1:]]
    return [*alone, *networks, ("float32", lower(SPEC)), ("bicubic", Graph((image,), (bicubic,), ((0,),), (1,)))]


@pytest.mark.parametrize("model_format", FORMATS)
def test_it_says_what_writing_says(model_format: ModelFormat) -> None:
    pytest.importorskip(FORMATS[model_format], reason="writes the format")

    def said(write: object, graph: Graph) -> tuple[str, str] | None:
        try:
            write(graph, model_format)  # type: ignore[operator]
        except InvalidInput as error:
            return error.message, error.field
        return None

    found = {name: (said(check_writable, graph), said(export_model, graph)) for name, graph in graphs()}
    assert {name: checked for name, (checked, _) in found.items()} == {name: told for name, (_, told) in found.items()}
    assert any(found[name][0] for name in found)
    assert found["float32"][0] is None


def test_what_is_known_is_not_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ai_edge_litert", reason="writes the format")
    graph = lower(SPEC)
    check_writable(graph, "tflite")
    monkeypatch.setattr(formats, "export_model", None)
    check_writable(lower(SPEC), "tflite")
