"""A real browser for the tests: Chromium, with what a page complains of, and what axe finds in it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="needs leti[dev]: playwright")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs leti[dev]: axe-playwright-python")

CHROMIUM: Final = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium: Final = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here, nor named by CHROMIUM")

SHOTS: Final = "DASHBOARD_SCREENSHOTS"
"""Variable of the environment that names a folder for screenshots; without it none is taken."""

VIEWS: Final = (("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390))
SERIOUS: Final = ("serious", "critical")


@dataclass
class Tab:
    """A page of the browser, and everything that it complained of."""

    page: Any
    url: str
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(120_000)
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(f"{self.page.url}: {error}"))
        self.page.on("requestfailed", self._on_failed)
        self.page.on("response", self._on_response)

    def _on_console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{self.page.url}: {message.type}: {message.text}")

    def _on_failed(self, request: Any) -> None:
        if not request.url.endswith("/events") and "ERR_ABORTED" not in (request.failure or ""):
            self.complaints.append(f"{request.url}: {request.failure}")

    def _on_response(self, response: Any) -> None:
        if response.status >= 500:
            self.complaints.append(f"{response.url}: {response.status}")

    def open(self, path: str) -> None:
        """Open an address of the service, and wait for all that it loads by itself, wherever on the page it is."""
        self.page.goto(self.url + path)
        self.settle()

    def settle(self) -> None:
        """Wait until nothing of the page is loaded any more; scroll to what waits to be seen."""
        self.page.wait_for_load_state("domcontentloaded")
        self.page.wait_for_function(
            "() => { document.querySelector('.slot')?.scrollIntoView();"
            " return !document.querySelector("
            "'.slot, .htmx-request, .plot:not([data-drawn]), .drawing:not([data-drawn])'); }"
        )
        self.page.evaluate("scrollTo(0, 0)")

    def violations(self) -> list[str]:
        """Return what axe-core calls serious on the page, with the place of each."""
        found = axe.Axe().run(self.page, options={"resultTypes": ["violations"]}).response["violations"]
        return [
            f"{self.page.url}: {one['id']} ({one['impact']}): {one['help']}: "
            + "; ".join(" ".join(map(str, node["target"])) for node in one["nodes"][:5])
            for one in found
            if one["impact"] in SERIOUS
        ]


@contextmanager
def chromium() -> Iterator[Any]:
    """Run Chromium for the length of a block."""
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=os.getuid() != 0)
        yield browser
        browser.close()


def shot(tab: Tab, name: str) -> None:
    """Keep a picture of the whole page where pictures are wanted."""
    if wanted := os.environ.get(SHOTS):
        name = re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")
        Path(wanted).mkdir(parents=True, exist_ok=True)
        tab.page.screenshot(path=Path(wanted) / f"{name}.png", full_page=True)
