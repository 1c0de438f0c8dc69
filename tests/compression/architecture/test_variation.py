"""Whatever is drawn of a space, and bred from what was drawn, is a network of that space."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leti.compression.architecture.variation import Variation
from leti.core.errors import InvalidInput
from leti.core.spec import NetworkConfig
from leti.generator.spaces import SPACES, get_space

CONFIG = NetworkConfig(modules_per_stack=1)


@settings(max_examples=5)
@pytest.mark.parametrize("name", SPACES)
@given(seed=st.integers(0, 10_000))
def test_children_are_networks_of_their_space(name, seed):
    variation = Variation(get_space(name), CONFIG if name.startswith("nasbench") else None, seed)
    space = variation.space
    one, other = variation.distinct(2, variation.drawn, ())
    for choices in (variation.mutated(one.choices), variation.crossed(one.choices, other.choices)):
        assert len(choices) == len(space.positions)
        assert all(0 <= choice < count for choice, count in zip(choices, space.positions, strict=True))
        child = variation.read(choices)
        if child is not None:  # not every vector of every space is a network
            space.check(child.spec)
            assert not space.is_degenerate(child.spec)
            assert space.encode(child.spec) == child.choices
            assert variation.read(child.choices) == child


@given(
    seed=st.integers(0, 10_000), choices=st.tuples(*[st.integers(0, 4)] * 6), other=st.tuples(*[st.integers(0, 4)] * 6)
)
def test_a_mutant_differs_and_a_child_has_nothing_of_its_own(seed, choices, other):
    variation = Variation(get_space("nasbench201"), CONFIG, seed)
    assert variation.mutated(choices) != choices
    crossed = variation.crossed(choices, other)
    assert all(made in pair for made, pair in zip(crossed, zip(choices, other, strict=True), strict=True))


def test_what_is_drawn_together_is_distinct_and_new():
    variation = Variation(get_space("nasbench201"), CONFIG, 0)
    first = variation.distinct(50, variation.drawn, ())
    known = {one.kind for one in first}
    second = variation.distinct(600, variation.drawn, known)
    assert len(known) == 50
    assert not known & {one.kind for one in second}
    assert len({one.kind for one in second}) == len(second) == 600
    again = Variation(get_space("nasbench201"), CONFIG, 0)
    assert again.distinct(50, again.drawn, ()) == first


@given(seed=st.integers(0, 10_000))
def test_a_part_of_a_space_is_not_left(seed):
    kinds, none = (0, 1, 2), (0,)
    only = dict.fromkeys(range(80), none) | {0: (1,), 3: (1,), 5: kinds, 6: (0, 3), 10: kinds, 11: (0, 3), 12: (1, 2)}
    variation = Variation(get_space("chains"), None, seed, only)
    drawn = variation.distinct(6, variation.drawn, ())
    for one, other in itertools.pairwise(drawn):
        for made in (one, variation.read(variation.mutated(variation.crossed(one.choices, other.choices)))):
            assert made is None or all(choice in only[place] for place, choice in enumerate(made.choices))
    assert len(drawn) > 2


def test_parts_that_are_none_are_said():
    for wrong in ({6: (0,)}, {0: ()}, {0: (5,)}, {1: (0, 0)}):
        with pytest.raises(InvalidInput, match="only: "):
            Variation(get_space("nasbench201"), None, 0, wrong)
