"""What a runtime's profile says becomes the times of a graph's kernels, or nothing."""

import random

import pytest

from leti.core.graph import Graph
from leti.core.measurement import OperatorTime

pytest.importorskip("numpy", reason="needs the extra `boosting`")
profiles = pytest.importorskip("leti.predictors.profiles.matching")
names = pytest.importorskip("leti.predictors.profiles.runtime_names")
batches = pytest.importorskip("leti.predictors.batch")


def ran(*pairs: tuple[str, float]) -> list[OperatorTime]:
    return [OperatorTime(name, "xnnpack", (time_us,) * 5) for name, time_us in pairs]


@pytest.fixture
def branches(builder) -> Graph:
    """Two convolutions with their ReLUs, their sum, and a concatenation of it with itself."""
    made = builder((1, 8, 8, 4))
    a, b = made.conv(0, 8), made.conv(0, 8, kernel=5)
    total = made.add(a, b)
    return made.graph(made.place("concat", (total, total), (1, 8, 8, 16), 0, 0))


def named(graph: Graph) -> list[str]:
    return [name for of_one in names.litert_kernels(graph) for name in of_one]


def test_each_kernel_gets_its_time(branches):
    assert named(branches) == ["Convolution", "Convolution", "Add", "Copy"]
    profile = ran(
        ("Convolution (NHWC, F32) IGEMM", 40),
        ("Static Reshape (NC)", 9),
        ("Convolution (NHWC, F32) IGEMM", 30),
        ("Add (ND)", 2),
        ("Copy (NC)", 1),
    )
    assert profiles.kernel_times_ms(branches, profile, runtime="litert") == pytest.approx((0.04, 0.03, 0.002, 0.001))


def test_order_counts_within_a_name_alone(branches):
    profile = ran(("Copy (NC)", 1), ("Convolution (NHWC)", 40), ("Add (ND)", 2), ("Convolution (NHWC)", 30))
    assert profiles.kernel_times_ms(branches, profile, runtime="litert") == pytest.approx((0.04, 0.03, 0.002, 0.001))


@pytest.mark.parametrize("change", ["one more", "one less", "another name", "nothing"])
def test_a_profile_of_another_graph_is_not_matched(branches, change):
    profile = ran(("Convolution (N)", 40), ("Convolution (N)", 30), ("Add (ND)", 2), ("Copy (NC)", 1))
    assert profiles.kernel_times_ms(branches, profile, runtime="litert") is not None
    changed = {
        "one more": [*profile, *ran(("Add (ND)", 2))],
        "one less": profile[1:],
        "another name": [*profile[:-1], *ran(("Multiply (ND)", 1))],
        "nothing": [],
    }
    assert profiles.kernel_times_ms(branches, changed[change], runtime="litert") is None


def test_a_runtime_whose_words_are_not_known_is_not_matched(branches):
    profile = ran(("Convolution (N)", 40), ("Convolution (N)", 30), ("Add (ND)", 2), ("Copy (NC)", 1))
    assert profiles.kernel_times_ms(branches, profile, runtime="something") is None
    assert profiles.kernel_times_ms(branches, profile, runtime="benchmark_model") is not None


def test_an_order_of_the_runtimes_own_is_not_guessed(branches, builder):
    """ONNX Runtime may run either of two branches first, and says "Conv" of both."""
    profile = ran(("Conv", 40), ("FusedConv", 30), ("Add", 2), ("Concat", 1))
    assert profiles.kernel_times_ms(branches, profile, runtime="onnxruntime") is None
    made = builder((1, 8, 8, 4))
    chain = made.graph(made.conv(made.conv(0, 8), 8, kernel=1))
    profile = ran(("ReorderInput", 3), ("Conv", 40), ("Conv", 30))
    assert profiles.kernel_times_ms(chain, profile, runtime="onnxruntime") == pytest.approx((0.04, 0.03))
    twins = builder((1, 8, 8, 4))
    a, b = twins.conv(0, 8), twins.conv(0, 8)  # alike: whichever ran first took what the other would have
    graph = twins.graph(twins.add(a, b))
    profile = ran(("Conv", 40), ("Conv", 30), ("Add", 2))
    assert profiles.kernel_times_ms(graph, profile, runtime="onnxruntime") == pytest.approx((0.04, 0.03, 0.002))


def test_a_stray_run_does_not_count_and_whole_microseconds_are_averaged():
    assert profiles.typical_us((10.0, 10.0, 11.0, 11.0, 500.0)) == pytest.approx(10.5)
    assert profiles.typical_us((0.0, 1.0, 0.0, 0.0)) == pytest.approx(0.25)
    assert profiles.typical_us((7.0,)) == 7.0


def test_kernels_stand_in_the_order_of_a_batch(networks):
    for graph in networks[:20]:
        batch = batches.Batch.of([graph])
        ours = [tuple(graph.ops[i] for i in kernel) for kernel in names.kernels_of(graph)]
        assert [batch.kernels[number].ops for number in batch.numbers] == ours


def test_a_real_profile_is_matched_and_its_costly_kernels_are_the_large_ones():
    pytest.importorskip("ai_edge_litert", reason="needs the extra `agent`")
    litert_profile = pytest.importorskip("leti.device_agents.desktop.litert_profile")
    tflite = pytest.importorskip("leti.generator.export.tflite")
    from leti.core.spec import NetworkConfig
    from leti.generator.lowering import lower
    from leti.generator.spaces import SPACES

    specs = SPACES["nasbench201"].sample(30, 0, NetworkConfig(modules_per_stack=1))
    graphs = random.Random(0).sample([lower(spec) for spec in specs], 3)
    for graph in graphs:
        profile = litert_profile.profile(tflite.export_tflite(graph), runs=5, warmup=2)
        times = profiles.kernel_times_ms(graph, profile, runtime="litert")
        assert times is not None
        assert len(times) == len(names.kernels_of(graph))
        macs = [sum(graph.ops[i].macs for i in kernel) for kernel in names.kernels_of(graph)]
        largest = sorted(range(len(times)), key=lambda i: -macs[i])[: len(times) // 3]
        assert sum(times[i] for i in largest) > 0.5 * sum(times)
