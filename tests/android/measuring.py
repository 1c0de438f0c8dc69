"""What the tests of the Android bench ask of it, in a word."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from phone import Phone

from leti.core.errors import DeviceFault, MeasurementFailed
from leti.device_agents.android.bench import AndroidBench
from leti.device_agents.bench import Finding, Outcome, Wanted


def outcomes(
    bench: AndroidBench,
    *models: bytes,
    reference: bytes,
    waiting: Callable[[str], None] = lambda reason: None,
    profile: bool = False,
) -> list[Outcome]:
    """Return what became of ``models``, measured beside ``reference``."""
    wanted = [Wanted(model, profile) for model in models]
    found = bench.measure(wanted, reference, keep_going=lambda: True, waiting=waiting)
    assert found is not None
    assert len(found) == len(models)
    return list(found)


def finding(outcome: Outcome) -> Finding:
    """Return an outcome that must be a finding."""
    assert isinstance(outcome, Finding), repr(outcome)
    return outcome


def failure(outcome: Outcome) -> str:
    """Return the kind of a failure that is the model's own."""
    assert isinstance(outcome, MeasurementFailed), repr(outcome)
    assert not isinstance(outcome, DeviceFault), repr(outcome)
    return str(outcome.details["failure"])


def facts(outcome: Outcome) -> dict[str, str]:
    """Return the facts of a finding's recipe."""
    return dict(finding(outcome).recipe.facts)


def fault_of(raised: pytest.ExceptionInfo[DeviceFault]) -> tuple[str, str]:
    """Return the kind that travels and the name of a fault, once it is sure that it says what helps."""
    assert raised.value.remedy
    return str(raised.value.details["failure"]), str(raised.value.details["fault"])


def variant(model: bytes, number: int) -> bytes:
    """Return a model that is equal but for its hash: what stands behind a flatbuffer is not read."""
    return model + bytes(4 * number)


def untouched(phone: Phone) -> None:
    """Check that nothing was left on a phone: no file, no process, no changed setting."""
    assert phone.files() == []
    assert phone.processes() == []
    assert phone.read("settings/global/stay_on_while_plugged_in") == "0"
