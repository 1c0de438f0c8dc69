"""The dashboard over a platform with many measurements: how long each page and each figure takes, and a real browser.

A database is filled as a farm would have filled it (``million_fill.py``): one platform, a predictor with its holdout.
Then a real service is asked for every page of it and, as a browser does, for all the figures that the page loads by
itself. At last Chromium opens the pages: *usable* is when the document is read and its first figure is drawn, to which
the page is scrolled.

    python benchmarks/dashboard.py [--measurements 50000] [--home full] [--times 5] [--without-browser]
"""

from __future__ import annotations

import argparse
import html
import json
import os
import random
import re
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import httpx
import sqlalchemy as sa
from million import serving
from million_fill import Filled, fill

from leti.service.database import Database
from leti.service.settings import Settings
from leti.service.tables import networks

WANTED_S = 2.0
LOADED = re.compile(r'hx-get="([^"]+)"[^>]*hx-trigger="(?:revealed|load)')


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measurements", type=int, default=50_000)
    parser.add_argument("--home", type=Path, help="kept, and used again")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--without-browser", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = given.home or Path(folder)
        filled = filled_home(home, given.measurements)
        print(f"{filled.measurements:,} measurements of one platform, {filled.networks:,} networks, ", end="")
        print(f"{filled.holdout:,} held out; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors\n")
        with serving(home, "") as url:
            print(f"{'page or figure':<84} {'p50 ms':>8} {'max ms':>8} {'KiB':>8}")
            for page in pages(filled):
                timed(url, page, given.times)
            if not given.without_browser:
                print(f"\n{'in Chromium':<84} {'p50 ms':>8} {'max ms':>8}")
                for page in pages(filled):
                    print(browsed(url, page, given.times))


def pages(filled: Filled) -> Iterator[str]:
    """Yield the pages' addresses; that of a network is left out, as all measurements hold the same samples here."""
    platform = f"/dashboard/platforms/{filled.platform_ids[0]}"
    yield from ("/dashboard", platform, f"{platform}/measurements")
    yield from (f"/dashboard/{name}" for name in ("networks", "predictors", "datasets", "campaigns", "jobs", "tasks"))


def filled_home(home: Path, measurements: int) -> Filled:
    """Return what is in a home, filled where it is not yet; networks cost what networks of their latency would."""
    kept = home / "filled.json"
    if kept.exists():
        return Filled(**json.loads(kept.read_text()))
    home.mkdir(parents=True, exist_ok=True)
    database = Database.named_by(Settings(home))
    filled = fill(database, measurements, 1)
    chance = random.Random(0)
    with database.writing() as connection:
        ratios = connection.execute(sa.text("SELECT fingerprint, ratio FROM truths")).all()
        for name, each in (("macs", 8e6), ("params", 3e5), ("peak_memory_bytes", 4e5)):
            costs = sa.update(networks).where(networks.c.fingerprint == sa.bindparam("one"))
            rows = [
                {"one": one, "cost": max(1, int(ratio * each * chance.lognormvariate(0, 0.25)))}
                for one, ratio in ratios
            ]
            connection.execute(costs.values({name: sa.bindparam("cost")}), rows)
    database.close()
    kept.write_text(json.dumps(asdict(filled)))
    return filled


def timed(url: str, page: str, times: int) -> None:
    """Ask for a page, and for what it loads by itself; print a line of each."""
    with httpx.Client(base_url=url, timeout=60) as client:
        first = client.get(page)
        addresses = [page, *map(html.unescape, LOADED.findall(first.text))] if first.status_code == 200 else [page]
        total = 0.0
        for address in dict.fromkeys(addresses):
            took = []
            for _ in range(times):
                started = time.perf_counter()
                answer = client.get(address)
                took.append(time.perf_counter() - started)
            total += statistics.median(took)
            failed = "" if answer.status_code == 200 else f"  {answer.status_code}"
            print(line(address if address == page else f"  {address}", took, len(answer.content), failed))
        if len(addresses) > 1:
            print(f"  {'all of it, one after the other':<82} {1000 * total:8.0f}{over(total)}")


def line(name: str, took: list[float], size: int = 0, more: str = "") -> str:
    """Return a line of the table."""
    p50, most = statistics.median(took), max(took)
    return (
        f"{name:<84} {1000 * p50:8.0f} {1000 * most:8.0f}" + (f" {size / 1024:8.0f}" if size else "") + more + over(p50)
    )


def over(seconds: float) -> str:
    """Return what is said of what takes too long."""
    return "  over the limit" if seconds > WANTED_S else ""


def browsed(url: str, page: str, times: int) -> str:
    """Open a page in Chromium, each time in a new one; return a line."""
    from playwright.sync_api import sync_playwright

    took = []
    with sync_playwright() as play:
        program = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        browser = play.chromium.launch(executable_path=program, chromium_sandbox=os.getuid() != 0)
        for _ in range(times):
            view = browser.new_page()
            started = time.perf_counter()
            view.goto(url + page, wait_until="domcontentloaded")
            view.evaluate("document.querySelector('.slot')?.scrollIntoView()")
            if view.locator(".slot, .plot").count():
                drawn = "() => document.querySelector('.plot[data-drawn], .figure .empty, .refused')"
                view.wait_for_function(drawn, timeout=60_000)
            took.append(time.perf_counter() - started)
            view.close()
        browser.close()
    return line(page, took)


if __name__ == "__main__":
    main()
