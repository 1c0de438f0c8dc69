"""Graphs as pictures."""

from __future__ import annotations

from itertools import combinations
from xml.etree import ElementTree as ET

import pytest

from leti.core.errors import TooLarge
from leti.core.graph import Graph, TensorType
from leti.core.spec import NetworkConfig
from leti.generator import drawing
from leti.generator.builder import GraphBuilder
from leti.generator.cost import make_operator, make_unknown
from leti.generator.drawing import draw
from leti.generator.lowering import lower
from leti.generator.spaces import SPACES

SVG = "{http://www.w3.org/2000/svg}"
CONFIG = NetworkConfig(modules_per_stack=2)


def boxes(svg: str) -> list[tuple[float, float, float, float]]:
    return [
        tuple(float(rect.get(key, "")) for key in ("x", "y", "width", "height"))
        for rect in ET.fromstring(svg).iter(f"{SVG}rect")
    ]


@pytest.mark.parametrize("space", ["nasbench101", "nasbench201"])
def test_every_kernel_has_a_box_and_none_overlap(space: str) -> None:
    for spec in SPACES[space].sample(10, 0, CONFIG):
        graph = lower(spec)
        drawn = boxes(draw(graph).svg)
        assert len(drawn) == len(graph.kernels) + 2
        for (x, y, width, height), (other_x, other_y, *_) in combinations(drawn, 2):
            assert abs(x - other_x) >= width or abs(y - other_y) >= height


def test_everything_lies_inside_the_picture_and_arrows_lead_down() -> None:
    (spec,) = SPACES["nasbench201"].sample(1, 3, CONFIG)
    document = ET.fromstring(draw(lower(spec)).svg)
    left, top, width, height = (float(number) for number in document.get("viewBox", "").split())
    for x, y, box_width, box_height in boxes(draw(lower(spec)).svg):
        assert left <= x
        assert x + box_width <= left + width
        assert top <= y
        assert y + box_height <= top + height


def test_names_and_kinds_are_shown_as_text_and_never_as_markup() -> None:
    image = TensorType((1, 4, 4, 3))
    op = make_unknown("<script>alert(1)</script>", (image,), (image,), ())
    graph = Graph((image,), (op,), ((0,),), (1,))
    picture = draw(graph, ('"><script>',))
    document = ET.fromstring(picture.svg)
    assert not list(document.iter(f"{SVG}script"))
    assert any("<script>" in (text.text or "") for text in document.iter(f"{SVG}title"))
    assert "unknown" in {name for rect in document.iter(f"{SVG}rect") for name in rect.get("class", "").split()}
    assert picture._repr_svg_() == picture.svg


def test_a_kernel_says_what_it_is_and_what_it_costs() -> None:
    builder = GraphBuilder(TensorType((1, 32, 32, 3)))
    graph = builder.graph(builder.relu(builder.conv(0, 16, 3, stride=2)))
    text = [element.text for element in ET.fromstring(draw(graph).svg).iter(f"{SVG}text")]
    assert "conv2d 3×3 /2 + relu" in text
    assert "1×16×16×16 · 111 k MACs" in text


def test_a_graph_without_operators_and_one_of_constants_are_drawn() -> None:
    builder = GraphBuilder(TensorType((1, 2, 2, 3)))
    assert len(boxes(draw(builder.graph(0)).svg)) == 2
    vector = TensorType((3,))
    alone = Graph((), (make_operator("constant", (), (vector,), ()),), ((),), (0,))
    assert len(boxes(draw(alone).svg)) == 2


def test_too_many_kernels_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "MAX_KERNELS", 3)
    (spec,) = SPACES["nasbench201"].sample(1, 3, CONFIG)
    with pytest.raises(TooLarge, match="kernels"):
        draw(lower(spec))
