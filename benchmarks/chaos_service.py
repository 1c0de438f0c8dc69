"""The service of the chaos benchmark, in a process of its own: the real one, with a clock that may be wrong.

``python chaos_service.py HOME PORT SKEW_S LEASE_S [DATABASE_URL]``
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from leti.service import server
from leti.service.settings import Settings
from leti.service.store import Store


def main(home: str, port: str, skew_s: str, lease_s: str, database_url: str = "") -> None:
    """Serve until killed; leases run out by a clock that is ``skew_s`` ahead."""
    skew = float(skew_s)
    opened = Store.open

    def skewed(settings: Settings) -> Store:
        return opened(settings, lambda: time.time() + skew)

    server.Store.open = skewed  # type: ignore[method-assign,attr-defined]
    settings = Settings(
        Path(home),
        auth=False,
        database_url=database_url,
        lease_s=float(lease_s),
        max_deaths=12,
        quarantine_after=10_000,
    )
    server.serve(settings, port=int(port))


if __name__ == "__main__":
    main(*sys.argv[1:])
