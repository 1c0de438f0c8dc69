"""What every search space promises, those of plugins included: one suite for every space that is installed."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leti.core.errors import InvalidInput, InvalidSpec
from leti.core.graph import Graph
from leti.core.spec import Layer, NetworkConfig, NetworkSpec
from leti.generator.lowering import ZEROS, lower
from leti.generator.spaces import SearchSpace, get_space, parse_network, space_names


@pytest.fixture(scope="module", params=space_names())
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return get_space(request.param)


@pytest.fixture(scope="module")
def specs(space: SearchSpace, small: NetworkConfig) -> tuple[NetworkSpec, ...]:
    return space.sample(40, 7, small)


def attempt(make: Callable[[], NetworkSpec]) -> tuple[NetworkSpec | None, InvalidSpec | None]:
    """Return what was made, or why it was refused."""
    try:
        return make(), None
    except InvalidSpec as error:
        return None, error


# --- samples ---------------------------------------------------------------------------------------------------------


def test_samples_are_of_the_space(space, specs, small):
    assert len(specs) == 40
    for spec in specs:
        space.check(spec)
        assert spec.space == space.name
        # A space may choose the resolution; all else is the caller's.
        assert dataclasses.replace(spec.config, input_shape=small.input_shape) == small
        assert spec.config.input_shape[2] == small.input_shape[2]
        assert not space.is_degenerate(spec)


def test_samples_are_seeded(space, specs, small):
    assert space.sample(40, 7, small) == specs
    assert space.sample(40, 8, small) != specs


def test_samples_have_no_isomorphic_repeats(space, small):
    specs = space.sample(500, 0, small)
    assert len({space.isomorphism_class(spec) for spec in specs}) == 500


@pytest.mark.parametrize("count", [10_000_000, -1, 2.5])
def test_more_than_there_are_cannot_be_sampled(space, small, count):
    with pytest.raises(InvalidInput, match="cannot be drawn") as caught:
        space.sample(count, 0, small)
    assert caught.value.field == "count"
    assert str(caught.value.details["available"]) in caught.value.remedy


def test_nothing_can_be_sampled(space, small):
    assert space.sample(0, 0, small) == ()


def test_the_space_is_as_large_as_it_says_at_most(space, small):
    assert 500 <= space.size() <= math.prod(space.positions)


SEEDED = """
import sys
from leti.core.spec import NetworkConfig
from leti.generator.lowering import lower
from leti.generator.spaces import get_space, space_names

for name in space_names():
    space = get_space(name)
    for spec in space.sample(5, 11, NetworkConfig(modules_per_stack=1)):
        print(name, space.isomorphism_class(spec), lower(spec).fingerprint())
    print([space.isomorphism_class(other) for other in space.neighbours(spec)])
"""


def test_nothing_depends_on_the_process():
    """Two processes with other hashes of strings draw, name and lower the same networks."""
    printed = []
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        ran = subprocess.run(
            [sys.executable, "-c", SEEDED], capture_output=True, text=True, check=False, env=environment
        )
        assert ran.returncode == 0, ran.stderr
        printed.append(ran.stdout.splitlines())
    assert printed[0] == printed[1]
    assert len(set(printed[0])) == 6 * len(space_names())


# --- vectors of choices ----------------------------------------------------------------------------------------------


def test_encodings_are_vectors_of_the_positions_and_tell_specs_apart(space, specs):
    encodings = [space.encode(spec) for spec in specs]
    for encoding in encodings:
        assert len(encoding) == len(space.positions)
        assert all(0 <= choice < count for choice, count in zip(encoding, space.positions, strict=True))
    assert len(set(encodings)) == len(specs)


def test_encodings_are_decoded_to_the_same_network(space, specs):
    for spec in specs:
        encoding = space.encode(spec)
        decoded = space.decode(encoding, spec.config)
        space.check(decoded)
        assert decoded.config == spec.config
        assert space.encode(decoded) == encoding
        assert space.isomorphism_class(decoded) == space.isomorphism_class(spec)
        assert lower(decoded) == lower(spec)


@settings(max_examples=300)
@given(name=st.sampled_from(space_names()), data=st.data())
def test_any_vector_is_a_network_or_an_error_that_names_the_position(name, data):
    space, config = get_space(name), NetworkConfig(modules_per_stack=1)
    rng = random.Random(data.draw(st.integers(0, 2**32)))
    choices = [rng.randrange(count) for count in space.positions]
    for place in data.draw(st.lists(st.integers(0, len(choices) - 1), max_size=len(choices))):
        choices[place] = 0  # long vectors are mostly zeros where networks are small
    spec, fault = attempt(lambda: space.decode(choices, config))
    if fault is not None:
        assert fault.field.startswith(("choices", "adjacency", "layers", "config."))
        assert len(str(fault)) < 500
        return
    space.check(spec)
    encoding = space.encode(spec)
    assert space.encode(space.decode(encoding, spec.config)) == encoding


@pytest.mark.parametrize("wrong", [-1, 10_000, 1.0, True, "0", None])
def test_a_wrong_choice_is_named(space, specs, wrong):
    for place in (0, len(space.positions) - 1):
        choices = [*space.encode(specs[0])]
        choices[place] = wrong
        with pytest.raises(InvalidSpec, match="whole number") as caught:
            space.decode(choices, specs[0].config)
        assert caught.value.field == f"choices[{place}]"


def test_a_vector_of_another_length_is_refused(space, specs):
    encoding = space.encode(specs[0])
    for choices in (encoding[:-1], (*encoding, 0), ()):
        with pytest.raises(InvalidSpec) as caught:
            space.decode(choices, specs[0].config)
        assert caught.value.field == "choices"
        assert str(len(space.positions)) in caught.value.remedy


def test_neighbours_are_other_networks_of_the_space(space, specs):
    for spec in specs[:2]:
        found = space.neighbours(spec)
        assert found
        names = {space.isomorphism_class(other) for other in found}
        assert len(names) == len(found)
        assert space.isomorphism_class(spec) not in names
        for other in random.Random(0).sample(found, min(len(found), 30)):
            space.check(other)
            assert not space.is_degenerate(other)
            assert dataclasses.replace(other.config, input_shape=spec.config.input_shape) == spec.config
            lower(other)


def test_a_walk_over_neighbours_goes_on_and_is_the_same_each_time(space, specs):
    walks = []
    for _ in range(2):
        rng, walk = random.Random(3), [specs[0]]
        for _ in range(3):
            walk.append(rng.choice(space.neighbours(walk[-1])))
        walks.append(walk)
    assert walks[0] == walks[1]
    classes = [space.isomorphism_class(spec) for spec in walks[0]]
    assert all(a != b for a, b in itertools.pairwise(classes))


# --- lowering --------------------------------------------------------------------------------------------------------


def test_specs_survive_json(space, specs):
    for spec in specs:
        data = json.loads(json.dumps(spec.to_json()))
        assert parse_network(data, "network") == spec


@pytest.mark.parametrize("zero", ZEROS)
def test_specs_lower_to_sound_graphs(space, specs, zero):
    for spec in specs[: 40 if space.name.startswith("nasbench") else 10]:
        graph = lower(spec, zero)
        assert graph.encoding.choices == space.encode(spec)
        assert graph.encoding.space == space.name
        assert sorted(i for kernel in graph.kernels for i in kernel) == list(range(len(graph.ops)))
        assert graph.macs > 0
        assert graph.params > 0
        assert max(op.outputs[0].size_bytes for op in graph.ops) < graph.peak_memory_bytes
        read = {value for sources in graph.wiring for value in sources} | set(graph.outputs)
        made = itertools.accumulate((len(op.outputs) for op in graph.ops), initial=1)
        assert read <= set(range(sum(len(op.outputs) for op in graph.ops) + 1))
        for op, first in zip(graph.ops, made, strict=False):  # nothing is computed that nobody reads
            assert not read.isdisjoint(range(first, first + len(op.outputs)))
        assert Graph.from_json(json.loads(json.dumps(graph.to_json()))).fingerprint() == graph.fingerprint()
        assert lower(spec, zero) == graph


@pytest.mark.parametrize("zero", ZEROS)
def test_specs_run_in_litert(space, specs, zero, run_model):
    from leti.generator.export.tflite import export_tflite

    for spec in specs[: 8 if space.name.startswith("nasbench") else 3]:
        output = run_model(export_tflite(lower(spec, zero), seed=3, source=(spec, zero)))
        assert output.shape == (1, spec.config.classes)
        assert np.isfinite(output).all()
        assert output.std() > 0


@pytest.mark.parametrize(
    "config",
    [
        NetworkConfig(input_shape=(52, 16, 1), modules_per_stack=1, classes=18),
        NetworkConfig(input_shape=(7, 5, 2), batch=3, stem_channels=5, stacks=4, modules_per_stack=1, classes=1),
    ],
)
def test_odd_configs_run_in_litert(space, config, run_model):
    from leti.generator.export.tflite import export_tflite

    for spec in space.sample(3, 0, config):
        output = run_model(export_tflite(lower(spec)))
        assert output.shape == (config.batch, config.classes)
        assert np.isfinite(output).all()


def test_the_default_config_is_one_of_the_space(space):
    (spec,) = space.sample(1, 0, space.default_config)
    assert lower(spec).macs > 0


# --- specs that break rules ------------------------------------------------------------------------------------------


def test_an_unknown_layer_is_named_with_those_that_are_known(space, specs):
    layers = (specs[0].layers[0], Layer("involution"), *specs[0].layers[2:])
    with pytest.raises(InvalidSpec, match="'involution'") as caught:
        lower(dataclasses.replace(specs[0], layers=layers))
    assert caught.value.field == "layers[1]"
    assert "known here" in caught.value.remedy


def test_wrong_attributes_are_named(space, specs):
    wrong = [(index, "momentum", 3, "attribute") for index in (1, len(specs[0].layers) - 1)]
    for index, layer in enumerate(specs[0].layers):
        for name, _ in layer.attributes:
            wrong += [(index, name, value, "must be one of") for value in (-3, "3", True, 2.5, (3, 3))]
    for index, name, value, says in wrong:
        layers = list(specs[0].layers)
        kept = {key: known for key, known in layers[index].attributes if key != name}
        layers[index] = Layer(layers[index].name, (*kept.items(), (name, value)))
        with pytest.raises(InvalidSpec, match=says) as caught:
            space.check(dataclasses.replace(specs[0], layers=tuple(layers)))
        assert caught.value.field == f"layers[{index}].{name}"


def test_the_ends_must_be_input_and_output(space, specs):
    layers = (Layer("output"), *specs[0].layers[1:])
    with pytest.raises(InvalidSpec) as caught:
        space.check(dataclasses.replace(specs[0], layers=layers))
    assert caught.value.field == "layers[0]"


def test_an_edge_too_many_or_too_few_is_refused_or_another_network(space, specs):
    refused = 0
    for spec in specs[:3]:
        size = len(spec.layers)
        pairs = [(i, j) for i in range(size) for j in range(i + 1, size)]
        for source, target in random.Random(1).sample(pairs, min(len(pairs), 12)):
            rows = [list(row) for row in spec.adjacency]
            rows[source][target] = 1 - rows[source][target]
            other, fault = attempt(lambda rows=rows, spec=spec: changed(space, spec, rows))
            if fault is None:
                lower(other)
            else:
                assert fault.field.startswith(("adjacency", "layers"))
                refused += 1
    assert refused


def changed(space: SearchSpace, spec: NetworkSpec, rows: list[list[int]]) -> NetworkSpec:
    other = dataclasses.replace(spec, adjacency=tuple(map(tuple, rows)))
    space.check(other)
    return other


def test_a_spec_of_another_space_is_refused(space, specs):
    with pytest.raises(InvalidSpec) as caught:
        space.check(dataclasses.replace(specs[0], space="nowhere"))
    assert caught.value.field == "space"


# --- by name ---------------------------------------------------------------------------------------------------------


def test_an_unknown_space_is_refused_with_those_that_are_known():
    with pytest.raises(InvalidSpec, match="no search space 'nowhere'") as caught:
        get_space("nowhere")
    assert all(name in caught.value.remedy for name in space_names())


def test_an_unknown_meaning_of_zero_is_refused(specs):
    with pytest.raises(InvalidSpec) as caught:
        lower(specs[0], "keep")
    assert caught.value.field == "zero"


ARCHITECTURE = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|"


def test_networks_are_read_from_architecture_strings(small):
    spec = parse_network(ARCHITECTURE, "networks[0]", small)
    assert spec.space == "nasbench201"
    assert spec.config == small
    assert parse_network(spec.to_json(), "networks[0]") == spec


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ("", "networks[3]"),
        ("|nor_conv_3x3~0|", "networks[3]"),
        (ARCHITECTURE.replace("none~0", "none~1"), "networks[3]"),
        (ARCHITECTURE.replace("none~0", "sep_conv~0"), "networks[3]"),
        (ARCHITECTURE + "\n", "networks[3]"),
        ("|" * 1_000_000, "networks[3]"),
        (12, "networks[3]"),
        (None, "networks[3]"),
        ([], "networks[3]"),
        ({}, "networks[3].space"),
        ({"space": "nowhere", "adjacency": [[0, 1], [0, 0]], "layers": ["input", "output"]}, "networks[3].space"),
        (
            {"space": "nasbench201", "adjacency": [[0, 1], [0, 0]], "layers": ["input", "output"]},
            "networks[3].adjacency",
        ),
        (
            {"space": "nasbench101", "adjacency": [[0, 0], [0, 0]], "layers": ["input", "output"]},
            "networks[3].adjacency",
        ),
        ({"space": "nasbench101", "adjacency": [[0, 1], [0, 0]], "layers": ["input", "x"]}, "networks[3].layers[1]"),
        ({"space": "fbnet", "adjacency": [[0, 1], [0, 0]], "layers": ["input", "output"]}, "networks[3].layers"),
        ({"space": "darts", "adjacency": [[0, 1], [0, 0]], "layers": ["input", "output"]}, "networks[3].layers"),
        ({"space": "chains", "adjacency": [[0, 1], [0, 0]], "layers": ["input", "output"]}, "networks[3].layers"),
        ({"space": "random", "adjacency": [[0, 1], [0, 0]], "layers": ["input", "output"]}, "networks[3].layers"),
    ],
)
def test_networks_that_cannot_be_read_are_named(value, field):
    with pytest.raises(InvalidInput) as caught:
        parse_network(value, "networks[3]")
    assert caught.value.field == field
    assert len(str(caught.value)) < 600
