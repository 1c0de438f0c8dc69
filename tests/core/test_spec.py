"""NetworkSpec: what is accepted, and which place an error names."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leti.core.errors import InvalidInput, InvalidSpec, TooLarge
from leti.core.spec import Layer, NetworkConfig, NetworkSpec, reachable

names = st.from_regex(r"[A-Za-z][A-Za-z0-9_.:+-]{0,20}", fullmatch=True)
attributes = st.dictionaries(
    st.from_regex(r"[a-z]{1,8}", fullmatch=True).filter(lambda key: key != "name"),
    st.one_of(
        st.booleans(),
        st.integers(-9, 9),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=5),
        st.lists(st.integers(0, 9), max_size=3).map(tuple),
    ),
    max_size=3,
)


@st.composite
def specs(draw: st.DrawFn) -> NetworkSpec:
    size = draw(st.integers(2, 9))
    rows = [[draw(st.integers(0, 1)) if j > i else 0 for j in range(size)] for i in range(size)]
    for i in range(size - 1):
        rows[i][i + 1] = 1
    layers = tuple(Layer(draw(names), tuple(draw(attributes).items())) for _ in range(size))
    config = NetworkConfig(
        input_shape=(draw(st.integers(1, 64)), draw(st.integers(1, 64)), draw(st.integers(1, 4))),
        batch=draw(st.integers(1, 8)),
        stacks=draw(st.integers(1, 4)),
    )
    return NetworkSpec(draw(names), tuple(map(tuple, rows)), layers, config)


@given(specs())
def test_json_round_trip(spec: NetworkSpec) -> None:
    assert NetworkSpec.loads(json.dumps(spec.to_json())) == spec


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda x: (
            st.lists(x, max_size=4)
            | st.dictionaries(st.sampled_from(["space", "adjacency", "layers", "config", "x"]), x)
        ),
    )
)
def test_nonsense_is_an_error_of_ours(data: object) -> None:
    with pytest.raises(InvalidInput):
        NetworkSpec.from_json(data)


def _spec(**changes: object) -> dict[str, object]:
    base: dict[str, object] = {
        "space": "demo",
        "adjacency": [[0, 1, 0], [0, 0, 1], [0, 0, 0]],
        "layers": ["input", "op", "output"],
    }
    return {**base, **changes}


@pytest.mark.parametrize(
    ("changes", "place", "word"),
    [
        ({"adjacency": [[0, 1, 0], [0, 0, 1]]}, "spec.adjacency", "rows"),
        ({"adjacency": [[0, 1], [0, 0, 1], [0, 0, 0]]}, "spec.adjacency[0]", "square"),
        ({"adjacency": [[0, 1, 0], [0, 0, 1], [1, 0, 0]]}, "spec.adjacency[2][0]", "upper-triangular"),
        ({"adjacency": [[0, 1, 0], [0, 1, 1], [0, 0, 0]]}, "spec.adjacency[1][1]", "cycle"),
        ({"adjacency": [[0, 2, 0], [0, 0, 1], [0, 0, 0]]}, "spec.adjacency[0][1]", "0 or 1"),
        ({"adjacency": [[0, True, 0], [0, 0, 1], [0, 0, 0]]}, "spec.adjacency[0][1]", "0 or 1"),
        ({"adjacency": [[0, 1, 0], [0, 0, 0], [0, 0, 0]]}, "spec.adjacency", "no path"),
        ({"adjacency": 7}, "spec.adjacency", "array"),
        ({"layers": ["input"]}, "spec.layers", "at least"),
        ({"layers": ["input", "a b", "output"]}, "spec.layers[1].name", "named"),
        ({"layers": ["input", {"kernel": 3}, "output"]}, "spec.layers[1]", "name"),
        ({"config": {"batch": 0}}, "spec.config", "from 1"),
        ({"config": {"wings": 2}}, "spec.config.wings", "known"),
        ({"extra": 1}, "spec.extra", "known"),
    ],
)
def test_errors_name_the_place(changes: dict[str, object], place: str, word: str) -> None:
    with pytest.raises(InvalidInput, match=word) as caught:
        NetworkSpec.from_json(_spec(**changes))
    assert caught.value.field.startswith(place)


def test_a_giant_is_refused_before_it_is_read() -> None:
    with pytest.raises(TooLarge) as caught:
        NetworkSpec.from_json(_spec(layers=["op"] * 10_000))
    assert caught.value.field == "spec.layers"


def test_text_that_is_not_json() -> None:
    with pytest.raises(InvalidSpec, match="not JSON"):
        NetworkSpec.loads("{")
    with pytest.raises(InvalidSpec, match="not JSON"):
        NetworkSpec.loads("[" * 100_000)


def test_reachable() -> None:
    assert reachable([[0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]], 0) == {0, 1, 3}
