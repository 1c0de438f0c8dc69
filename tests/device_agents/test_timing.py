"""How passes are taken, on a simulated machine whose clock only moves when a network runs."""

import random
import statistics
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import override

from leti.core.errors import DeviceFault, InvalidInput, MeasurementFailed
from leti.core.measurement import repeatability
from leti.device_agents.backend import Session
from leti.device_agents.timing import Clocked, Protocol, Timing, Timings, measure

PROTOCOL = Protocol()
Slowdown = Callable[[float], float]


class Machine:
    """A processor that runs ``slowdown(seconds)`` times slower than at its best, with some noise on each run."""

    def __init__(self, slowdown: Slowdown = lambda _: 1.0, *, noise: float = 0.0, seed: int = 0) -> None:
        self.now_ns = 0
        self.slowdown = slowdown
        self.noise = noise
        self.random = random.Random(seed)
        self.log: list[str] = []

    def clock_ns(self) -> int:
        return self.now_ns

    def session(self, name: str, ms: float, *, sensitivity: float = 1.0, fails_at: int | None = None) -> "Simulated":
        return Simulated(self, name, ms, sensitivity, fails_at)


class Simulated(Session):
    """A network of ``ms`` at full speed; ``sensitivity`` says how much of the machine's slowdown it feels."""

    def __init__(self, machine: Machine, name: str, ms: float, sensitivity: float, fails_at: int | None) -> None:
        self.machine, self.name, self.ms, self.sensitivity, self.fails_at = machine, name, ms, sensitivity, fails_at
        self.init_ms = self.first_inference_ms = 1.0
        self.runs = 0

    @override
    def invoke(self) -> None:
        self.runs += 1
        if self.runs == self.fails_at:
            raise MeasurementFailed("it broke", failure="crashed")
        machine = self.machine
        slowdown = 1 + (machine.slowdown(machine.now_ns / 1e9) - 1) * self.sensitivity
        ms = self.ms * slowdown * (1 + machine.noise * machine.random.expovariate(1))
        machine.now_ns += max(1, round(ms * 1e6))
        machine.log.append(self.name)

    @override
    def close(self) -> None:
        self.machine.log.append(f"{self.name} closed")


def measured(
    machine: Machine, sessions: list[Session], protocol: Protocol = PROTOCOL, **more: object
) -> Timings | None:
    reference = more.pop("reference", None) or machine.session("R", 1.2)
    return measure(
        [Clocked(session, machine.clock_ns) for session in sessions],
        Clocked(reference, machine.clock_ns),  # type: ignore[arg-type]
        protocol,
        order=random.Random(0),
        **more,  # type: ignore[arg-type]
    )


def run(machine: Machine, sessions: list[Session], protocol: Protocol = PROTOCOL, **more: object) -> tuple[Timing, ...]:
    timings = measured(machine, sessions, protocol, **more)
    assert timings is not None
    return timings.items


def ratio(timing: Timing) -> float:
    return statistics.median(p.ratio for p in timing.passes if p.calm)


@given(st.lists(st.floats(0.02, 80.0), min_size=1, max_size=6), st.floats(0.1, 20.0))
@settings(max_examples=40)
def test_on_a_steady_machine_the_ratio_is_exact(latencies_ms: list[float], reference_ms: float) -> None:
    machine = Machine()
    sessions = [machine.session(str(i), ms) for i, ms in enumerate(latencies_ms)]
    timings = run(machine, sessions, reference=machine.session("R", reference_ms))
    for timing, ms in zip(timings, latencies_ms, strict=True):
        assert len(timing.passes) == PROTOCOL.passes
        assert all(p.calm for p in timing.passes)
        assert not timing.noisy
        assert ratio(timing) == pytest.approx(ms / reference_ms, rel=1e-3)


@pytest.mark.parametrize(("ms", "invokes"), [(0.01, 15), (0.9, 15), (2.0, 8), (3.0, 5), (9.9, 2), (15.0, 1), (70.0, 1)])
def test_a_pass_fills_fifteen_milliseconds_with_one_to_fifteen_invokes(ms: float, invokes: int) -> None:
    machine = Machine()
    (timing,) = run(machine, [machine.session("A", ms)])
    assert {len(p.samples_ms) for p in timing.passes} == {invokes}


def test_the_reference_runs_before_and_after_every_turn_and_the_order_changes() -> None:
    machine = Machine()
    protocol = Protocol(passes=8)
    run(machine, [machine.session(name, 3.0) for name in "ABC"], protocol)
    turns = [name for name, previous in zip(machine.log, ["", *machine.log], strict=False) if name != previous]
    rounds = turns[turns.index("C") + 1 :]  # what comes after warm-up
    assert rounds[0::2] == ["R"] * len(rounds[0::2])
    orders = {tuple(rounds[i : i + 6][1::2]) for i in range(0, len(rounds) - 1, 6)}
    assert all(sorted(order) == ["A", "B", "C"] for order in orders)
    assert len(orders) > 2


def test_a_processor_that_changes_speed_does_not_move_the_ratio() -> None:
    """Minutes apart, 30 % slower: plain medians move by as much, ratios do not."""
    plain, ratios = [], []
    for seed, base in enumerate((1.0, 1.3, 1.0, 1.3)):
        machine = Machine(lambda _, base=base: base, noise=0.02, seed=seed)
        (timing,) = run(machine, [machine.session("A", 2.5)])
        plain.append(statistics.median(sample for p in timing.passes for sample in p.samples_ms))
        ratios.append(ratio(timing))
    assert max(plain) / min(plain) > 1.25
    assert max(ratios) / min(ratios) < 1.01


def test_passes_at_low_speed_are_measured_again() -> None:
    """A network that feels a slowdown less than the reference: only passes at full speed may be compared."""
    machine = Machine(lambda s: 1.4 if s % 0.5 < 0.25 else 1.0, noise=0.005)
    (timing,) = run(machine, [machine.session("A", 2.5, sensitivity=0.2)])
    calm = [p for p in timing.passes if p.calm]
    restless = [p for p in timing.passes if not p.calm]
    assert len(calm) >= PROTOCOL.passes
    assert restless
    assert not timing.noisy
    assert ratio(timing) == pytest.approx(2.5 / 1.2, rel=0.01)
    assert statistics.median(p.ratio for p in restless) < 0.95 * 2.5 / 1.2


def test_passes_in_which_the_network_alone_was_disturbed_are_measured_again() -> None:
    """Somebody else computes while the network runs and not while the reference does: every second time."""
    machine = Machine(noise=0.005)
    session = machine.session("A", 2.5)

    def beside(_: float) -> float:
        return 1.5 if machine.log[-1:] != ["R"] and session.runs % 14 >= 7 else 1.0

    machine.slowdown = beside
    (timing,) = run(machine, [session])
    assert sum(p.calm for p in timing.passes) >= PROTOCOL.passes
    assert not all(p.calm for p in timing.passes)
    assert ratio(timing) == pytest.approx(2.5 / 1.2, rel=0.02)


def test_repeatability_of_single_measurements_on_a_restless_machine() -> None:
    ratios: dict[str, list[float]] = {"A": [], "B": [], "C": []}
    for seed in range(6):
        chance = random.Random(seed)
        phases = [chance.choice((1.0, 1.0, 1.25)) for _ in range(4000)]
        machine = Machine(lambda s, phases=phases: phases[int(s * 7) % 4000], noise=0.03, seed=seed)
        sessions: list[Session] = [
            machine.session("A", 0.4, sensitivity=0.5),
            machine.session("B", 1.3),
            machine.session("C", 4.0, sensitivity=1.4),
        ]
        for name, timing in zip(ratios, run(machine, sessions), strict=True):
            ratios[name].append(ratio(timing))
    agreement = repeatability(list(ratios.values()))
    assert agreement is not None
    assert agreement.within["0.01"] >= 0.9
    assert agreement.within["0.05"] == 1.0


def test_a_machine_that_never_comes_to_rest_is_noisy_and_the_effort_is_bounded() -> None:
    chance = random.Random(1)
    machine = Machine(lambda _: chance.uniform(1, 3))
    protocol = Protocol(passes=6, retries=3)
    (timing,) = run(machine, [machine.session("A", 2.0)], protocol)
    assert timing.noisy
    assert len(timing.passes) == 24
    assert sum(p.calm for p in timing.passes) < 3


def test_a_network_that_has_its_calm_passes_is_left_alone() -> None:
    """Only those short of calm passes get further rounds: here, one leaves the processor slow every fourth time."""
    machine = Machine()
    heater = machine.session("heater", 2.0, sensitivity=0.0)
    quiet = machine.session("quiet", 2.0, sensitivity=0.0)

    def after_heater(_: float) -> float:
        last = next((name for name in reversed(machine.log) if name != "R"), "")
        return 2.0 if last == "heater" and heater.runs // 6 % 4 == 0 else 1.0

    machine.slowdown = after_heater
    protocol = Protocol(pass_ms=10, reference_ms=6, passes=16)  # a turn is 6 runs of either
    timings = run(machine, [heater, quiet], protocol)
    assert len(timings[0].passes) > len(timings[1].passes) >= protocol.passes
    for timing in timings:
        assert sum(p.calm for p in timing.passes) >= protocol.passes
        assert ratio(timing) == pytest.approx(2.0 / 1.2, rel=1e-3)


def test_warm_up_waits_for_a_stable_time() -> None:
    machine = Machine()

    def cold(_: float) -> float:
        return max(1.0, 20 - machine.log.count("A"))

    machine.slowdown = cold
    (timing,) = run(machine, [machine.session("A", 0.1)], Protocol(warmup_ms=1e6))
    assert max(s for p in timing.passes for s in p.samples_ms) == pytest.approx(0.1, rel=0.2)


def test_warm_up_ends_though_nothing_is_stable() -> None:
    chance = random.Random(0)
    machine = Machine(lambda _: chance.choice((1.0, 10.0)))
    sessions = [machine.session("A", 0.01)]
    run(machine, list(sessions), Protocol(passes=1, retries=0, warmup_tolerance=0.0, warmup_invokes=20))
    assert sessions[0].runs <= 20 + 11


def test_a_network_of_long_runs_is_not_settled() -> None:
    machine = Machine()
    short, long = machine.session("short", 2.0), machine.session("long", 40.0)
    run(machine, [short, long], Protocol(passes=4, retries=0, warmup_invokes=2))
    assert short.runs == 2 + 4 * (1 + 8)
    assert long.runs == 2 + 4 * 1


def test_the_effort_accounts_for_every_run() -> None:
    machine = Machine()
    timings = measured(machine, [machine.session(name, ms) for name, ms in (("A", 0.4), ("B", 3.0), ("C", 25.0))])
    assert timings is not None
    effort = timings.effort
    total_ms = effort.candidates_ms + effort.reference_ms + effort.warm_up_ms + effort.settle_ms
    assert total_ms == pytest.approx(machine.now_ns / 1e6)
    samples = [sample for timing in timings.items for p in timing.passes for sample in p.samples_ms]
    assert effort.candidates_ms == pytest.approx(sum(samples))


def test_a_device_at_fault_ends_the_batch() -> None:
    machine = Machine()

    class Unplugged(Simulated):
        @override
        def invoke(self) -> None:
            super().invoke()
            if self.runs > 20:
                raise DeviceFault("it is gone", failure="device-gone")

    with pytest.raises(DeviceFault):
        run(machine, [machine.session("A", 1.0), Unplugged(machine, "B", 1.0, 1.0, None)])


@pytest.mark.parametrize("fails_at", [1, 5, 30])
def test_a_network_that_fails_does_not_end_the_others(fails_at: int) -> None:
    machine = Machine()
    bad, good = machine.session("bad", 1.0, fails_at=fails_at), machine.session("good", 1.0)
    broken, fine = run(machine, [bad, good])
    assert broken.failure is not None
    assert broken.passes == ()
    assert fine.failure is None
    assert len(fine.passes) == PROTOCOL.passes
    assert bad.runs == fails_at


def test_all_networks_may_fail() -> None:
    machine = Machine()
    timings = run(machine, [machine.session("bad", 1.0, fails_at=1) for _ in range(2)])
    assert all(timing.failure for timing in timings)
    assert run(machine, []) == ()


def test_a_reference_that_fails_ends_it() -> None:
    machine = Machine()
    with pytest.raises(MeasurementFailed):
        run(machine, [machine.session("A", 1.0)], reference=machine.session("R", 1.0, fails_at=40))


def test_stopping_takes_effect_within_a_round() -> None:
    machine = Machine()
    sessions = [machine.session(name, 3.0) for name in "ABC"]
    timings = measured(
        machine,
        sessions,
        reference=machine.session("R", 1.0),
        keep_going=lambda: machine.log.count("R") < 30,
    )
    assert timings is None
    assert machine.log.count("R") < 45


def test_the_protocol_travels_whole() -> None:
    pairs = dict(Protocol(passes=5).pairs())
    assert pairs["passes"] == 5.0
    assert len(pairs) == len(Protocol.__dataclass_fields__)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("passes", 0),
        ("pass_ms", -1.0),
        ("drift", float("nan")),
        ("pass_invokes", 0),
        ("fast_quantile", 1.5),
        ("calm_share", 2),
    ],
)
def test_impossible_protocols_are_refused(name: str, value: float) -> None:
    with pytest.raises(InvalidInput) as caught:
        Protocol(**{name: value})  # type: ignore[arg-type]
    assert caught.value.field == name
