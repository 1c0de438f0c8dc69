"""How fast a service answers, beside what the same processor does without one: everything in one run.

Run it from the repository: ``python benchmarks/serve.py [--spaces nasbench201,fbnet] [--networks 1000] [--batches 5]
[--seconds 3] [--rounds 3] [--train 1000] [--auth] [--batches-only] [--quick]``. It makes a folder with a trained
predictor a space (``serve_home.py``), starts ``leti serve`` on it and asks over loopback. It prints Markdown.

*Batches*: one request of ``--networks`` networks in the compact form, answered in columns, over one connection. Each
batch is sent once, no network of it having been seen (*cold*), and then again (*warm*). *In process* is what a process
of its own takes to lower and name the same networks and to ask the same predictor, without a service; its *warm* asks
the predictor again of graphs that it has, and of networks that it lowers again (the service remembers them). The first
cold batch meets everything for the first time, parts and operators included. The *processor*'s time says more than
the clock where other load is on the machine.

*Single predictions*: one network a request, in rounds that alternate with FastAPI routes that do nothing
(``serve_empty.py``): *pool* is a ``def``, as the service's routes are, *loop* an ``async def``. A ratio is the median
over the rounds of the medians' ratio. *server's processor* is the time that the server computes for an answer, in ms,
which other load on the machine disturbs less than what a client waits. *client* is the share of one core that the
client itself took. *with a token* (``--auth``) asks another process of the service, which wants to know who asks. No
process predicts ahead but the one of *predicted ahead*: that is asked, for the first time too, once it has gone through
the whole space.

Figures are the least and the median over batches; the machine's load before and after is stated.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serve_home import MEASURED, SMALL, prepare
from serve_processes import FORBIDDEN, Server, empty_service, guarded_service, loaded, processor_s, resident_mib

from leti.cli.processes import ServiceProcess
from leti.core.codec import to_json
from leti.generator.lowering import lower_choices
from leti.generator.spaces import get_space
from leti.service.settings import Settings
from leti.service.store import Store

HERE = Path(__file__).parent
CONNECTIONS = (1, 8, 64)
WANTED = {"cold": 4_000, "warm": 10_000}
"""Networks a second."""

Vectors = list[tuple[int, ...]]
Figures = dict[str, list[float]]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spaces", default="nasbench201,fbnet")
    parser.add_argument("--networks", type=int, default=1_000, help="in one request")
    parser.add_argument("--batches", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of load at each number of connections, a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--train", type=int, default=1_000, help="networks that predictors learn from")
    parser.add_argument("--auth", action="store_true", help="ask single predictions of a service with tokens, too")
    parser.add_argument("--batches-only", action="store_true", help="no single predictions")
    parser.add_argument("--quick", action="store_true", help="a glance: few networks, short rounds")
    parser.add_argument("--in-process", default="", help="measure a space without a service, print JSON")
    parser.add_argument("--home", type=Path, default=None)
    asked = parser.parse_args()
    if asked.quick:
        asked.networks, asked.batches, asked.seconds, asked.rounds, asked.train = 200, 3, 0.5, 1, 200
    if asked.in_process:
        print(json.dumps(in_process(asked.home, asked.in_process, asked.networks, asked.batches)))
        return
    with tempfile.TemporaryDirectory() as folder:
        home = asked.home or Path(folder)
        platforms = {space: prepare(home, space, asked.train) for space in asked.spaces.split(",")}
        run(home, platforms, asked)


def run(home: Path, platforms: dict[str, str], asked: argparse.Namespace) -> None:
    """Measure everything against one service, and print it."""
    print(f"load before: {' '.join(f'{load:.1f}' for load in os.getloadavg())}, {os.cpu_count()} cores\n")
    alone = {space: in_process_apart(home, space, asked) for space in platforms}
    started = time.perf_counter()
    os.environ["LETI_PREDICT_AHEAD"] = "0"
    with ServiceProcess(home) as service, empty_service() as empty, guarded_service(home, asked.auth) as guarded:
        ready_s = time.perf_counter() - started
        client = Client(service.url)
        space, platform = next(iter(platforms.items()))
        client.predict(body(platform, space, vectors(space, 1, seed=1)))
        first_s = time.perf_counter() - started
        first_mib = resident_mib(service.pid)
        served = {space: batches(client, service.pid, space, platforms[space], asked) for space in platforms}
        show_batches(alone, served, asked.networks)
        if not asked.batches_only:
            with knowing_service(home, space, platform) as knowing:
                show_singles((service.url, service.pid, ""), empty, guarded, knowing, space, platform, asked)
        print(f"| start | |\n|---|---:|\n| listening after | {ready_s:.2f} s |")
        print(f"| first prediction after | {first_s:.2f} s |")
        print(f"| memory then | {first_mib:.0f} MiB |\n| memory now | {resident_mib(service.pid):.0f} MiB |")
        print(f"| of {', '.join(FORBIDDEN)}: loaded | {', '.join(loaded(service.pid)) or 'none'} |\n")
    print(f"load after: {' '.join(f'{load:.1f}' for load in os.getloadavg())}")


# --- networks --------------------------------------------------------------------------------------------------------


def vectors(space: str, count: int, seed: int = 0) -> Vectors:
    """Return vectors of choices, no two alike; of a small space as many as there are."""
    found, chance = get_space(space), random.Random(seed)
    if found.size() < 10 * count:
        every = list(itertools.product(*map(range, found.positions)))
        return chance.sample(every, min(count, len(every)))
    drawn = {tuple([chance.randrange(choices) for choices in found.positions]): None for _ in range(count)}
    return list(drawn)


def body(platform: str, space: str, networks: Vectors, **more: object) -> str:
    """Return a request in the compact form."""
    encodings = {"space": space, "vectors": networks, **more}
    return json.dumps({"platform_ids": [platform], "encodings": encodings, "form": "columns"})


def chunked(space: str, size: int, count: int) -> list[Vectors]:
    """Return batches of networks that stand in no other batch."""
    networks = vectors(space, size * count)
    return [networks[i * size : (i + 1) * size] for i in range(count)]


# --- without a service -----------------------------------------------------------------------------------------------


def in_process_apart(home: Path, space: str, asked: argparse.Namespace) -> Figures:
    """Return what :func:`in_process` does, in a process that has seen nothing."""
    options = ["--networks", str(asked.networks), "--batches", str(asked.batches), "--home", str(home)]
    command = [sys.executable, __file__, "--in-process", space, *options]
    found: Figures = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def in_process(home: Path, name: str, size: int, count: int) -> Figures:
    """Return seconds a batch: all of it cold and again, and the predictor alone on graphs that are there."""
    import gc

    from leti.service.artifacts import ArtifactStore
    from leti.service.predictor_files import PredictorFiles
    from leti.service.server import COLLECTOR_THRESHOLDS

    settings = Settings(home, auth=False)
    store = Store.open(settings)
    (info,) = [info for info in store.predictors.list(None) if name in info.platform_id and info.active]
    predictor = PredictorFiles(ArtifactStore.open(settings)).load(info.artifact_sha256)
    store.close()
    space = get_space(name)

    def named(networks: Vectors) -> list[Any]:
        graphs = [lower_choices(space, choices, space.default_config)[0] for choices in networks]
        for graph in graphs:
            graph.fingerprint()
        return graphs

    predictor.predict(named(vectors(name, 1, seed=1)))
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)
    found: Figures = {"cold": [], "warm": [], "cold processor": [], "warm processor": [], "predict": []}

    def timed(how: str, networks: Vectors) -> list[Any]:
        spent, started = time.process_time(), time.perf_counter()
        graphs = named(networks)
        predictor.predict(graphs)
        found[how].append(time.perf_counter() - started)
        found[f"{how} processor"].append(time.process_time() - spent)
        return graphs

    made = [(networks, timed("cold", networks)) for networks in chunked(name, size, count)]
    for networks, graphs in made:
        timed("warm", networks)
        started = time.perf_counter()
        predictor.predict(graphs)
        found["predict"].append(time.perf_counter() - started)
    return found


# --- with one --------------------------------------------------------------------------------------------------------


class Client:
    """One connection to the service."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(url.removeprefix("http://"))

    def predict(self, request: str) -> bytes:
        """Return the body of an answer."""
        self._connection.request("POST", "/v1/predictions", request, {"content-type": "application/json"})
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != 200 or json.loads(content)["failures"]:
            raise SystemExit(content.decode())
        return content


def batches(client: Client, pid: int, space: str, platform: str, asked: argparse.Namespace) -> Figures:
    """Return seconds a batch, cold and warm, and of the service's processor."""
    found: Figures = {"cold": [], "warm": [], "cold processor": [], "warm processor": [], "client": []}
    requests = [body(platform, space, networks) for networks in chunked(space, asked.networks, asked.batches)]
    client.predict(body(platform, space, vectors(space, 1, seed=1)))
    for how in ("cold", "warm"):
        for request in requests:
            spent, started = processor_s(pid), time.perf_counter()
            content = client.predict(request)
            found[how].append(time.perf_counter() - started)
            found[f"{how} processor"].append(processor_s(pid) - spent)
            started = time.perf_counter()
            json.loads(content)  # which the client does once before it looks at the clock
            found["client"].append(time.perf_counter() - started)
    return found


def show_batches(alone: dict[str, Figures], served: dict[str, Figures], size: int) -> None:
    """Print what a request of many networks takes."""
    print(f"### {size} networks in one request: networks a second, best and median of the batches\n")
    print("| | in process | service | service / in process | processor, µs a network: in process | service | wanted |")
    print("|---|---:|---:|---:|---:|---:|---|")
    for space, figures in served.items():
        for how in ("cold", "warm"):
            inside, outside = alone[space][how], figures[how]
            ratio = statistics.median(inside) / statistics.median(outside)
            spent = [1e6 * statistics.median(one[f"{how} processor"]) / size for one in (alone[space], figures)]
            reached = size / statistics.median(outside) >= WANTED[how] and ratio >= 0.5
            print(
                f"| {space}, {how} | {rates(inside, size)} | {rates(outside, size)} | {ratio:.2f} "
                f"| {spent[0]:.0f} | {spent[1]:.0f} | {WANTED[how]:,} and 0.50: {'reached' if reached else 'missed'} |"
            )
        first = f"{rates(alone[space]['cold'][:1], size)} | {rates(figures['cold'][:1], size)}"
        ready = statistics.median(alone[space]["predict"]) / statistics.median(figures["warm"])
        print(f"| {space}, first cold batch | {first} | | | | |")
        alone_rates = rates(alone[space]["predict"], size)
        print(f"| {space}, `predict` of ready graphs | {alone_rates} | | {ready:.2f} (warm) | | | |")
    share = statistics.median([s for figures in served.values() for s in figures["client"]])
    print(f"\nReading an answer's JSON takes the client {1e3 * share:.1f} ms of a request, counted with the service.\n")


def rates(seconds: Sequence[float], size: int) -> str:
    """Return networks a second."""
    return f"{size / min(seconds):,.0f} ({size / statistics.median(seconds):,.0f})"


def show_singles(
    service: Server,
    empty: Server,
    guarded: Server | None,
    knowing: Server | None,
    space: str,
    platform: str,
    asked: argparse.Namespace,
) -> None:
    """Print what a request of one network takes."""
    config = to_json(SMALL)
    found = get_space("nasbench201")
    measured = [found.encode(spec) for spec in found.sample(MEASURED, 0, SMALL)]
    new = iter(vectors(space, 12_000, seed=2))
    seen = [body(platform, space, [choices]) for choices in vectors(space, 200, seed=3)]
    known = [body(platform, "nasbench201", [v], config=config) for v in measured]
    kinds = {
        "empty, loop": (empty, "/loop", seen),
        "empty, pool": (empty, "/pool", seen),
        "predicted, seen before": (service, "/v1/predictions", seen),
        "predicted, new": (service, "/v1/predictions", []),
        **({} if knowing is None else {"new, predicted ahead": (knowing, "/v1/predictions", [])}),
        "measured": (service, "/v1/predictions", known),
    }
    if guarded is not None:
        kinds["measured, with a token"] = guarded, "/v1/predictions", known
    print(f"### One network a request ({space}): milliseconds\n")
    print("| connections | | p50 | p99 | a second | client | p50 / pool | p50 / loop | server's processor | / pool |")
    print("|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for connections in CONNECTIONS:
        times: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
        for _ in range(asked.rounds):
            for kind, (server, path, bodies) in kinds.items():
                given = bodies or [
                    body(platform, space, [v]) for v in itertools.islice(new, 4_000 // asked.rounds // 3)
                ]
                seconds = asked.seconds if bodies else min(asked.seconds, 1.0)
                times[kind].append(loaded_with(server, path, connections, seconds, given))
        for kind, rounds in times.items():
            print(f"| {connections} | {kind} | {single(rounds, times)} |", flush=True)
    print("\nWanted: predicted within 3 times, measured within 2 times the empty route's p50.\n")


def single(rounds: Sequence[dict[str, Any]], times: dict[str, list[dict[str, Any]]]) -> str:
    """Return the cells of a row."""
    every = sorted(itertools.chain.from_iterable(one["times"] for one in rounds))
    seconds = sum(one["seconds"] for one in rounds)
    share = sum(one["processor_s"] for one in rounds) / seconds
    cells = [f"{1e3 * every[len(every) // 2]:.2f}", f"{1e3 * every[int(0.99 * len(every))]:.2f}"]
    cells += [f"{len(every) / seconds:,.0f}", f"{share:.0%}"]
    for other in ("empty, pool", "empty, loop"):
        ratios = [median(one) / median(beside) for one, beside in zip(rounds, times[other], strict=True)]
        cells.append(f"{statistics.median(ratios):.2f}")
    spent, beside = server_s(rounds), server_s(times["empty, pool"])
    cells += [f"{1e3 * spent:.2f}", f"{spent / beside:.2f}"]
    return " | ".join(cells)


def server_s(rounds: Sequence[dict[str, Any]]) -> float:
    """Return the processor's seconds that the server takes for an answer."""
    return float(sum(one["server_s"] for one in rounds) / sum(len(one["times"]) for one in rounds))


def median(one: dict[str, Any]) -> float:
    """Return the median of a round's seconds."""
    return float(statistics.median(one["times"]))


def loaded_with(server: Server, path: str, connections: int, seconds: float, bodies: Sequence[str]) -> dict[str, Any]:
    """Return what a client in a process of its own timed."""
    url, pid, token = server
    said = json.dumps(
        {"url": f"{url}{path}", "token": token, "connections": connections, "seconds": seconds, "bodies": bodies}
    )
    command = [sys.executable, str(HERE / "serve_load.py")]
    spent = processor_s(pid)
    ran = subprocess.run(command, check=True, input=said, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(ran.stdout)
    return {**found, "server_s": processor_s(pid) - spent}


@contextmanager
def knowing_service(home: Path, space: str, platform: str) -> Iterator[Server | None]:
    """Serve the same folder, and predict ahead; begin when all of a space is predicted. None where it is too large."""
    if math.prod(get_space(space).positions) > Settings(home).predict_ahead:
        yield None
        return
    os.environ.pop("LETI_PREDICT_AHEAD")
    with ServiceProcess(home) as service:
        os.environ["LETI_PREDICT_AHEAD"] = "0"
        started, spent = time.perf_counter(), processor_s(service.pid)
        Client(service.url).predict(body(platform, space, vectors(space, 1, seed=1)))
        last = -math.inf
        while processor_s(service.pid) - last > 0.02:
            last = processor_s(service.pid)
            time.sleep(1)
        took_s = time.perf_counter() - started
        print(
            f"All of {space} is predicted ahead in {took_s:.0f} s, {last - spent:.1f} s of the processor.\n", flush=True
        )
        yield service.url, service.pid, ""


if __name__ == "__main__":
    main()
