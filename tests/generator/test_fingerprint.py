"""The fingerprint against exact isomorphism of what runs."""

from __future__ import annotations

import functools
import itertools
import random
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leti.core.graph import Graph, TensorType
from leti.core.spec import NetworkConfig
from leti.generator.builder import GraphBuilder
from leti.generator.lowering import ZEROS, lower
from leti.generator.spaces import SPACES
from leti.generator.spaces.nasbench201 import all_architectures, spec_of

SMALL = NetworkConfig(modules_per_stack=1)


@functools.cache
def pruned(architecture: str) -> Graph:
    return lower(spec_of(architecture, SMALL), "prune")


@functools.cache
def classes() -> list[list[str]]:
    found = defaultdict(list)
    for architecture in all_architectures():
        found[SPACES["nasbench201"].isomorphism_class(spec_of(architecture))].append(architecture)
    return list(found.values())


def test_agrees_with_exact_isomorphism_on_every_pair_inside_200_classes(isomorphic):
    several = [members for members in classes() if len(members) > 1]
    pairs = alike = 0
    for members in random.Random(0).sample(several, 200):
        groups = defaultdict(list)
        for architecture in members:
            groups[pruned(architecture).fingerprint()].append(pruned(architecture))
        # Isomorphism is an equivalence: all of a group isomorphic to its first, and no two firsts to each other,
        # says it of every pair.
        for first, *others in groups.values():
            assert all(isomorphic(first, other) for other in others)
        firsts = [group[0] for group in groups.values()]
        assert not any(isomorphic(a, b) for a, b in itertools.combinations(firsts, 2))
        pairs += len(members) * (len(members) - 1) // 2
        alike += sum(len(group) * (len(group) - 1) // 2 for group in groups.values())
    assert pairs > 1000
    assert 0 < alike < pairs  # the classes speak of the cell, the fingerprint of what runs: both cases occur


def test_agrees_with_exact_isomorphism_on_random_pairs(isomorphic):
    rng = random.Random(1)
    architectures = list(all_architectures())
    for _ in range(5_000):
        a, b = (pruned(rng.choice(architectures)) for _ in range(2))
        assert (a.fingerprint() == b.fingerprint()) == isomorphic(a, b)


@pytest.mark.parametrize(("space", "zero"), [("nasbench101", "execute"), ("nasbench201", "execute")])
def test_agrees_with_exact_isomorphism_where_the_operators_are_the_same(space, zero, isomorphic):
    alike = defaultdict(list)
    for spec in SPACES[space].sample(1000, 2, SMALL):
        graph = lower(spec, zero)
        alike[tuple(sorted(op.signature for op in graph.ops))].append(graph)
    pairs = [pair for graphs in alike.values() for pair in itertools.combinations(graphs, 2)]
    assert len(pairs) > 100
    for a, b in random.Random(3).sample(pairs, min(len(pairs), 400)):
        assert (a.fingerprint() == b.fingerprint()) == isomorphic(a, b)


@settings(max_examples=60)
@given(space=st.sampled_from(sorted(SPACES)), zero=st.sampled_from(ZEROS), seed=st.integers(0, 2**32))
def test_does_not_depend_on_the_numbering(space, zero, seed, renumbered):
    graph = lower(*SPACES[space].sample(1, seed, SMALL), zero)
    other = renumbered(graph, random.Random(seed))
    assert other.fingerprint() == graph.fingerprint()
    assert other == graph


def test_tells_a_shared_branch_from_a_duplicated_one():
    def network(*, shared: bool) -> Graph:
        builder = GraphBuilder(TensorType((1, 8, 8, 3)))
        first = builder.conv(0, 4, 3)
        second = first if shared else builder.conv(0, 4, 3)
        return builder.graph(builder.add((builder.relu(first), builder.max_pool(second, 3))))

    assert network(shared=True).fingerprint() != network(shared=False).fingerprint()
    assert network(shared=True) == network(shared=True)


def test_tells_networks_of_other_configs_apart():
    architecture = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|"
    configs = [
        NetworkConfig(),
        NetworkConfig(batch=2),
        NetworkConfig(stem_channels=8),
        NetworkConfig(modules_per_stack=1),
        NetworkConfig(stacks=2),
        NetworkConfig(classes=100),
        NetworkConfig(input_shape=(52, 16, 1)),
    ]
    assert len({lower(spec_of(architecture, config)).fingerprint() for config in configs}) == len(configs)


def test_says_that_the_meanings_of_zero_are_different_computations():
    spec = spec_of("|none~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_3x3~2|", SMALL)
    assert len({lower(spec, zero).fingerprint() for zero in ZEROS}) == 3
