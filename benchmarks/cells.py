"""How far sums of cells are from whole networks on this machine: python benchmarks/cells.py [--network residual].

Compressed forms of a network are drawn, of fewer channels, of low rank, and of both. The kernels of all of them are
measured as cells, then the networks themselves, both in turns with the uncompressed network. Some networks calibrate
the table; on the others, which it was not calibrated with, predictions are held against what was measured, before and
after. Prints the mean absolute percentage error, the share within ±10 %, the worst, and the time that it took; and how
many patches a second the table prices: those of benchmarks/patches.py.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from patches import patches

from leti.compression.measuring.at_hand import BenchMeter
from leti.compression.measuring.meter import Meter, Subject
from leti.compression.pricing.by_cells import CellTable
from leti.compression.searching.calibrating import calibrate, errors
from leti.core.device import ModelPrecision
from leti.core.graph import Graph, TensorType
from leti.core.patches import Patch
from leti.device_agents.desktop.bench import DesktopBench
from leti.generator.builder import GraphBuilder
from leti.generator.compressing.pieces import Pieces
from leti.generator.compressing.sampling import compressed

TIMED = 4_000
"""Patches whose pricing is timed; what they are made of is taken as measured."""


class Kind(NamedTuple):
    """A kind of compression: networks to calibrate the table with, and networks held out."""

    name: str
    calibrating: tuple[Patch, ...]
    held_out: tuple[Patch, ...]


def digits() -> Graph:
    """Return a network of six convolutions for images of 32×32."""
    builder = GraphBuilder(TensorType((1, 32, 32, 1)))
    value = 0
    for channels, stride in ((32, 1), (32, 2), (64, 1), (64, 2), (96, 1), (96, 2)):
        value = builder.relu(builder.conv(value, channels, 3, stride))
    return builder.graph(builder.fully_connected(builder.global_mean(value), 10))


def residual() -> Graph:
    """Return a residual network of 20 layers for images of 32×32 (He et al., 2016)."""
    builder = GraphBuilder(TensorType((1, 32, 32, 3)))
    value = builder.relu(builder.conv(0, 16, 3))
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        for step in (stride, 1, 1):
            kept = value if step == 1 else builder.conv(value, channels, 1, step)
            inner = builder.relu(builder.conv(value, channels, 3, step))
            value = builder.relu(builder.add([builder.conv(inner, channels, 3), kept]))
    return builder.graph(builder.fully_connected(builder.global_mean(value), 10))


NETWORKS = {"digits": digits, "residual": residual}


def drawn(base: Graph, count: int, calibrating: int, precision: ModelPrecision, seed: int) -> list[Kind]:
    """Return patches of each kind of compression, ``count`` of them held out."""
    forms = compressed(base, 3 * (count + calibrating), seed)
    kinds = {
        "widths": [patch for patch in forms if not patch.ranks],
        "low rank": [patch for patch in forms if patch.ranks],
    }
    found = []
    for name, some in kinds.items():
        chosen = tuple(replace(patch, precision=precision) for patch in some[: count + calibrating])
        found.append(Kind(name, chosen[:calibrating], chosen[calibrating:]))
    return found


def line(name: str, predicted_ms: Sequence[float], measured_ms: Sequence[float]) -> str:
    """Return how far predictions are off."""
    off = errors(predicted_ms, measured_ms)
    return (
        f"{name:28} MAPE {off.mape:6.2%}, bias {off.bias:+6.2%}, worst {off.worst:6.2%}, "
        f"{off.within_10:4.0%} within ±10 %, {off.within_5:4.0%} within ±5 % ({off.count} networks)"
    )


def compare(meter: Meter, table: CellTable, base: Graph, kinds: Sequence[Kind]) -> None:
    """Measure the networks of each kind, and print how far the table is off."""
    pieces = Pieces(base)
    pooled: tuple[list[float], list[float], list[float]] = ([], [], [])
    for kind in kinds:
        forms = (*kind.calibrating, *kind.held_out)
        subjects = [Subject(pieces.patched(patch)) for patch in forms]
        baseline, *readings = meter.measure(Subject(base), subjects)
        # What the table says is in latencies of the baseline then and now, so that drift in between counts as well.
        costs = table.price(base, forms)
        measured = [reading.latency_ms for reading in readings]
        calibration = calibrate(costs.latency_ms[: len(kind.calibrating)].tolist(), measured[: len(kind.calibrating)])
        held = slice(len(kind.calibrating), None)
        before, truth = costs.latency_ms[held].tolist(), measured[held]
        after = calibration.apply(before).tolist()
        drift = baseline.latency_ms / table.baseline_ms - 1
        found = f"{min(measured):.3f} to {max(measured):.3f} ms, baseline {baseline.latency_ms:.3f} ms ({drift:+.2%})"
        print(f"{kind.name}: {found}; {calibration.factor:.3f} times and {calibration.offset_ms:+.4f} ms")
        print("  " + line("before calibration", before, truth))
        print("  " + line(f"after, with {len(kind.calibrating)} networks", after, truth))
        above = sum(high >= ms for high, ms in zip(costs.high_ms[held], truth, strict=True))
        print(f"  {above} of {len(truth)} at or below the upper bound", flush=True)
        for column, values in zip(pooled, (before, after, truth), strict=True):
            column += values
    print(line("all before calibration", pooled[0], pooled[2]))
    print(line("all after", pooled[1], pooled[2]))


def speed(table: CellTable, base: Graph, seed: int) -> None:
    """Print how many patches a second are priced, in seconds of processor time, each new to the table."""
    asked = tuple(patches(Pieces(base), TIMED, random.Random(seed)))
    pieces = Pieces(base)
    cells = table.missing([pieces.patched(patch) for patch in asked])
    stand_in = next(iter(table.readings.values()))
    readings = {**table.readings, **{cell.fingerprint(): stand_in for cell in cells}}
    full = CellTable(table.platform, table.runtime, table.baseline, table.baselines_ms, readings)
    for remark in (f"of {len(readings)} cells", "once more"):
        started = time.process_time()
        full.price(base, asked)
        print(f"{TIMED / (time.process_time() - started):.0f} patches a second, {remark}")


def main() -> None:
    """Measure, compare and time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="digits", choices=tuple(NETWORKS))
    parser.add_argument("--precision", default="float32", choices=("float32", "full_integer"))
    parser.add_argument("--count", type=int, default=12, help="networks of each kind that are held out")
    parser.add_argument("--calibrating", type=int, default=4, help="networks of each kind that calibrate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", type=Path, help="where the table is kept, and gone on with")
    parser.add_argument("--batch", type=int, default=8, help="networks that are measured together")
    given = parser.parse_args()
    base = NETWORKS[given.network]()
    kinds = drawn(base, given.count, given.calibrating, given.precision, given.seed)
    pieces = Pieces(base)
    graphs = [pieces.patched(patch) for kind in kinds for patch in (*kind.calibrating, *kind.held_out)]
    bench = DesktopBench("litert")
    try:
        meter = BenchMeter(bench, batch=given.batch)
        platform = bench.platform
        runtime = f"{platform.runtime} {platform.runtime_version}"
        table = CellTable(platform.id, runtime, base.fingerprint())
        if given.table is not None and given.table.exists():
            table = CellTable.load(given.table)
        cells = table.missing([base, *graphs])
        started = time.perf_counter()
        table = table.filled(meter, Subject(base), cells, path=given.table)
        took_s = time.perf_counter() - started
        print(f"{platform.id}, {base.macs / 1e6:.1f} million MACs: {len(cells)} cells in {took_s:.0f} s", flush=True)
        compare(meter, table, base, kinds)
    finally:
        bench.close()
    speed(table, base, given.seed + 1)


if __name__ == "__main__":
    main()
