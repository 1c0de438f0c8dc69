"""One suite for every backend that is installed: what :mod:`leti.device_agents.backend` promises."""

from collections.abc import Callable

import pytest

from leti.core.device import Platform
from leti.core.errors import InvalidInput, MeasurementFailed, MissingExtra
from leti.device_agents.backend import Backend
from leti.device_agents.backends import BACKENDS, DEFAULT_BACKEND, backend_names, create

NAMES = backend_names()


def make(name: str, threads: int = 1) -> Backend:
    """Return the backend ``name``, or skip where what it needs is not installed."""
    try:
        return create(name, threads=threads)
    except MissingExtra as missing:
        pytest.skip(str(missing))


@pytest.fixture(params=NAMES)
def backend(request: pytest.FixtureRequest) -> Backend:
    return make(request.param)


def test_a_session_tells_how_long_loading_and_the_first_run_took(backend: Backend, models: dict[str, bytes]) -> None:
    session = backend.load(models["small"])
    assert 0 < session.init_ms < 10_000
    assert 0 < session.first_inference_ms < 10_000
    for _ in range(3):
        session.invoke()
    session.close()
    session.close()


def test_a_closed_session_does_not_run(backend: Backend, models: dict[str, bytes]) -> None:
    session = backend.load(models["small"])
    session.close()
    with pytest.raises(MeasurementFailed):
        session.invoke()


def test_sessions_do_not_disturb_each_other(backend: Backend, models: dict[str, bytes]) -> None:
    sessions = [backend.load(model) for model in (*models.values(), *models.values())]
    sessions[0].close()
    for session in sessions[1:]:
        session.invoke()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda model: b"",
        lambda model: b"no model",
        lambda model: b"\0" * len(model),
        lambda model: model[: len(model) // 2],
        lambda model: model[:200],
        lambda model: b"\x1c\0\0\0TFL3" + bytes(range(256)) * 8,
    ],
    ids=["empty", "text", "zeros", "half", "head", "noise"],
)
def test_what_is_no_model_is_a_bad_model(
    backend: Backend, models: dict[str, bytes], spoil: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(MeasurementFailed) as caught:
        backend.load(spoil(models["small"]))
    assert caught.value.details["failure"] == "bad-model"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_backend_names_itself_as_a_platform_does(name: str, threads: int) -> None:
    from leti.device_agents.desktop.host import desktop_platform

    backend = make(name, threads)
    platform = desktop_platform(backend, name="bench-1")
    assert isinstance(platform, Platform)
    assert (platform.runtime, platform.threads) == (backend.runtime, threads)
    assert platform.device.name == "bench-1"


def test_platforms_of_different_backends_are_told_apart() -> None:
    from leti.device_agents.desktop.host import desktop_platform

    assert len({desktop_platform(make(name)).id for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_backend_runs_in_one_thread_at_least(name: str) -> None:
    make(name)
    with pytest.raises(InvalidInput):
        create(name, threads=0)


@pytest.mark.parametrize("name", ["", "onnx", "leti.device_agents", "x" * 500])
def test_an_unknown_backend_is_told_what_there_is(name: str) -> None:
    with pytest.raises(InvalidInput, match=", ".join(NAMES)) as caught:
        create(name)
    assert caught.value.field == "backend"
    assert len(str(caught.value)) < 300


def test_the_default_is_built_in() -> None:
    assert NAMES[0] == DEFAULT_BACKEND == next(iter(BACKENDS))


@pytest.mark.parametrize("name", NAMES)
def test_a_larger_network_takes_longer(name: str, models: dict[str, bytes]) -> None:
    """Not a matter of noise: nine times the work, and more."""
    import random
    import time

    from leti.device_agents.timing import Protocol, measure

    backend = make(name)
    sessions = [backend.load(models["large"])]
    timings = measure(
        sessions,
        backend.load(models["small"]),
        Protocol(passes=5),
        clock_ns=time.perf_counter_ns,
        order=random.Random(0),
    )
    assert timings is not None
    assert min(p.ratio for p in timings[0].passes) > 1
