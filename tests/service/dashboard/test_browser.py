"""Every page in a real browser: nothing complains, nothing keeps anybody out, light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import VIEWS, Tab, chromium, needs_chromium, shot

from leti.service.server import running

pytestmark = [needs_chromium, pytest.mark.sqlite]


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
def test_pages_work_and_can_be_used_by_all(
    learned: Any, served: str, browser: Any, tmp_path: Path, scheme: str, width: int
) -> None:
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": 900}, reduced_motion="reduce"
    )
    tab, violations, wide = Tab(context.new_page(), served), [], []
    for name, path in paths(learned).items():
        tab.open(path)
        violations += tab.violations()
        shot(tab, tmp_path, f"{name}-{scheme}-{width}")
        if tab.page.evaluate("document.documentElement.scrollWidth > innerWidth"):  # what is wide scrolls by itself
            wide.append(path)
    context.close()
    assert (tab.complaints, violations, wide) == ([], [], [])
