"""Tasks on a Ray cluster: the worker claims and watches as ever, the work is done on whichever node has room."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, final

from typing_extensions import override

from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.service.settings import Settings
from leti.service.store import Claimed
from leti.service.tasks.running import Launcher, TaskProcess, run_alone

DIED: Final = 1
"""Exit code of a task whose process, or node, was lost."""


@contextmanager
def launcher(settings: Settings) -> Iterator[Launcher]:
    """Join the cluster that ``RAY_ADDRESS`` names, else one made here; give what launches tasks there.

    Nodes share the database and the artifacts, and nothing else. Raises :class:`InvalidInput` where they cannot.
    """
    if os.environ.get("RAY_ADDRESS"):
        for field in ("database_url", "artifacts_url"):
            if not getattr(settings, field):
                raise InvalidInput(
                    "must be given: the nodes of a cluster share no folder",
                    field=field,
                    remedy="use PostgreSQL and an object store, or leave RAY_ADDRESS unset",
                )
    with needs("ray"):
        import ray
    ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        remote = ray.remote(num_cpus=1, max_retries=0)(run_alone)  # the queue tries again, not Ray
        yield lambda settings, claimed: _RayProcess(remote, settings, claimed)
    finally:
        ray.shutdown()


@final
class _RayProcess(TaskProcess):
    """One task on a node; Ray ends it by itself when the worker is gone."""

    def __init__(self, remote: Any, settings: Settings, claimed: Claimed) -> None:
        self._remote = remote
        self._arguments = (settings, claimed)
        self._running: Any = None
        self._code: int | None = None

    @property
    @override
    def exitcode(self) -> int | None:
        self._look(0.0)
        return self._code

    @override
    def start(self) -> None:
        self._running = self._remote.remote(*self._arguments)

    @override
    def join(self, timeout: float | None = None) -> None:
        self._look(timeout)

    @override
    def is_alive(self) -> bool:
        return self._running is not None and self.exitcode is None

    @override
    def kill(self) -> None:
        import ray

        ray.cancel(self._running, force=True)

    def _look(self, timeout_s: float | None) -> None:
        import ray
        from ray.exceptions import RayError

        if self._code is not None or self._running is None:
            return
        ended, _ = ray.wait([self._running], timeout=timeout_s)
        if ended:
            try:
                self._code = int(ray.get(self._running))
            except RayError:
                self._code = DIED
