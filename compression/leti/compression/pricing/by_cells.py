"""Prices by cells: a network takes what its kernels take, each measured on the device by itself; works offline."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple, Self, final

from typing_extensions import override

from leti.compression.files import write_whole
from leti.compression.measuring.meter import Meter, Progress, Reading, Subject
from leti.compression.pricing.cells import REMEMBERED, Cut, Run, cell, cuts, distinct_cells, idle_network, joined, runs
from leti.compression.pricing.prices import Prices
from leti.compression.searching.candidates import Costs
from leti.core.errors import ArtifactError, InvalidInput, NotPredictable, VersionMismatch
from leti.core.extras import needs
from leti.core.graph import Graph
from leti.core.patches import Patch
from leti.predictors.array_files import read_arrays, write_arrays
from leti.predictors.kernel import Kernel

with needs("compression"):
    import numpy as np

BATCH: Final = 64
"""Cells that are measured in one go, after which the table is written."""

FORMAT: Final = "leti-cells"
VERSION: Final = 1

_LEAST: Final = 0.05  # of what a cell takes, that is its kernel's however long an invoke takes
_COLUMNS: Final = ("ratio", "low_ratio", "high_ratio")


class _Sum(NamedTuple):
    """Latency of kernels and its upper bound, in latencies of the baseline."""

    ratio: float
    high: float


@final
class CellTable(Prices):
    """What cells take on a platform, each beside the same baseline network.

    A network's latency is the sum of its kernels' and one invoke's: what an idle network takes is taken off every cell
    and counted once. Its upper bound is the sum of the cells' upper bounds, as it were if all of them erred to the same
    side: what disturbs one cell disturbs others alike, and a search may add up the bounds of its candidates, which a
    sum in quadrature forbids. It holds how far measurements err; what kernels do to each other, a calibration finds
    (:mod:`leti.compression.searching.calibrating`).

    ``baseline`` is the baseline's fingerprint; its latency is the median of ``baselines_ms``, one of each batch.
    Float32 and int8 cells stand in one table. A table is never changed.
    """

    def __init__(
        self,
        platform: str,
        runtime: str,
        baseline: str,
        baselines_ms: Sequence[float] = (),
        readings: Mapping[str, Reading] | None = None,
    ) -> None:
        self.platform = platform
        self.runtime = runtime
        self.baseline = baseline
        self.baselines_ms = tuple(baselines_ms)
        self.readings: Mapping[str, Reading] = dict(readings or {})
        self._idle = self.readings.get(idle_network().fingerprint())
        self._kernels: dict[Cut, _Sum | None] = {}
        self._runs: dict[Run, _Sum | None] = {}

    def __len__(self) -> int:
        """Return the number of cells."""
        return len(self.readings)

    @property
    def baseline_ms(self) -> float:
        """The baseline's latency; not a number as long as nothing is measured."""
        return median(self.baselines_ms) if self.baselines_ms else math.nan

    @override
    def price(self, base: Graph, patches: Sequence[Patch]) -> Costs:
        pieces = self._pieces_of(base)
        return self.price_graphs([pieces.patched(patch, f"patches[{i}]") for i, patch in enumerate(patches)])

    def price_graphs(self, graphs: Sequence[Graph]) -> Costs:
        """Return the costs of graphs, ``(graphs,)`` of each measure.

        Raises :class:`~leti.core.errors.NotPredictable`, naming a kernel, where a cell is missing.
        """
        sums = [self._sum(graph) for graph in graphs]
        known = [found for found in sums if found is not None]
        if self._idle is None or len(known) < len(sums):
            raise self._unknown([graph for graph, found in zip(graphs, sums, strict=True) if found is None])
        rows = np.array(known, np.float64).reshape(-1, 2)
        latencies = self.baseline_ms * (rows + np.array([self._idle.ratio, self._idle.high_ratio]))
        return Costs.of(latencies[:, 0], latencies[:, 1], [graph.macs for graph in graphs])

    def kernels_ms(self, graph: Graph) -> tuple[tuple[tuple[int, ...], float], ...]:
        """Return the operators of each cell of a graph, and what they take without what an invoke takes beside them.

        Raises :class:`~leti.core.errors.NotPredictable`, as :meth:`price_graphs` does.
        """
        found = [(operators, self._kernel(cut)) for operators, cut in cuts(graph)]
        if self._idle is None or any(kernel is None for _, kernel in found):
            raise self._unknown([graph])
        return tuple([(operators, self.baseline_ms * kernel.ratio) for operators, kernel in found if kernel])

    def missing(self, graphs: Iterable[Graph]) -> tuple[Graph, ...]:
        """Return the cells that the table lacks to price these graphs, the idle network first where it lacks that."""
        needed = (idle_network(), *distinct_cells(graphs))
        return tuple([found for found in needed if found.fingerprint() not in self.readings])

    def filled(
        self,
        meter: Meter,
        baseline: Subject,
        cells: Sequence[Graph],
        *,
        path: Path | None = None,
        batch: int = BATCH,
        progress: Progress | None = None,
    ) -> CellTable:
        """Return the table with these cells measured as well, ``batch`` of them at a time beside the baseline.

        After each batch the table is written to ``path``: who loads it and asks what is missing goes on from there.
        Raises :class:`~leti.core.errors.InvalidInput` for another baseline than the table's, and
        :class:`~leti.core.errors.MeasurementFailed` where a cell cannot be measured.
        """
        if baseline.graph.fingerprint() != self.baseline:
            raise InvalidInput("is another network than the table's", field="baseline", remedy="begin a new table")
        table = self
        for start in range(0, len(cells), batch):
            chosen = cells[start : start + batch]
            reference, *found = meter.measure(
                baseline, [Subject(each) for each in chosen], progress=_onwards(progress, start, len(cells))
            )
            more = {each.fingerprint(): reading for each, reading in zip(chosen, found, strict=True)}
            baselines_ms = (*table.baselines_ms, reference.latency_ms)
            table = CellTable(self.platform, self.runtime, self.baseline, baselines_ms, {**table.readings, **more})
            if path is not None:
                table.save(path)
        return table

    def save(self, path: Path) -> None:
        """Write the table as NumPy's .npz, without pickle; a reader finds it whole, or the one before."""
        readings = list(self.readings.values())
        content = write_arrays(
            {
                "fingerprint": np.array(list(self.readings), "U64"),
                **{name: np.array([getattr(each, name) for each in readings], np.float64) for name in _COLUMNS},
                "is_interleaved": np.array([each.is_interleaved for each in readings], bool),
                "noisy": np.array([each.noisy for each in readings], bool),
                "baselines_ms": np.array(self.baselines_ms, np.float64),
            },
            {"format": FORMAT, "version": VERSION, "platform": self.platform, "runtime": self.runtime,
             "baseline": self.baseline},
        )  # fmt: skip
        write_whole(path, content)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises :class:`~leti.core.errors.InvalidInput`, naming the file, where it is not there or is no such table, and
        :class:`~leti.core.errors.VersionMismatch` where a later version wrote it.
        """
        try:
            arrays, about = read_arrays(path.read_bytes())
            if about["format"] != FORMAT:
                raise ValueError("it holds something else")
            if about["version"] != VERSION:
                raise VersionMismatch(f"{path.name!r} is of the version {about['version']!r}", field="table")
            return cls(*_texts(about), *_readings(arrays))
        except (OSError, ArtifactError, KeyError, TypeError, ValueError, IndexError) as error:
            raise InvalidInput(f"{path.name!r} is no table of cells: {error}", field="table") from error

    def _sum(self, graph: Graph) -> _Sum | None:
        """Return what a graph's kernels take, ``None`` where a cell is missing."""
        placed = runs(graph)
        if not placed:
            return _total([(self._kernel(cut), 1) for _, cut in cuts(graph)])
        return _total([(self._run(run), count) for run, count in placed])

    def _run(self, run: Run) -> _Sum | None:
        if run not in self._runs:
            if len(self._runs) >= REMEMBERED:
                self._runs.clear()
            self._runs[run] = _total([(self._kernel(cut), 1) for _, cut in cuts(joined(run))])
        return self._runs[run]

    def _kernel(self, cut: Cut) -> _Sum | None:
        if cut not in self._kernels:
            if len(self._kernels) >= REMEMBERED:
                self._kernels.clear()
            reading = self.readings.get(cell(cut).fingerprint())
            self._kernels[cut] = reading and _Sum(self._own(reading.ratio), self._own(reading.high_ratio))
        return self._kernels[cut]

    def _own(self, ratio: float) -> float:
        """Return what a kernel takes of what its cell does."""
        return ratio if self._idle is None else max(ratio - self._idle.ratio, _LEAST * ratio)

    def _unknown(self, graphs: Sequence[Graph]) -> NotPredictable:
        lacking = self.missing(graphs)
        name = Kernel.of(lacking[0].ops).name
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        return NotPredictable(
            f"the table lacks {name}{more}", field="cells", remedy="measure what is missing", missing=len(lacking)
        )


def _total(found: Sequence[tuple[_Sum | None, int]]) -> _Sum | None:
    ratio = high = 0.0
    for each, count in found:
        if each is None:
            return None
        ratio += count * each.ratio
        high += count * each.high
    return _Sum(ratio, high)


def _onwards(progress: Progress | None, done: int, count: int) -> Progress | None:
    """Return what tells of all cells, with so many done before, what a meter tells of its baseline and some cells."""
    return None if progress is None else lambda measured, _: progress(done + max(measured - 1, 0), count)


def _texts(about: Mapping[str, Any]) -> tuple[str, str, str]:
    platform, runtime, baseline = (about[name] for name in ("platform", "runtime", "baseline"))
    if not all(isinstance(text, str) for text in (platform, runtime, baseline)):
        raise ValueError("its platform, runtime and baseline must be texts")
    return platform, runtime, baseline


def _readings(arrays: Mapping[str, Any]) -> tuple[list[float], dict[str, Reading]]:
    """Return the baseline's latencies and the readings by fingerprint; raise ``ValueError`` where they cannot be."""
    names, baselines_ms = arrays["fingerprint"], arrays["baselines_ms"]
    columns = [*(arrays[name] for name in _COLUMNS), arrays["is_interleaved"], arrays["noisy"]]
    if names.ndim != 1 or any(column.shape != names.shape for column in columns) or baselines_ms.ndim != 1:
        raise ValueError("its columns are of different lengths")
    kinds = [array.dtype.kind for array in (names, baselines_ms, *columns)]
    if kinds != ["U", "f", "f", "f", "f", "b", "b"]:
        raise ValueError("its columns are of other types")
    ratio, low, high = columns[:3]
    times = np.concatenate([baselines_ms, *columns[:3]])
    if not (np.isfinite(times) & (times > 0)).all() or not ((low <= ratio) & (ratio <= high)).all():
        raise ValueError("it holds what no measurement is")
    if len(names) and not len(baselines_ms):
        raise ValueError("it does not say what the baseline takes")
    latency = float(np.median(baselines_ms)) if len(baselines_ms) else math.nan
    rows = zip(*[column.tolist() for column in (names, *columns)], strict=True)
    return baselines_ms.tolist(), {name: Reading(latency * own, own, *rest) for name, own, *rest in rows}
