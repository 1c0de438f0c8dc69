"""A scoring run: what is there already is kept, the rest is scored, each shard is written at once or not at all."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from leti.core.codec import from_json, to_json
from leti.core.errors import Conflict, InvalidInput, LetiError, NotFound
from leti.core.extras import needs
from leti.core.prediction import Progress
from leti.service.scoring.engines import Engine, Files
from leti.service.scoring.plan import ScoringPlan, Shard

with needs("arrow"):
    import pyarrow.parquet as pq

MANIFEST: Final = "scores.json"
"""The file that says what the others hold."""

_PART: Final = re.compile(r"part-(\d{6})\.parquet")


@final
@dataclass(frozen=True, slots=True)
class ScoringReport:
    """How many networks a run scored, and how many were there before."""

    scored: int
    found: int
    files: int


def score(
    plan: ScoringPlan, files: Files, folder: Path, engine: Engine, *, processes: int, progress: Progress | None = None
) -> ScoringReport:
    """Score a plan into ``folder``, a Parquet file a shard; go on where an earlier run of the same plan ended.

    Raises :class:`Conflict` where the folder holds another plan's scores, or something else.
    """
    if processes < 1:
        raise InvalidInput(f"must be 1 or more, not {processes}", field="processes")
    _claim(folder, plan)
    there = _written(folder, plan)
    todo = [shard for shard in plan if shard.number not in there]
    found = plan.count - sum(shard.count for shard in todo)
    done = found
    if progress is not None:
        progress(done, plan.count)
    if todo:
        for shard, table in engine(plan, files, todo, min(processes, len(todo))):
            _write(folder, shard, table)
            done += shard.count
            if progress is not None:
                progress(done, plan.count)
    return ScoringReport(done - found, found, plan.number)


def read_files(folder: Path) -> dict[str, bytes]:
    """Return the files of a saved predictor; raise :class:`NotFound` where there are none."""
    try:
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
    except OSError as error:
        raise NotFound(
            f"the predictor's files are gone: {error.strerror}", field="--platform", remedy="see leti doctor"
        ) from error


def _claim(folder: Path, plan: ScoringPlan) -> None:
    """Make the folder that of a plan, or find that it is already."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / MANIFEST
    if not manifest.exists():
        if any(folder.iterdir()):
            raise Conflict(f"{folder} holds something else", field="--out", remedy="give an empty or absent folder")
        _replace(manifest, json.dumps(to_json(plan), indent=1).encode())
        return
    try:
        other = from_json(ScoringPlan, json.loads(manifest.read_bytes()))
    except (ValueError, RecursionError, LetiError) as error:
        raise Conflict(f"{manifest} cannot be read: {error}", field="--out", remedy="give another folder") from None
    if other != plan:
        differing = ", ".join(name for name in ScoringPlan.__dataclass_fields__ if _of(other, name) != _of(plan, name))
        raise Conflict(
            f"{folder} holds scores of another run: it differs in {differing}",
            field="--out",
            remedy="give another folder, or the options of that run",
        )


def _of(plan: ScoringPlan, name: str) -> Any:
    return getattr(plan, name)


def _written(folder: Path, plan: ScoringPlan) -> set[int]:
    """Return the numbers of the shards that are written whole."""
    sizes = {shard.number: shard.count for shard in plan}
    found = set()
    for path in folder.iterdir():
        match = _PART.fullmatch(path.name)
        if match and int(match[1]) in sizes and _rows(path) == sizes[int(match[1])]:
            found.add(int(match[1]))
    return found


def _rows(path: Path) -> int:
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, ValueError):  # what pyarrow's own errors descend from
        return -1


def _write(folder: Path, shard: Shard, table: Any) -> None:
    target = folder / f"part-{shard.number:06d}.parquet"
    part = target.with_suffix(".part")
    pq.write_table(table, part, compression="zstd")
    os.replace(part, target)


def _replace(target: Path, content: bytes) -> None:
    part = target.with_suffix(".part")
    part.write_bytes(content)
    os.replace(part, target)
