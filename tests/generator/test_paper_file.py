"""Files ``{hash: [matrix, labels]}``: read, written, and refused with the hash and the place."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leti.core.errors import InvalidInput, InvalidSpec, TooLarge
from leti.core.spec import NetworkConfig
from leti.generator import paper_file
from leti.generator.lowering import lower
from leti.generator.paper_file import read_networks, write_networks
from leti.generator.spaces import get_space

CONFIG = NetworkConfig(stem_channels=128, stacks=3, modules_per_stack=3)
HASH = "00005c142e6f48ac74fdcf73e3439874"
MATRIX = [[0, 1, 0, 0, 1, 1, 0], [0, 0, 1, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 1], [0, 0, 0, 0, 0, 1, 0]]
MATRIX += [[0, 0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0, 1], [0] * 7]
LABELS = [-1, 0, 2, 2, 1, 0, -2]
TEXT = json.dumps({HASH: [MATRIX, LABELS], "second": [[[0, 1], [0, 0]], ["input", "output"]]})


def test_a_file_is_read_with_its_hashes_and_a_config(tmp_path):
    path = tmp_path / "generated_graphs.json"
    path.write_text(TEXT)
    found = read_networks(path, CONFIG)
    assert found == read_networks(TEXT, CONFIG) == read_networks(TEXT.encode(), CONFIG)
    assert list(found) == [HASH, "second"]
    spec = found[HASH]
    assert spec.config == CONFIG
    assert [layer.name for layer in spec.layers] == [
        *("input", "conv3x3-bn-relu", "maxpool3x3", "maxpool3x3", "conv1x1-bn-relu", "conv3x3-bn-relu", "output")
    ]
    assert [list(row) for row in spec.adjacency] == MATRIX
    assert lower(spec).macs > 1e8


def test_numbers_and_names_say_the_same():
    found = read_networks(TEXT, CONFIG)
    names, numbers = write_networks(found), write_networks(found, numbers=True)
    assert json.loads(numbers)[HASH] == [MATRIX, LABELS]
    assert json.loads(names)[HASH][1][1] == "conv3x3-bn-relu"
    assert read_networks(names, CONFIG) == read_networks(numbers, CONFIG) == found


@pytest.mark.parametrize("space", ["nasbench101", "nasbench201", "fbnet", "darts"])
def test_networks_survive_a_file(space):
    specs = get_space(space).sample(20, 0, CONFIG)
    found = read_networks(write_networks(specs), CONFIG, space=space)
    assert tuple(found.values()) == specs
    assert list(found) == [get_space(space).isomorphism_class(spec) for spec in specs]


def test_no_networks_are_a_file_too():
    assert read_networks(write_networks({}), CONFIG) == {}


def test_what_a_file_cannot_say_is_not_written():
    (chain,) = get_space("chains").sample(1, 0, CONFIG)
    with pytest.raises(InvalidSpec, match="has attributes") as caught:
        write_networks({"a": chain})
    assert caught.value.field == "networks['a'].layers[1]"
    first, second = (get_space("nasbench101").sample(1, 0, config)[0] for config in (CONFIG, NetworkConfig()))
    with pytest.raises(InvalidSpec, match="another space or config") as caught:
        write_networks({"a": first, "b": second})
    assert caught.value.field == "networks['b']"
    with pytest.raises(InvalidSpec, match="isomorphic") as caught:
        write_networks([first, first])
    assert caught.value.field == "networks[1]"
    with pytest.raises(InvalidSpec, match="no number"):
        write_networks(get_space("nasbench201").sample(1, 0, CONFIG), numbers=True)


def entry(**changes):
    values = {"matrix": MATRIX, "labels": LABELS, **changes}
    return json.dumps({"good": [MATRIX, LABELS], "bad": [values["matrix"], values["labels"]]})


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", "networks"),
        ("{", "networks"),
        ("[]", "networks"),
        ("3", "networks"),
        ("[" * 100_000, "networks"),
        (b"\xff\xfe", "networks"),
        ('{"bad": {}}', "networks['bad']"),
        ('{"bad": []}', "networks['bad']"),
        ('{"bad": [[[0, 1], [0, 0]]]}', "networks['bad']"),
        ('{"bad": [{}, [-1, -2]]}', "networks['bad'].adjacency"),
        ('{"bad": [[[0, 1], [0, 0]], {}]}', "networks['bad'].layers"),
        ('{"bad": [[[0, 1], [0, 0]], [-1, -2]], "bad": [[[0, 1], [0, 0]], [-1, -2]]}', "networks['bad']"),
        (entry(labels=[-1, 0, 2, 2, 1, 3, -2]), "networks['bad'].layers[5]"),
        (entry(labels=[-1, 0, 2, 2, 1, True, -2]), "networks['bad'].layers[5]"),
        (entry(labels=[-1, 0, 2, 2, 1, None, -2]), "networks['bad'].layers[5]"),
        (entry(labels=[-1, 0, 2, 2, 1, "conv7x7", -2]), "networks['bad'].layers[5]"),
        (entry(labels=[-2, 0, 2, 2, 1, 0, -1]), "networks['bad'].layers[0]"),
        (entry(labels=LABELS[:-1]), "networks['bad'].adjacency"),
        (entry(matrix=MATRIX[:-1]), "networks['bad'].adjacency"),
        (entry(matrix=[*MATRIX[:-1], [1] + [0] * 6]), "networks['bad'].adjacency[6][0]"),
        (entry(matrix=[*MATRIX[:-1], [0] * 6]), "networks['bad'].adjacency[6]"),
        (entry(matrix=[*MATRIX[:-1], 3]), "networks['bad'].adjacency[6]"),
        (entry(matrix=[[0.5] * 7, *MATRIX[1:]]), "networks['bad'].adjacency[0][0]"),
        (entry(matrix=[[0] * 7] * 7), "networks['bad'].adjacency"),
        (entry(matrix=[[0] * 5000] * 2, labels=[0] * 5000), "networks['bad'].layers"),
        ('{"' + "x" * 1000 + '": [[[0, 1], [0, 0]], [-1, -2]]}', f"networks['{'x' * 200}']"),
    ],
)
def test_what_is_no_network_is_named_by_hash_and_place(text, field):
    with pytest.raises(InvalidInput) as caught:
        read_networks(text, CONFIG)
    assert caught.value.field == field
    assert len(str(caught.value)) < 800


def test_large_files_are_refused_unread(tmp_path, monkeypatch):
    path = tmp_path / "networks.json"
    path.write_text(TEXT)
    monkeypatch.setattr(paper_file, "MAX_BYTES", len(TEXT) - 1)
    for source in (path, TEXT):
        with pytest.raises(TooLarge, match="bytes"):
            read_networks(source, CONFIG)
    monkeypatch.setattr(paper_file, "MAX_BYTES", len(TEXT))
    monkeypatch.setattr(paper_file, "MAX_NETWORKS", 1)
    with pytest.raises(TooLarge, match="2 networks"):
        read_networks(path, CONFIG)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_networks(tmp_path / "none.json", CONFIG)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(JSON)
def test_any_json_is_networks_or_an_error(value):
    try:
        found = read_networks(json.dumps(value), CONFIG)
    except InvalidInput:
        return
    assert read_networks(write_networks(found), CONFIG) == found
