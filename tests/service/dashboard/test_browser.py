"""Every page in a real browser: nothing complains, nothing keeps anybody out, light and dark, wide and narrow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from browsing import VIEWS, Tab, chromium, needs_chromium, shot

from leti.core.training import EvaluationRequest
from leti.service.server import running

pytestmark = [needs_chromium, pytest.mark.sqlite]

LOOKED_INTO = (("light", 1280), ("dark", 390))
"""Views of every page, into which axe looks too: both schemes, and both widths."""

CROSSED = ("platform", "network", "try-space", "campaign-new")
"""Pages that are seen in the other two views as well: plots, a drawing, tables and forms in both schemes and widths."""


@pytest.fixture(scope="module")
def learned(learned_apart: Any) -> Any:
    return learned_apart


@pytest.fixture(scope="module")
def served(learned: Any) -> Iterator[str]:
    with running(learned.settings) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


def paths(house: Any) -> dict[str, str]:
    """Return every page that holds data, by its name."""
    (fingerprint,) = house.rows("SELECT fingerprint FROM holdout_points LIMIT 1")[0]
    platform = f"/dashboard/platforms/{house.platform_id}"
    return {
        "overview": "/dashboard",
        "platform": platform,
        "platform-measurements": f"{platform}/measurements",
        "platform-compare": f"{platform}/compare",
        "networks": "/dashboard/networks",
        "network": f"/dashboard/networks/{fingerprint}",
        "try": "/dashboard/try",
        "try-space": "/dashboard/try?space=nasbench201",
        "predictors": "/dashboard/predictors",
        "predictor": "/dashboard/predictors/1",
        "datasets": "/dashboard/datasets",
        "campaigns": "/dashboard/campaigns",
        "campaign": "/dashboard/campaigns/1",
        "campaign-new": "/dashboard/campaigns/new",
        "jobs": "/dashboard/jobs",
        "tasks": "/dashboard/tasks",
        "agents": "/dashboard/agents",
        "tokens": "/dashboard/tokens",
    }


@pytest.mark.parametrize(("scheme", "width"), VIEWS, ids=lambda value: str(value))
def test_pages_work_and_can_be_used_by_all(learned: Any, served: str, browser: Any, scheme: str, width: int) -> None:
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": 900}, reduced_motion="reduce"
    )
    tab, violations, wide = Tab(context.new_page(), served), [], []
    every = (scheme, width) in LOOKED_INTO
    for name, path in paths(learned).items():
        if not every and name not in CROSSED:
            continue
        tab.open(path)
        if every:
            violations += tab.violations()
        shot(tab, f"{name}-{scheme}-{width}")
        if tab.page.evaluate("document.documentElement.scrollWidth > innerWidth"):  # what is wide scrolls by itself
            wide.append(path)
    context.close()
    assert (tab.complaints, violations, wide) == ([], [], [])


@pytest.fixture
def tab(served: str, browser: Any) -> Iterator[Tab]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    yield Tab(context.new_page(), served)
    context.close()


def test_pages_are_used_by_keyboard_alone(learned: Any, tab: Tab) -> None:
    page = tab.page
    tab.open(f"/dashboard/platforms/{learned.platform_id}")
    page.keyboard.press("Tab")
    assert page.locator(":focus").inner_text() == "Skip to the content"
    page.keyboard.press("Enter")
    page.wait_for_function("document.activeElement.id === 'main'")
    focused = set()
    for _ in range(60):  # every link, field, table that scrolls, and its unfolding is come by, and shows it
        page.keyboard.press("Tab")
        said = json.loads(
            page.evaluate(
                "(() => { const one = document.activeElement, style = getComputedStyle(one);"
                " const shown = style.outlineStyle !== 'none' || style.boxShadow !== 'none';"
                " return JSON.stringify([one.tagName, shown]); })()"
            )
        )
        focused.add(tuple(said))
    assert {"A", "SUMMARY", "SELECT", "BUTTON"} <= {tag for tag, _ in focused}
    assert all(shown for tag, shown in focused if tag != "BODY"), focused
    summary = page.locator("figure summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("figure details[open] table").first.is_visible(), "the table of a plot says what it draws"


def test_a_point_opens_its_network_and_a_figure_can_be_taken_along(learned: Any, tab: Tab) -> None:
    page = tab.page
    tab.open(f"/dashboard/platforms/{learned.platform_id}")
    figure = page.locator("figure", has=page.locator("h3", has_text="predicted against measured")).first
    with page.expect_download() as png:
        figure.get_by_role("button", name="PNG").click()
    with page.expect_download() as table:
        figure.get_by_role("link", name="CSV").click()
    assert png.value.path().read_bytes().startswith(b"\x89PNG")
    assert table.value.path().read_text().count("\n") == 1 + 15, "a heading, and a row of each network held out"
    plot = figure.locator(".plot")
    plot.scroll_into_view_if_needed()
    x, y = plot.evaluate(
        "place => { const data = place.chart.getOption().dataset[0].source, at = key => data[key][0];"
        " return place.chart.convertToPixel({seriesIndex: 0}, [at('measured_ms'), at('latency_ms')]); }"
    )
    plot.click(position={"x": x, "y": y})
    page.wait_for_url("**/dashboard/networks/*")


def test_light_and_dark_are_chosen_and_kept(tab: Tab) -> None:
    page = tab.page
    tab.open("/dashboard")
    before = page.evaluate("document.documentElement.dataset.theme")
    page.get_by_role("button", name="Light or dark").click()
    tab.open("/dashboard/agents")
    assert page.evaluate("document.documentElement.dataset.theme") == {"light": "dark", "dark": "light"}[before]


def test_the_overview_changes_by_itself(learned: Any, tab: Tab) -> None:
    tab.open("/dashboard")
    live = tab.page.locator("#live")
    live.get_by_text("none", exact=True).wait_for()
    task = learned.post("/evaluations", EvaluationRequest(learned.platform_id)).json()
    live.get_by_text("1 evaluate queued").wait_for()
    assert learned.client.post(f"/v1/tasks/{task['id']}/cancel").status_code == 200
    live.get_by_text("none", exact=True).wait_for()
    assert tab.complaints == []
