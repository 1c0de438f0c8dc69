"""What can be measured here: the real runtimes of this machine."""

import pytest

pytest.importorskip("ai_edge_litert", reason="the agent extra is not installed")

from leti.core.errors import InvalidInput, MissingExtra
from leti.device_agents import backends
from leti.device_agents.discovery import ACCELERATORS, Way, Wish, ways


def test_every_runtime_that_is_here_is_used_as_it_usually_is() -> None:
    found = ways(Wish())
    assert found[0] == Way("litert", "xnnpack", 1, "fp32", "float32")
    usable: dict[str, list[str]] = {}
    for name, offer in backends.offers():
        if not offer.reason and "fp32" in offer.precisions:
            usable.setdefault(name, []).append(offer.delegate)
    assert {way.backend for way in found} == set(usable)
    for name, delegates in usable.items():
        mine = [way.delegate for way in found if way.backend == name]
        assert mine[0] == delegates[0]
        assert set(mine[1:]) == set(delegates[1:]) & ACCELERATORS
    assert {(way.threads, way.precision, way.model_precision) for way in found} == {(1, "fp32", "float32")}


def test_what_is_named_is_multiplied_out() -> None:
    wish = Wish(("litert",), ("xnnpack", "builtin"), (1, 2), ("fp32", "fp16"), ("float32", "full_integer"))
    found = ways(wish)
    assert len(found) == len(set(found)) == 2 * 2 * 2 + 2 * 2, "the built-in kernels compute in fp32 only"
    assert Way("litert", "xnnpack", 2, "fp16", "full_integer") in found
    assert Way("litert", "builtin", 1, "fp16", "float32") not in found


@pytest.mark.parametrize(
    ("wish", "field", "words"),
    [
        (Wish(("abacus",)), "backend", "one of litert"),
        (Wish(("litert",), ("cuda",)), "delegate", "xnnpack"),
        (Wish(("litert",), (), (1,), ("bf16",)), "delegate", "bf16"),
        (Wish((), ("abacus",)), "delegate", "abacus"),
    ],
)
def test_what_is_not_offered_is_refused_with_what_is(wish: Wish, field: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        ways(wish)
    assert caught.value.field == field


def test_what_cannot_be_used_here_is_refused_with_the_reason() -> None:
    missing = [(name, offer) for name, offer in backends.offers() if offer.reason]
    if not missing:
        pytest.skip("everything can be used here")
    for name, offer in missing:
        if offer.delegate:
            with pytest.raises(InvalidInput) as caught:
                ways(Wish((name,), (offer.delegate,), precisions=offer.precisions))
            assert offer.reason in str(caught.value)
        else:
            with pytest.raises((InvalidInput, MissingExtra, ImportError)):
                ways(Wish((name,)))
