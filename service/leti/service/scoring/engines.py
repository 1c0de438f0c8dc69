"""Engines: where shards are scored, in processes of this machine or on a Ray cluster."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from leti.core.errors import Unavailable
from leti.core.extras import needs
from leti.core.prediction import Predictor
from leti.predictors import artifacts
from leti.service.scoring.plan import ScoringPlan, Shard

Files = Mapping[str, bytes]
"""The files of a saved predictor: small enough to travel, so that nodes need no folder in common."""

Scored = Iterator[tuple[Shard, Any]]

Engine = Callable[[ScoringPlan, Files, Sequence[Shard], int], Scored]
"""Takes a plan, the predictor's files, the shards to score and how many to score at a time; yields each with its table,
in the order in which they end. Raises :class:`~leti.core.errors.Unavailable` where a process dies."""


def load_files(files: Files, sha256: str) -> Predictor:
    """Return the predictor that these files hold; raise :class:`~leti.core.errors.ArtifactError` if damaged."""
    with tempfile.TemporaryDirectory(prefix="leti-score-") as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        return artifacts.load(Path(folder), sha256)


_loaded: list[Predictor] = []
"""The predictor of a scoring process: loaded once, when it starts."""


def _start(files: Files, sha256: str) -> None:
    _loaded.append(load_files(files, sha256))


def _score(plan: ScoringPlan, shard: Shard) -> Any:
    from leti.service.scoring.shards import score_shard

    return score_shard(plan, shard, _loaded[0])


def score_locally(
    plan: ScoringPlan, files: Files, todo: Sequence[Shard], processes: int
) -> Iterator[tuple[Shard, Any]]:
    """Score shards in ``processes`` processes of this machine."""
    context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks
    pool = ProcessPoolExecutor(processes, context, _start, (dict(files), plan.artifact_sha256))
    try:
        waiting = {pool.submit(_score, plan, shard): shard for shard in todo}
        for done in as_completed(waiting):
            yield waiting[done], done.result()
    except BrokenProcessPool as error:
        raise Unavailable(
            "a scoring process died", remedy="see to memory; the same command goes on where this one ended"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def score_on_ray(plan: ScoringPlan, files: Files, todo: Sequence[Shard], processes: int) -> Scored:
    """Score shards by ``processes`` actors of a Ray cluster: the one that ``RAY_ADDRESS`` names, else one made here."""
    with needs("ray"):
        import ray
        from ray.exceptions import RayError
        from ray.util import ActorPool

    joined = ray.is_initialized()
    if not joined:
        ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        content = ray.put(dict(files))  # once a node, not once an actor
        actor = ray.remote(num_cpus=1, max_restarts=2, max_task_retries=2)(_RayScorer)
        pool = ActorPool([actor.remote(plan, content) for _ in range(processes)])
        yield from pool.map_unordered(lambda scorer, shard: scorer.score.remote(shard), list(todo))
    except RayError as error:
        raise Unavailable(
            f"Ray gave up: {type(error).__name__}", remedy="see its logs; the same command goes on where this one ended"
        ) from error
    finally:
        if not joined:
            ray.shutdown()


class _RayScorer:
    """An actor: keeps a plan and its predictor, scores shards."""

    def __init__(self, plan: ScoringPlan, files: Files) -> None:
        self._plan = plan
        self._predictor = load_files(files, plan.artifact_sha256)

    def score(self, shard: Shard) -> tuple[Shard, Any]:
        """Return a shard with its table."""
        from leti.service.scoring.shards import score_shard

        return shard, score_shard(self._plan, shard, self._predictor)


ENGINES: Final[Mapping[str, Engine]] = MappingProxyType({"local": score_locally, "ray": score_on_ray})
"""Engines by name."""
