"""The report: every verdict says what is so, nothing that was given is read as HTML, nothing is fetched."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

pytest.importorskip("vl_convert", reason="needs leti[compression]")
pytest.importorskip("torch", reason="needs leti[compression]")

from leti.compression.reporting.page import page, write_report
from leti.compression.reporting.words import digits, verdict

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
    said = unescape(text)
    for words in (
        "2.07× (2.01 … 2.11)", "no, 17.6 % over", "yes, uses 96.8 %", "paired on 5,373 samples", "Tucker-2 of ranks",
        "Seed 7", "model.tflite", "calibrated & solved again",
    ):  # fmt: skip
        assert words in said


def test_each_verdict_says_by_how_much(compression: Compression, unmeasured: Compression) -> None:
    assert "The budget is met." in verdict(compression)
    assert "96.8 % of the 1.2 ms" in verdict(compression)
    slower = replace(compression, verdict="missed", budget_ms=1.1)
    assert "5.6 % more than the 1.1 ms" in verdict(slower)
    assert "may lose 0.10" in verdict(replace(compression, verdict="too much is lost", max_drop=0.001))
    out_of_reach = verdict(replace(compression, verdict="infeasible", budget_ms=0.3, best=None))
    assert "less than 0.41 ms, 5.85× as fast" in out_of_reach
    assert "a device has not confirmed it" in verdict(unmeasured)
    assert "precision alone" in verdict(replace(compression, verdict="met by precision"))


def test_what_is_not_known_is_left_out(unmeasured: Compression, tmp_path: Path) -> None:
    write_report(unmeasured, tmp_path / "of" / "report.html")
    text = (tmp_path / "of" / "report.html").read_text(encoding="utf-8")
    assert "Nothing was measured." in text
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
