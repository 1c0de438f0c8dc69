"""Fusion rules held against the runtimes: python benchmarks/kernels.py.

For networks of every search space, the kernels that the rules expect are compared with those that LiteRT's profiler
names, and with the nodes of ONNX Runtime's optimised graph, as multisets. Prints the share of networks where they are
equal, and every difference. What a kernel is called in a runtime stands in
:mod:`leti.predictors.profiles.runtime_names`.
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path

import onnx
import onnxruntime

from leti.core.errors import LetiError
from leti.core.graph import Graph
from leti.core.spec import NetworkConfig
from leti.device_agents.desktop.litert_profile import profile
from leti.generator.blocked_layout import blocked_operators
from leti.generator.export.onnx import export_onnx
from leti.generator.export.tflite import export_tflite
from leti.generator.fusion import Runtime, fuse
from leti.generator.lowering import lower
from leti.generator.spaces import SPACES
from leti.predictors.profiles.runtime_names import litert_kernels, litert_name, onnxruntime_kernels, onnxruntime_name

SEED = 0
CONFIGS = {"fbnet": (128, 128, 3), "mobilenetv3": (128, 128, 3)}
Names = Counter[str]


def expected_litert(graph: Graph) -> Names:
    """Return the names of the kernels that the rules expect LiteRT to run."""
    return Counter(chain.from_iterable(litert_kernels(graph)))


def seen_litert(graph: Graph) -> Names:
    """Return the names of the kernels that LiteRT ran."""
    names = (litert_name(kernel.name) for kernel in profile(export_tflite(graph), runs=1, warmup=0))
    return Counter(filter(None, names))


def expected_onnxruntime(graph: Graph) -> Names:
    """Return the nodes that the rules expect in ONNX Runtime's optimised graph: operators joined by ``+``."""
    blocked = blocked_operators(graph.ops, graph.wiring, len(graph.inputs))
    return Counter(chain.from_iterable(onnxruntime_kernels(graph, blocked)))


def seen_onnxruntime(graph: Graph) -> Names:
    """Return the nodes of ONNX Runtime's optimised graph, what is fused into a convolution joined by ``+``."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(export_onnx(graph), options, providers=["CPUExecutionProvider"])
        nodes = onnx.load(path).graph.node
    return Counter(_node_name(node) for node in nodes if onnxruntime_name(node.op_type))


def _node_name(node: onnx.NodeProto) -> str:
    activation = next((a.s.decode() for a in node.attribute if a.name == "activation"), "")
    sums = len(node.input) > 3 and node.op_type in ("Conv", "FusedConv")
    parts = (onnxruntime_name(node.op_type), "Add" * sums, activation)
    return "+".join(part for part in parts if part)


RUNTIMES: Mapping[Runtime, tuple[Callable[[Graph], Names], Callable[[Graph], Names]]] = {
    "litert": (expected_litert, seen_litert),
    "onnxruntime": (expected_onnxruntime, seen_onnxruntime),
}


def networks(names: Sequence[str], count: int) -> list[tuple[str, Graph]]:
    """Return graphs of the spaces of these names, equally many of each."""
    found: list[tuple[str, Graph]] = []
    for i, name in enumerate(names):
        share = (count - len(found)) // (len(names) - i)
        config = NetworkConfig(input_shape=CONFIGS[name]) if name in CONFIGS else NetworkConfig()
        found += [(f"{name} {k}", lower(spec)) for k, spec in enumerate(SPACES[name].sample(share, SEED, config))]
    return found


def difference(runtime: Runtime, graph: Graph) -> str:
    """Return in which kernels the runtime differs from what the rules expect; "" where it does not."""
    expected, seen = RUNTIMES[runtime]
    try:
        there = seen(graph)
    except LetiError as error:
        return f"not run: {error}"
    wanted = expected(fuse(graph, runtime))
    return "" if there == wanted else f"expected {dict(wanted - there)}, seen {dict(there - wanted)}"


def main() -> None:
    """Print the share of equal networks and every difference, a runtime after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=100, help="of the spaces of networks")
    parser.add_argument("--random", type=int, default=20, help="of operators at random")
    arguments = parser.parse_args()
    structured = [name for name in SPACES if name != "random"]
    for title, graphs in (
        ("networks of " + ", ".join(structured), networks(structured, arguments.networks)),
        ("random graphs", networks(["random"], arguments.random)),
    ):
        for runtime in RUNTIMES:
            found = {name: difference(runtime, graph) for name, graph in graphs}
            different = {name: text for name, text in found.items() if text}
            print(f"{runtime}: {len(found) - len(different)} of {len(found)} {title} run as the rules expect")
            print("".join(f"  {name}: {text}\n" for name, text in different.items()))


if __name__ == "__main__":
    main()
