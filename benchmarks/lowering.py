"""Microseconds to lower a network, name it by its fingerprint and add up its costs.

Run it from the repository: ``python benchmarks/lowering.py [--spaces nasbench201,nasbench101] [--networks 1000]
[--processes 5] [--profile]``. Each process is a fresh one that has imported what it needs and drawn its networks, no
two of one isomorphism class. *cold* is the first time that it lowers each of them, *warm* the second, from new equal
specs. *one by one* is the same done without sharing: every operator is placed on its own and the finished graph is
checked and digested as a whole. A row is the least and the median over the processes of the mean over the networks, in
microseconds a network, and how many times faster than one by one that is.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import json
import pstats
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from leti.core.graph import Graph, TensorType
from leti.core.spec import NetworkConfig, NetworkSpec
from leti.generator.builder import GraphBuilder
from leti.generator.lowering import lower
from leti.generator.spaces import get_space

STEPS = ("lower", "fingerprint", "costs")
Times = dict[str, dict[str, float]]


def main() -> None:
    """Print a table a space, and where asked for, a profile."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spaces", default="nasbench201,nasbench101")
    parser.add_argument("--networks", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--once", action="store_true", help="measure one space in this process, print JSON")
    asked = parser.parse_args()
    if asked.once:
        print(json.dumps(measured(asked.spaces, asked.networks)))
        return
    for space in asked.spaces.split(","):
        command = [sys.executable, __file__, "--once", "--spaces", space, "--networks", str(asked.networks)]
        runs: list[Times] = [
            json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(asked.processes)
        ]
        show(space, asked.networks, runs)
        if asked.profile:
            profile(space, asked.networks)


def measured(name: str, count: int) -> Times:
    """Return the microseconds a network of each step, cold, warm and one by one, and those of JSON."""
    specs = get_space(name).sample(count, 0, NetworkConfig())
    again = [NetworkSpec.from_json(spec.to_json()) for spec in specs]
    gc.freeze()  # what stands there already is not looked through again while networks are lowered
    found = {"cold": timed(specs, lower), "warm": timed(again, lower), "one by one": timed(again[:100], one_by_one)}
    graphs = [lower(spec) for spec in specs[:100]]
    written = [each([graph.to_json for graph in graphs]), each([reader(graph.to_json()) for graph in graphs])]
    found["JSON"] = {"to_json": written[0], "from_json": written[1]}
    return found


def timed(specs: Sequence[NetworkSpec], make: Callable[[NetworkSpec], Graph]) -> dict[str, float]:
    """Return the microseconds a network of each step, one network after the other, its graph forgotten at once."""
    clock, total = time.process_time, [0.0, 0.0, 0.0]
    for spec in specs:
        start = clock()
        graph = make(spec)
        lowered = clock()
        graph.fingerprint()
        named = clock()
        _ = (graph.macs, graph.params, graph.traffic_bytes, graph.weight_bytes, graph.peak_memory_bytes)
        end = clock()
        total = [total[0] + lowered - start, total[1] + named - lowered, total[2] + end - named]
    a_network = [1e6 * seconds / len(specs) for seconds in total]
    return {**dict(zip(STEPS, a_network, strict=True)), "all": sum(a_network)}


def one_by_one(spec: NetworkSpec) -> Graph:
    """Return the same graph, placed operator by operator."""
    builder = GraphBuilder(TensorType((spec.config.batch, *spec.config.input_shape)))
    builder.max_pool(0, 7)  # an operator on its own, dropped later: what follows is not a chain of modules
    graph = builder.graph(get_space(spec.space).build(spec, "execute", builder))
    return Graph(graph.inputs, graph.ops, graph.wiring, graph.outputs, graph.peak_memory_bytes, graph.kernels)


def each(calls: Sequence[Callable[[], object]]) -> float:
    """Return the microseconds a call."""
    start = time.perf_counter()
    for call in calls:
        call()
    return 1e6 * (time.perf_counter() - start) / len(calls)


def reader(data: object) -> Callable[[], Graph]:
    """Return what reads a graph."""
    return lambda: Graph.from_json(data)


def show(space: str, count: int, runs: Sequence[Times]) -> None:
    """Print the table of a space."""
    print(f"{space}: {count} networks, {len(runs)} processes; least (median) microseconds a network")
    alone = min(run["one by one"]["all"] for run in runs)
    for how in runs[0]:
        cells = []
        for step in runs[0][how]:
            values = [run[how][step] for run in runs]
            cells.append(f"{step} {min(values):7.1f} ({statistics.median(values):.1f})")
        faster = f"   {alone / min(run[how]['all'] for run in runs):.1f}x" if "all" in runs[0][how] else ""
        print(f"  {how:<10} {'  '.join(cells)}{faster}", flush=True)


def profile(name: str, count: int) -> None:
    """Print where the time goes, cold and warm."""
    specs = get_space(name).sample(count, 0, NetworkConfig())
    for how in ("cold", "warm"):
        profiler = cProfile.Profile()
        profiler.runcall(timed, specs, lower)
        print(f"{name}, {how}:")
        pstats.Stats(profiler).strip_dirs().sort_stats("tottime").print_stats(16)


if __name__ == "__main__":
    main()
