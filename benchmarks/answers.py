"""How fast a service answers: python benchmarks/answers.py HOME, where HOME is what a demo left.

Asks for the latencies of networks that the service has never seen, in one request; for the same networks again; and for
one network a request. Lowering and fingerprints are timed beside them, in this process, without a service.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from leti.cli.processes import ServiceProcess
from leti.client import LatencyClient
from leti.core.queries import PredictionRequest
from leti.core.spec import NetworkConfig
from leti.generator.lowering import lower
from leti.generator.spaces import get_space

SINGLE = 200
SEED = 12_345


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main() -> None:
    """Print milliseconds a network for each way to ask, and its ratio to lowering."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("--networks", type=int, default=2000)
    arguments = parser.parse_args()
    specs = get_space("nasbench201").sample(arguments.networks, SEED, NetworkConfig())
    given = tuple(spec.to_json() for spec in specs)
    with ServiceProcess(arguments.home) as service, LatencyClient(service.url) as client:
        platform = client.platforms()[0].id
        client.predict(PredictionRequest((platform,), given[:1]))  # loads the predictor

        def one_by_one() -> None:
            for network in given[:SINGLE]:
                client.predict(PredictionRequest((platform,), (network,)))

        rows = {
            "lower and fingerprint, no service": _seconds(lambda: [lower(spec).fingerprint() for spec in specs]),
            "one request, networks new to the service": _seconds(
                lambda: client.predict(PredictionRequest((platform,), given))
            ),
            "one request, networks seen before": _seconds(lambda: client.predict(PredictionRequest((platform,), given))),
            f"one network a request ({SINGLE}), seen before": _seconds(one_by_one) * len(given) / SINGLE,
        }
    base = next(iter(rows.values()))
    for name, seconds in rows.items():
        print(f"{1e3 * seconds / len(given):8.3f} ms a network  {seconds / base:5.2f} ×  {name}")


if __name__ == "__main__":
    main()
