"""What the positions of spaces are called."""

import random

import pytest

from leti.core.errors import InvalidSpec
from leti.generator.spaces import SPACES, get_space
from leti.generator.spaces.places import Place, places_of
from leti.generator.spaces.space import SearchSpace

NAMED = ("nasbench201", "fbnet", "mobilenetv3", "chains", "darts")


@pytest.mark.parametrize("name", NAMED)
def test_every_position_has_a_name_and_its_options(name):
    space = get_space(name)
    places = places_of(space)
    assert tuple(len(place.options) for place in places) == space.positions
    assert len({place.name for place in places}) == len(places)
    assert all(len(set(place.options)) == len(place.options) for place in places)


@pytest.mark.parametrize("name", ["nasbench201", "fbnet"])
def test_options_are_the_layers_that_a_vector_stands_for(name):
    space = get_space(name)
    spec = space.draw(random.Random(3), space.default_config)
    chosen = [place.options[choice] for place, choice in zip(places_of(space), space.encode(spec), strict=True)]
    assert chosen == [layer.name for layer in spec.layers[1:-1]]


def test_a_block_of_mobilenetv3_is_its_kernel_and_expansion():
    space = get_space("mobilenetv3")
    spec = space.draw(random.Random(3), space.default_config)
    chosen = [place.options[choice] for place, choice in zip(places_of(space), space.encode(spec), strict=True)]
    assert chosen[0] == str(spec.config.input_shape[0])
    blocks = [dict(layer.attributes) for layer in spec.layers[1:-1]]
    assert [name for name in chosen[2:] if name != "absent"] == [f"k{b['kernel']}_e{b['expansion']}" for b in blocks]


def test_the_sources_of_a_node_of_darts_are_those_of_the_cell():
    space = get_space("darts")
    places = places_of(space)
    vector = [0] * len(space.positions)
    vector[3] = places[3].options.index("1+2")  # node 3 of the normal cell
    spec = space.decode(vector, space.default_config)
    node = 1 + 2 + 2  # behind the input, the cell's inputs and the operations of node 2
    assert [i for i in range(node + 1) if spec.adjacency[i][node]] == [2]
    assert [i for i in range(node + 1) if spec.adjacency[i][node + 1]] == [3, 4]  # both operations of node 2


@pytest.mark.parametrize("name", sorted(set(SPACES) - set(NAMED)))
def test_a_space_without_fixed_positions_is_refused(name):
    with pytest.raises(InvalidSpec, match="no fixed positions") as refused:
        places_of(get_space(name))
    assert "fbnet" in refused.value.remedy


def test_positions_of_a_plugin_are_called_by_number():
    class Tiny(SearchSpace):
        name = "tiny"
        positions = (2, 3)
        check = encode = decode = build = None

    Tiny.__abstractmethods__ = frozenset()
    assert places_of(Tiny()) == (Place("position 0", ("0", "1")), Place("position 1", ("0", "1", "2")))
