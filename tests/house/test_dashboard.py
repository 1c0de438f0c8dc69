"""What an engineer does on the dashboard, clicked through in a real browser on a really running service and agent."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

for module, extra in (("fastapi", "service"), ("ai_edge_litert", "agent"), ("xgboost", "boosting")):
    pytest.importorskip(module, reason=f"needs leti[{extra}]")

from browsing import Tab, chromium, needs_chromium, shot

from leti.cli.processes import ServiceProcess
from leti.client import LatencyClient
from leti.core.spec import NetworkConfig
from leti.device_agents.desktop.bench import DesktopBench
from leti.device_agents.timing import Protocol
from leti.device_agents.worker import Agent
from leti.generator.export.formats import export_model
from leti.generator.lowering import lower
from leti.generator.spaces import get_space

pytestmark = [needs_chromium, pytest.mark.timeout(900)]

PATIENCE_MS = 240_000
NETWORKS = 34  # as few as can be trained on
QUICK = Protocol(warmup_ms=20, pass_ms=3, reference_ms=2, passes=4, retries=0, drift=100, slowdown=100)
"""No measurement is noisy, however busy the machine is."""


@dataclass(frozen=True)
class Farm:
    """A service that asks for tokens, with a worker and a real agent beside it."""

    url: str
    folder: Path
    admin: str = field(repr=False)


def _token(home: Path, name: str, role: str) -> str:
    command = [sys.executable, "-m", "leti.cli", "token", "create", name, "--role", role, "--home", str(home)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    folder = tmp_path_factory.mktemp("dashboard")
    home = folder / "home"
    admin, agent = _token(home, "ada", "admin"), _token(home, "bench", "agent")
    with ServiceProcess(home, auth=True) as service, measuring(service.url, agent, folder / "spool"):
        yield Farm(service.url, folder, admin)


@contextmanager
def measuring(url: str, token: str, spool: Path) -> Iterator[None]:
    """Have a real agent measure for the length of a block."""
    stop = threading.Event()
    with closing(DesktopBench("litert", protocol=QUICK)) as bench, LatencyClient(url, token=token) as client:
        agent = Agent(client, [bench], spool=spool, poll_s=0.2)
        thread = threading.Thread(target=agent.run, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


@pytest.fixture(scope="module")
def tab(farm: Farm) -> Iterator[Tab]:
    with chromium() as browser:
        found = Tab(browser.new_page(viewport={"width": 1280, "height": 900}), farm.url)
        found.page.on("dialog", lambda dialog: dialog.accept())
        found.page.set_default_timeout(PATIENCE_MS)
        yield found


def until(tab: Tab, path: str, seen: str) -> None:
    """Load a page again and again until it holds something."""
    for _ in range(PATIENCE_MS // 1000):
        tab.page.goto(tab.url + path)
        if tab.page.locator(seen).count():
            return
        tab.page.wait_for_timeout(1000)
    pytest.fail(f"{path} never showed {seen}")


def test_from_a_token_to_a_promoted_predictor_and_a_model_of_ones_own(farm: Farm, tab: Tab, tmp_path: Path) -> None:
    page = tab.page
    signs_in(farm, tab)
    until(tab, "/dashboard", "article.platform")
    starts_a_campaign_and_watches_it_finish(page)
    shot(tab, "journey-campaign")
    trains(page)
    opens_the_worst_prediction(tab)
    shot(tab, "journey-worst")
    promotes_another(tab)
    tries_a_model_file(page, tmp_path)
    shot(tab, "journey-model-file")
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("heading", name="Sign in").wait_for()
    tab.page.goto(farm.url + "/dashboard/predictors")
    page.get_by_role("heading", name="Sign in").wait_for()
    refused = re.compile("status of (401|422)")  # a wrong token, and a number that is none
    assert [one for one in tab.complaints if not refused.search(one)] == []


def signs_in(farm: Farm, tab: Tab) -> None:
    page = tab.page
    page.goto(farm.url)
    page.get_by_label("Token").fill("leti_not-a-token")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("alert").wait_for()
    page.get_by_label("Token").fill(farm.admin)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Overview").wait_for()
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (True, True, "Lax")


def starts_a_campaign_and_watches_it_finish(page: Any) -> None:
    page.get_by_role("link", name="Campaigns").click()
    page.locator("a[href='/dashboard/campaigns/new']").first.click()
    page.get_by_label("Name", exact=True).fill("<b>first</b>")
    page.get_by_label("Space 1").select_option("nasbench201")
    page.get_by_label("Networks 1").fill("none")
    page.get_by_role("button", name="Begin").click()
    page.get_by_role("alert").wait_for()
    assert page.get_by_label("Name", exact=True).input_value() == "<b>first</b>", "what was typed is kept"
    page.get_by_label("Networks 1").fill(str(NETWORKS))
    page.locator("[name=repeats]").fill("2")
    page.get_by_text(re.compile(r"\d+ jobs")).wait_for()
    page.get_by_role("button", name="Begin").click()
    page.get_by_role("heading", name="<b>first</b>").wait_for()
    page.get_by_text("nothing is left to measure").wait_for()
    done = page.get_by_role("row", name=re.compile("^● done")).or_(page.get_by_role("row", name=re.compile("^done")))
    assert int(done.get_by_role("cell").inner_text()) >= NETWORKS


def trains(page: Any) -> None:
    page.get_by_role("link", name="Predictors").click()
    for kind in ("flops", "linear"):
        page.get_by_label(kind, exact=True).check()
    page.get_by_role("button", name="Train", exact=True).click()
    page.get_by_role("heading", name=re.compile("^Task")).wait_for()
    page.locator(".state-done").first.wait_for()


def opens_the_worst_prediction(tab: Tab) -> None:
    page = tab.page
    page.get_by_role("link", name="Overview").click()
    page.locator("article.platform h3 a").click()
    tab.settle()
    assert page.locator(".verdict").count(), "a plain sentence says how far to trust it"
    worst = page.get_by_role("region", name=re.compile("^Worst predictions")).get_by_role("link").first
    name = worst.inner_text()
    worst.click()
    page.get_by_role("heading", name=re.compile(f"Network {name}")).wait_for()
    tab.settle()
    assert page.get_by_role("row").filter(has_text="<b>first</b>").count(), "its measurements name their campaign"


def promotes_another(tab: Tab) -> None:
    page = tab.page
    page.get_by_role("link", name="Predictors").click()
    button = page.get_by_role("button", name=re.compile("^Promote")).first
    kind, version = button.get_attribute("aria-label").removeprefix("Promote ").split()[:2]
    button.click()
    page.get_by_role("heading", name=re.compile(f"^{kind} {version} .*active")).wait_for()
    page.get_by_role("link", name="Predictors").first.click()
    tab.settle()
    serving = page.get_by_role("row").filter(has=page.locator(".state-active"))
    assert serving.count() == 1
    assert serving.get_by_role("rowheader").inner_text().startswith(kind)


def tries_a_model_file(page: Any, folder: Path) -> None:
    spec = get_space("nasbench201").sample(1, 99, NetworkConfig(modules_per_stack=1))[0]
    file = folder / "mine.tflite"
    file.write_bytes(export_model(lower(spec), "tflite"))
    page.get_by_role("link", name="Try it").click()
    page.get_by_label("A .tflite or .onnx file").set_input_files(file)
    page.get_by_role("heading", name="Latency on every platform").wait_for()
    assert re.search(r"\d ms", page.locator("#answer").inner_text())
