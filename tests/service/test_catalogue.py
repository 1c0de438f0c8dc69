"""The catalogue: networks in every form, each with its own fault, and what is remembered of them."""

from __future__ import annotations

import pytest

from leti.core.errors import InvalidInput, InvalidSpec, LetiError, TooLarge
from leti.core.spec import NetworkConfig
from leti.generator.lowering import lower
from leti.generator.precision import quantize
from leti.generator.spaces import get_space, parse_network
from leti.service import catalogue
from leti.service.catalogue import decode_batch, name_network, read_batch, read_networks

SMALL = NetworkConfig(stacks=1, modules_per_stack=1)
CELL = (3, 1, 2, 4, 3, 0)
ARCHITECTURE = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|avg_pool_3x3~0|nor_conv_3x3~1|none~2|"


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    monkeypatch.setattr(catalogue, "_REMEMBERED", catalogue._Remembered(catalogue.REMEMBERED_BYTES))


def fields(found):
    return [item.field if isinstance(item, LetiError) else "" for item in found]


def test_one_network_is_the_same_in_every_form():
    spec = get_space("nasbench201").decode(CELL, NetworkConfig())
    texts = [ARCHITECTURE, "nasbench201:3,1,2,4,3,0"]
    read = read_batch([*texts, spec.to_json()], "execute", "float32", limit=9)
    read += decode_batch("nasbench201", [CELL, list(CELL)], None, "execute", "float32", limit=9)
    named = name_network(spec, "execute").network
    assert {item.fingerprint for item in read} == {named.fingerprint} == {lower(spec).fingerprint()}
    assert [item.known().network for item in read] == [named] * 5
    assert named.spec == spec.to_json()


@pytest.mark.parametrize("precision", ["float32", "full_integer"])
def test_a_faulty_vector_does_not_keep_the_others_from_being_read(precision):
    vectors = [CELL, (1, 2), (0, 0, 0, 0, 0, 5), (4,) * 6, (), (0, 0, 0, 0, 0, -1)]
    found = decode_batch("nasbench201", vectors, SMALL, "prune", precision, limit=9)
    assert fields(found) == ["", "encodings[1]", "encodings[2][5]", "", "encodings[4]", "encodings[5][5]"]
    again = decode_batch("nasbench201", vectors, SMALL, "prune", precision, limit=9)
    assert fields(again) == fields(found)
    assert [found[i] is again[i] for i in range(6)] == [True, False, False, True, False, False]
    graph = quantize(lower(get_space("nasbench201").decode(CELL, SMALL), "prune"), precision)
    assert found[0].fingerprint == graph.fingerprint()


def test_a_faulty_network_does_not_keep_the_others_from_being_read():
    spec = get_space("fbnet").decode([0] * 22, NetworkConfig()).to_json()
    networks = [ARCHITECTURE, "|x~0|", spec, {**spec, "layers": spec["layers"][:-1]}, "fbnet:9", {}, 5]
    found = read_batch(networks, "execute", "float32", limit=9)
    assert fields(found) == [
        "",
        "networks[1]",
        "",
        "networks[3].adjacency",
        "networks[4]",
        "networks[5].space",
        "networks[6]",
    ]
    assert found[2].graph == lower(parse_network(spec, "x"))
    with pytest.raises(InvalidInput) as caught:
        read_networks(networks, "execute", "float32", limit=9)
    assert caught.value.field == "networks[1]"


def test_what_is_wrong_with_a_whole_batch_is_raised():
    with pytest.raises(InvalidInput, match="at least one"):
        decode_batch("nasbench201", [], None, "execute", "float32", limit=9)
    with pytest.raises(TooLarge) as caught:
        decode_batch("nasbench201", [CELL] * 10, None, "execute", "float32", limit=9, where="encodings.vectors")
    assert (caught.value.field, caught.value.details["limit"]) == ("encodings.vectors", 9)
    with pytest.raises(InvalidSpec):
        decode_batch("nowhere", [CELL], None, "execute", "float32", limit=9)


def test_terms_tell_networks_apart():
    def read(config=None, zero="execute", precision="float32"):
        return decode_batch("nasbench201", [CELL], config, zero, precision, limit=1)[0]

    assert read() is read(NetworkConfig())
    others = [read(), read(SMALL), read(zero="prune"), read(precision="full_integer")]
    assert len({item.fingerprint for item in others}) == 4
    assert not any(item.degenerate for item in others)
    (empty,) = decode_batch("nasbench201", [(0,) * 6], None, "execute", "float32", limit=1)
    assert empty.degenerate
    assert empty.known().network.degenerate


def test_an_integer_too_large_for_a_database_is_refused():
    config = NetworkConfig((4096, 4096, 4096), 1024, 4096, 8, 32)
    (found,) = decode_batch("nasbench201", [(3,) * 6], config, "execute", "float32", limit=1)
    assert isinstance(found, TooLarge)
    assert found.field == "encodings[0].config"


def test_what_is_remembered_is_bounded_and_the_last_used_stays(monkeypatch):
    kept = catalogue._Remembered(3 * catalogue.NETWORK_BYTES)
    monkeypatch.setattr(catalogue, "_REMEMBERED", kept)
    cells = [(i, 3, 3, 3, 3, 3) for i in range(5)]

    def read(*which):
        return decode_batch("nasbench201", [cells[i] for i in which], SMALL, "execute", "float32", limit=9)

    first, second, third = read(0, 1, 2)
    assert read(0)[0] is first
    read(3)  # in the place of the second, which was used longest ago
    assert [item is other for item, other in zip(read(0, 2), (first, third), strict=True)] == [True, True]
    assert read(1)[0] is not second
    assert read(1)[0].fingerprint == second.fingerprint
