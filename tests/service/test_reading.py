"""Bodies are read as core's codec reads them: the same value, or the same complaint at the same place."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest

from leti.core.codec import from_json, to_json
from leti.core.device import Device, Platform
from leti.core.errors import InvalidInput
from leti.core.farm import Failure, Heartbeat, JobSelection, LeaseRequest, Result, ResultBatch
from leti.core.measurement import Conditions, Measurement, OperatorTime, Pass, ProcessSummary, Recipe
from leti.service.routes import reading
from leti.service.routes.examples import EXAMPLES

ODD: tuple[Any, ...] = (
    *(None, True, 0, 1, -1, 2**63 - 1, 2**63, -(2**63), 10**400, 1.5, -0.0, 1e9, math.nan, math.inf),
    *("", "1", "nul \0", "half \ud800", "é", [], [1], [0.5, 1], ["a"], [[]], {}, {"a": 1}, {"0": 0.5}),
)

RECIPE = Recipe(
    *("0.1.0", "2.3.0", "ab" * 32, (("passes", 12.0), ("warm_up_s", 0.5)), ("bench", "--runs=1")),
    Conditions(load=0.5, thermal_status=1, charging=True),
    facts=(("device", "box"),),
)
MEASUREMENT = Measurement(
    *("cd" * 32, "platform", "ef" * 32, (Pass((0.8, 0.9), (1.4,)), Pass((0.7,), (1.5, 1.3), calm=False)), RECIPE),
    peak_memory_bytes=4096,
    processes=(ProcessSummary(3, 1.0, 0.5, 0.75, 1.0, 0.1, median_ms=0.7),),
    operator_times=(OperatorTime("conv", "xnnpack", (1.0, 2.0)),),
)
BODIES: dict[type, object] = EXAMPLES | {
    ResultBatch: ResultBatch(
        (Result(1, 2, 3, 0, MEASUREMENT), Result(1, 2, 4, 1, failure=Failure("crashed", "it did")))
    ),
    LeaseRequest: LeaseRequest("agent", "platform", 50),
    Heartbeat: Heartbeat(7),
    JobSelection: JobSelection(job_ids=(1, 2), kinds=("crashed",)),
    Platform: Platform(Device("box", "desktop", "soc", 2), "litert", "2.3.0"),
}


def outcome(read: Any, data: Any) -> str:
    """Return what comes of reading data; of equal values, a whole number and a float are told apart."""
    try:
        return repr(read(data))
    except InvalidInput as error:
        return f"{error.field}: {error!r} ({error.remedy})"


def spoilt(data: Any) -> Iterator[Any]:
    """Yield data with an odd value in each place in turn, without each field, and with one too many."""
    yield from ODD
    if isinstance(data, list):
        for place, item in enumerate(data):
            yield from ([*data[:place], other, *data[place + 1 :]] for other in spoilt(item))
            yield [*data, item]
    if isinstance(data, dict):
        yield data | {"unknown": 1}
        for name, item in data.items():
            yield {key: value for key, value in data.items() if key != name}
            yield from (data | {name: other} for other in spoilt(item))


@pytest.mark.parametrize("cls", BODIES, ids=lambda cls: cls.__name__)
def test_reads_as_the_codec_does(cls: type) -> None:
    read: Any = reading.reader(cls)
    data = json.loads(json.dumps(to_json(BODIES[cls])))
    for given in (data, *spoilt(data)):
        assert outcome(read, given) == outcome(lambda sent: from_json(cls, sent), given), given


@pytest.mark.parametrize("cls", [ResultBatch, Result, LeaseRequest, Heartbeat])
def test_what_is_well_formed_needs_no_codec(cls: type, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the codec was asked")

    monkeypatch.setattr(reading, "from_json", refuse)
    value = BODIES[cls]
    assert reading.reader(cls)(json.loads(json.dumps(to_json(value)))) == value
