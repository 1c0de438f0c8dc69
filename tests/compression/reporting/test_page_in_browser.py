"""The report in a real browser, without a network: nothing complains, nothing keeps anybody out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("vl_convert", reason="needs leti[compression]")
pytest.importorskip("torch", reason="needs leti[compression]")

from browsing import Tab, chromium, needs_chromium, shot

from leti.compression.reporting.page import write_report

if TYPE_CHECKING:
    from leti.compression.results import Compression

VIEWS = (("light", 1280), ("dark", 390))


@needs_chromium
def test_report_stands_alone(compression: Compression, tmp_path: Path) -> None:
    write_report(compression, tmp_path / "report.html", network="digits", seed=0)
    with chromium() as browser:
        for scheme, width in VIEWS:
            opened = browser.new_context(
                offline=True, bypass_csp=True, color_scheme=scheme, viewport={"width": width, "height": 900}
            )
            tab = Tab(opened.new_page(), (tmp_path / "report.html").as_uri())
            tab.page.goto(tab.url)
            assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
            paints = tab.page.evaluate(
                "() => [document.querySelector('svg text'), document.body]"
                ".map(one => { const style = getComputedStyle(one); return [style.fill, style.backgroundColor]; })"
            )
            assert paints[0][0] != "rgb(0, 0, 0)", "text of plots takes the page's colour"
            assert (paints[1][1] == "rgb(255, 255, 255)") == (scheme == "light")
            assert tab.violations() == []
            shot(tab, f"compression-{scheme}-{width}")
            assert tab.complaints == []
            opened.close()
