"""Platform, Measurement, Prediction, wire types and errors: round trips, checks, what is derived."""

import array
import json
import math
import typing
from dataclasses import dataclass, fields, is_dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leti.core import farm, wire
from leti.core.codec import from_json, to_json
from leti.core.device import Device, Platform
from leti.core.errors import InvalidInput, LetiError, MissingExtra, error_classes
from leti.core.extras import needs
from leti.core.measurement import Measurement, Pass, Recipe, repeatability, truth
from leti.core.prediction import Predictions

times = st.floats(1e-3, 1e4)
passes = st.builds(
    Pass,
    st.lists(times, min_size=1, max_size=4).map(tuple),
    st.lists(times, min_size=1, max_size=4).map(tuple),
    st.booleans(),
)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
measurements = st.builds(
    Measurement,
    fingerprint=digests,
    platform_id=texts,
    reference=digests,
    passes=st.lists(passes, min_size=1, max_size=5).map(tuple),
    recipe=st.builds(Recipe, texts, texts, digests),
    init_ms=st.none() | times,
)
platforms = st.builds(
    Platform,
    device=st.builds(
        Device, st.just("pi"), st.sampled_from(["desktop", "android"]), st.just("BCM2712"), st.integers(1, 64)
    ),
    runtime=st.just("litert"),
    runtime_version=st.just("2.3.0"),
    threads=st.integers(1, 8),
    affinity=st.lists(st.integers(0, 7), max_size=3).map(tuple),
    precision=st.sampled_from(["fp32", "bf16", "fp16"]),
)


@given(measurements)
def test_measurement_round_trip(measurement: Measurement) -> None:
    assert from_json(Measurement, json.loads(json.dumps(to_json(measurement)))) == measurement


@given(platforms, platforms)
def test_platform_round_trip_and_identity(one: Platform, other: Platform) -> None:
    assert from_json(Platform, json.loads(json.dumps(to_json(one)))) == one
    assert (one.id == other.id) == (one == other)
    assert one.id.isascii()
    assert len(one.id) <= 90


def test_every_wire_type_can_be_read() -> None:
    """The codec knows the form of every field of every type that travels."""
    seen = [cls for cls in (*vars(wire).values(), *vars(farm).values()) if is_dataclass(cls) and isinstance(cls, type)]
    assert len(seen) > 20
    for cls in seen:
        hints = typing.get_type_hints(cls)
        for field in fields(cls):
            with pytest.raises(InvalidInput):
                from_json(hints[field.name], object(), field.name) if hints[field.name] is not typing.Any else _refuse()


def _refuse() -> None:
    raise InvalidInput("anything goes")


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf, True])
def test_times_are_positive_and_finite(bad: float) -> None:
    with pytest.raises(InvalidInput) as caught:
        Pass((1.0, bad), (1.0,))
    assert caught.value.field == "samples_ms[1]"


@pytest.mark.parametrize("field", ["init_ms", "first_inference_ms", "peak_memory_bytes"])
@pytest.mark.parametrize("bad", [-1, math.nan, math.inf])
def test_what_cannot_be_is_no_measurement(field: str, bad: float) -> None:
    one = Pass((1.0,), (1.0,))
    with pytest.raises(InvalidInput) as caught:
        Measurement("a" * 64, "p", "b" * 64, (one,), Recipe("1", "2", "c"), **{field: bad})  # type: ignore[arg-type]
    assert caught.value.field == field


@pytest.mark.parametrize("bad", [math.nan, math.inf, "1", None, True])
def test_the_codec_refuses_what_is_not_a_number(bad: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        from_json(Pass, {"samples_ms": [1.0], "reference_ms": [bad]}, "result.passes[3]")
    assert caught.value.field == "result.passes[3].reference_ms[0]"


@pytest.mark.parametrize(("cls", "bad"), [(int, 2**63), (int, -(2**63)), (str, "\ud800"), (str, "a\udfffb")])
def test_the_codec_refuses_what_nobody_can_store(cls: type, bad: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        from_json(cls, bad, "device.name")
    assert caught.value.field == "device.name"
    str(caught.value).encode()  # the answer can be written


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"affinity": [-1]}, "platform.affinity"),
        ({"affinity": [0] * 4097}, "platform.affinity"),
        ({"affinity": [4096]}, "platform.affinity"),
        ({"device": {"name": "pi", "kind": "desktop", "soc": "x", "cores": 4, "os": "x" * 201}}, "platform.device.os"),
    ],
)
def test_a_platform_is_bounded(changed: dict[str, object], field: str) -> None:
    device = {"name": "pi", "kind": "desktop", "soc": "x", "cores": 4}
    data = {"device": device, "runtime": "litert", "runtime_version": "1", **changed}
    with pytest.raises(InvalidInput) as caught:
        from_json(Platform, data, "platform")
    assert caught.value.field == field


def test_the_codec_names_nested_checks() -> None:
    with pytest.raises(InvalidInput) as caught:
        from_json(Pass, {"samples_ms": [-1.0], "reference_ms": [1.0]}, "passes[0]")
    assert caught.value.field == "passes[0].samples_ms[0]"


def test_the_codec_reads_unions_and_literals() -> None:
    @dataclass(frozen=True)
    class Choice:
        value: int | str | None
        word: typing.Literal["a", "b"]

    assert from_json(tuple[Choice, ...], []) == ()
    with pytest.raises(InvalidInput, match="one of 'a', 'b'"):
        from_json(typing.Literal["a", "b"], "c", "word")  # type: ignore[arg-type]


def test_latency_is_median_ratio_times_reference() -> None:
    calm = [Pass((2.0, 2.2, 2.1), (1.0,)), Pass((4.2,), (2.0,)), Pass((3.0,), (1.5,))]
    restless = Pass((9.0,), (1.0,), calm=False)
    measurement = Measurement("a" * 64, "p", "b" * 64, (*calm, restless), Recipe("1", "2", "c"))
    assert measurement.ratio == pytest.approx(2.1)
    assert measurement.latency_ms(10.0) == pytest.approx(21.0)
    assert measurement.min_ms == 2.0
    assert measurement.reference_ms == 1.5
    only_restless = Measurement("a" * 64, "p", "b" * 64, (restless,), Recipe("1", "2", "c"), noisy=True)
    assert only_restless.ratio == 9.0


def test_truth_and_repeatability() -> None:
    assert truth([1.0, 1.1, 0.9]).spread == pytest.approx(0.1)
    assert truth([2.0]).count == 1
    with pytest.raises(InvalidInput):
        truth([])
    agreed = repeatability([[1.0, 1.0, 1.2], [5.0], [2.0, 2.04]])
    assert agreed is not None
    assert (agreed.networks, agreed.measurements) == (2, 5)
    assert agreed.within == {"0.01": 0.8, "0.05": 0.8, "0.1": 0.8}
    assert agreed.pairs_within == {"0.01": 0.25, "0.05": 0.5, "0.1": 0.5}
    assert repeatability([[1.0], [2.0]]) is None


def test_predictions_are_columns_without_copies() -> None:
    column = array.array("d", [1.0, 2.0])
    predictions = Predictions.of(column, column, column, coverage=0.9, predictor="flops", unknown=[(), ("conv3d",)])
    column[1] = 3.0
    assert [p.latency_ms for p in predictions] == [1.0, 3.0]
    assert predictions[1].unknown == ("conv3d",)
    with pytest.raises(InvalidInput):
        Predictions.of(column, array.array("f", [1, 2]), column, coverage=0.9, predictor="flops")
    with pytest.raises(InvalidInput):
        Predictions.of(column, array.array("d", [1]), column, coverage=0.9, predictor="flops")


def test_errors_say_place_and_remedy_and_have_kinds_of_their_own() -> None:
    assert str(InvalidInput("is missing", field="a.b", remedy="give b")) == "a.b: is missing (give b)"
    classes = error_classes()
    assert len(classes) == len(set(classes.values()))
    document = LetiError.__module__
    tree = __import__(document, fromlist=["x"]).__doc__
    assert all(cls.__name__ in tree for cls in classes.values()), "the tree at the head of the file names them all"


@given(st.text(), st.text(), st.text())
def test_errors_are_one_line_whatever_a_file_calls_its_parts(message: str, field: str, remedy: str) -> None:
    text = str(InvalidInput(f"layer {message}", field=field, remedy=remedy))
    assert text.isprintable()
    assert text.encode()
    assert str(InvalidInput("a\nb\x1b[31m", field="é\u202e")) == "é : a b [31m"


def test_a_missing_extra_is_named() -> None:
    with pytest.raises(MissingExtra, match=r"leti\[boosting\]"), needs("boosting"):
        import a_module_that_nobody_has  # type: ignore[import-not-found]  # noqa: F401
