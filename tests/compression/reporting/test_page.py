"""The report: every verdict says what is so, nothing that was given is read as HTML, nothing is fetched."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, get_args
from xml.etree import ElementTree

import pytest

pytest.importorskip("vl_convert", reason="needs leti[compression]")
pytest.importorskip("torch", reason="needs leti[compression]")

from leti.compression.reporting.page import page, write_report
from leti.compression.reporting.words import HEADLINES, digits
from leti.compression.results import Verdict

if TYPE_CHECKING:
    from leti.compression.results import Compression

EVIL = "<script>alert(1)</script>"


class Outline(HTMLParser):
    """What elements a page has, with their attributes, and its tables' sizes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


@pytest.fixture(scope="module")
def text(compression: Compression) -> str:
    return page(replace(compression, summary=EVIL, platform=EVIL), network=EVIL, seed=7)


def test_page_holds_no_script_and_fetches_nothing(text: str) -> None:
    outline = Outline(text)
    assert outline.count("script") == 0
    assert "&lt;script&gt;alert(1)" in text
    assert "<script>" not in text
    for _, attributes in outline.elements:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href", "action"):
            assert (attributes.get(name) or "data:,") == "data:,"
    assert not re.search(r"@import|url\((?!#)", text)


def test_plots_are_named_and_have_tables(text: str) -> None:
    outline = Outline(text)
    assert outline.count("svg") == outline.count("figcaption") == outline.count("desc") == 4
    assert outline.count("table") == outline.count("caption") == 6
    identities = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(identities) == len(set(identities))
    for drawing in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        assert ElementTree.fromstring(drawing).get("role") == "img"
    assert not re.search(r"(?:fill|stroke)=\"#(?!ddd)", text), "a colour that does not follow the page's"


def test_what_was_found_is_in_the_tables(text: str) -> None:
    said = unescape(text).replace("\N{NO-BREAK SPACE}", " ")
    for words in (
        "2.07× (2.01 … 2.11)", "no, 17.6 % over", "yes, uses 96.8 %", "paired on 5,373 samples", "Tucker-2 of ranks",
        "Seed 7", "model.tflite", "calibrated & solved again", "smaller, not faster",
    ):  # fmt: skip
        assert words in said


@pytest.mark.parametrize("kind", get_args(Verdict))
def test_verdict_comes_first_with_what_there_is_to_say(compression: Compression, kind: Verdict) -> None:
    text = page(replace(compression, verdict=kind, summary="Takes <5 ms."))
    first = re.search(r'<div class="verdict (\w*)">\s*<p>(.*?)</p>', text)
    assert first is not None
    assert first[2] == f"{HEADLINES[kind]} Takes &lt;5 ms."
    assert (first[1] == "good") == (kind in ("met", "met by precision"))
    assert text.index(first[0]) < text.index("<dl>") < text.index("<svg")


def test_what_is_not_known_is_left_out(unmeasured: Compression, tmp_path: Path) -> None:
    write_report(unmeasured, tmp_path / "of" / "report.html")
    text = (tmp_path / "of" / "report.html").read_text(encoding="utf-8")
    assert "Not measured." in text
    assert "million multiply-accumulates" in text
    assert "Predicted against measured" not in text
    bare = replace(unmeasured, best=None, front=(), layers=(), notes=(), seconds={}, verdict="infeasible")
    assert Outline(page(bare)).count("table") == 0


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.0, "0"), (1234.5, "1,234"), (0.000012, "0.000012"), (-0.5, "\N{MINUS SIGN}0.5"), (99.96, "100"), (None, "–")],
)
def test_numbers_never_stand_in_powers_of_ten(value: float | None, said: str) -> None:
    assert digits(value) == said
