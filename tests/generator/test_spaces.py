"""What every search space promises, those of plugins included: one suite for every space that is installed."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from leti.core.errors import InvalidInput, InvalidSpec
from leti.core.graph import Graph
from leti.core.spec import Layer, NetworkConfig, NetworkSpec
from leti.generator.lowering import ZEROS, lower
from leti.generator.spaces import SearchSpace, get_space, parse_network, space_names


@pytest.fixture(params=space_names())
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return get_space(request.param)


@pytest.fixture
def specs(space: SearchSpace, small: NetworkConfig) -> tuple[NetworkSpec, ...]:
    return space.sample(40, 7, small)


def test_samples_are_of_the_space(space, specs, small):
    assert len(specs) == 40
    for spec in specs:
        space.check(spec)
        assert spec.space == space.name
        assert spec.config == small
        assert not space.is_degenerate(spec)


def test_samples_are_seeded(space, specs, small):
    assert space.sample(40, 7, small) == specs
    assert space.sample(40, 8, small) != specs


def test_samples_have_no_isomorphic_repeats(space, small):
    specs = space.sample(500, 0, small)
    assert len({space.isomorphism_class(spec) for spec in specs}) == 500


@pytest.mark.parametrize("count", [10_000_000, -1])
def test_more_than_there_are_cannot_be_sampled(space, small, count):
    with pytest.raises(InvalidInput, match="cannot be drawn") as caught:
        space.sample(count, 0, small)
    assert caught.value.field == "count"
    assert str(caught.value.details["available"]) in caught.value.remedy


def test_nothing_can_be_sampled(space, small):
    assert space.sample(0, 0, small) == ()


def test_encodings_are_of_one_length_and_tell_specs_apart(space, specs):
    encodings = [space.encode(spec) for spec in specs]
    assert len({len(encoding) for encoding in encodings}) == 1
    assert len(set(encodings)) == len(specs)


def test_specs_survive_json(space, specs):
    for spec in specs:
        data = json.loads(json.dumps(spec.to_json()))
        assert parse_network(data, "network") == spec


@pytest.mark.parametrize("zero", ZEROS)
def test_specs_lower_to_sound_graphs(space, specs, zero):
    for spec in specs:
        graph = lower(spec, zero)
        assert graph.encoding.choices == space.encode(spec)
        assert graph.encoding.space == space.name
        assert sorted(i for kernel in graph.kernels for i in kernel) == list(range(len(graph.ops)))
        assert graph.macs > 0
        assert graph.params > 0
        assert max(op.outputs[0].size_bytes for op in graph.ops) < graph.peak_memory_bytes
        read = {value for sources in graph.wiring for value in sources} | set(graph.outputs)
        assert read == set(range(len(graph.ops) + 1))  # nothing is computed that nobody reads
        assert Graph.from_json(json.loads(json.dumps(graph.to_json()))).fingerprint() == graph.fingerprint()
        assert lower(spec, zero) == graph


@pytest.mark.parametrize("zero", ZEROS)
def test_specs_run_in_litert(specs, zero, run_model):
    from leti.generator.export.tflite import export_tflite

    for spec in specs[:8]:
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

    (spec,) = space.sample(1, 0, config)
    assert run_model(export_tflite(lower(spec))).shape == (config.batch, config.classes)


def test_an_unknown_layer_is_named_with_those_that_are_known(space, specs):
    layers = (specs[0].layers[0], Layer("sep_conv"), *specs[0].layers[2:])
    with pytest.raises(InvalidSpec, match="'sep_conv'") as caught:
        lower(dataclasses.replace(specs[0], layers=layers))
    assert caught.value.field == "layers[1]"
    assert "conv" in caught.value.remedy


def test_a_layer_takes_no_attributes(space, specs):
    layers = (*specs[0].layers[:-1], Layer("output", (("units", 3),)))
    with pytest.raises(InvalidSpec, match="takes no attributes") as caught:
        space.check(dataclasses.replace(specs[0], layers=layers))
    assert caught.value.field == f"layers[{len(layers) - 1}].units"


def test_the_ends_must_be_input_and_output(space, specs):
    layers = (Layer("output"), *specs[0].layers[1:])
    with pytest.raises(InvalidSpec) as caught:
        space.check(dataclasses.replace(specs[0], layers=layers))
    assert caught.value.field == "layers[0]"


def test_a_spec_of_another_space_is_refused(space, specs):
    with pytest.raises(InvalidSpec) as caught:
        space.check(dataclasses.replace(specs[0], space="fbnet"))
    assert caught.value.field == "space"


def test_an_unknown_space_is_refused_with_those_that_are_known():
    with pytest.raises(InvalidSpec, match="no search space 'darts'") as caught:
        get_space("darts")
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
        ({"space": "darts", "adjacency": [[0, 1], [0, 0]], "layers": ["input", "output"]}, "networks[3].space"),
        (
            {"space": "nasbench201", "adjacency": [[0, 1], [0, 0]], "layers": ["input", "output"]},
            "networks[3].adjacency",
        ),
        (
            {"space": "nasbench101", "adjacency": [[0, 0], [0, 0]], "layers": ["input", "output"]},
            "networks[3].adjacency",
        ),
        ({"space": "nasbench101", "adjacency": [[0, 1], [0, 0]], "layers": ["input", "x"]}, "networks[3].layers[1]"),
    ],
)
def test_networks_that_cannot_be_read_are_named(value, field):
    with pytest.raises(InvalidInput) as caught:
        parse_network(value, "networks[3]")
    assert caught.value.field == field
    assert len(str(caught.value)) < 600
