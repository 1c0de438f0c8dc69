"""What :mod:`leti.device_agents.bench` promises, as a suite that the tests of every bench inherit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import get_args

import pytest

from leti.core.codec import from_json, to_json
from leti.core.device import ModelFormat, Platform
from leti.core.errors import MeasurementFailed
from leti.core.farm import FailureKind
from leti.core.measurement import Measurement
from leti.device_agents.batch import measurement_of
from leti.device_agents.bench import Bench, Finding, Wanted

PARTS = {"candidates", "reference", "warm-up", "settle", "load", "start", "profile", "gates", "other"}


@dataclass(frozen=True)
class Files:
    """Model files for a bench: a reference, a small network, one that takes much longer, and what is no model."""

    reference: bytes
    small: bytes
    large: bytes
    bad: tuple[bytes, ...] = (b"", b"this is no model")


@dataclass
class Told:
    """What a bench asks and tells while it works; it stops when it has asked ``stop_after`` times."""

    stop_after: int = 10**9
    asked: int = 0
    reasons: list[str] = field(default_factory=list)

    def keep_going(self) -> bool:
        self.asked += 1
        return self.asked < self.stop_after


class BenchSuite:
    """Subclasses give the fixtures ``bench``, with a protocol of few passes, and ``files``."""

    @pytest.fixture
    def bench(self) -> Iterator[Bench]:
        raise NotImplementedError

    @pytest.fixture
    def files(self) -> Files:
        raise NotImplementedError

    @pytest.fixture
    def told(self) -> Told:
        return Told()

    def measure(self, bench: Bench, models: list[bytes], files: Files, told: Told, *, profile: bool = False):  # type: ignore[no-untyped-def]
        wanted = [Wanted(model, profile) for model in models]
        return bench.measure(wanted, files.reference, keep_going=told.keep_going, waiting=told.reasons.append)

    def test_a_bench_says_what_it_is(self, bench: Bench) -> None:
        assert isinstance(bench.platform, Platform)
        assert from_json(Platform, to_json(bench.platform)) == bench.platform
        assert bench.model_format in get_args(ModelFormat)

    def test_findings_come_in_order_and_make_measurements(self, bench: Bench, files: Files, told: Told) -> None:
        models = [files.large, files.small, files.reference]
        found = self.measure(bench, models, files, told)
        assert len(found) == len(models)
        for model, finding in zip(models, found, strict=True):
            assert isinstance(finding, Finding)
            assert finding.recipe.model_sha256 == hashlib.sha256(model).hexdigest()
            assert finding.recipe.runtime_version == bench.platform.runtime_version
            assert dict(finding.recipe.protocol)["passes"] >= 1
            assert finding.recipe.measured_at
            measurement = measurement_of(finding, bench.platform.id, "1" * 64, "0" * 64)
            assert from_json(Measurement, to_json(measurement)) == measurement
            assert bool(finding.processes) == (finding.grain == "process")
        assert found[0].passes[0].ratio > found[1].passes[0].ratio
        assert told.asked > 0
        assert told.reasons == []

    def test_nothing_wanted_is_nothing_found(self, bench: Bench, files: Files, told: Told) -> None:
        assert self.measure(bench, [], files, told) == ()

    def test_one_model_twice_is_two_outcomes(self, bench: Bench, files: Files, told: Told) -> None:
        found = self.measure(bench, [files.small, files.small], files, told)
        assert [type(outcome) for outcome in found] == [Finding, Finding]

    def test_a_bad_model_costs_its_own_outcome_alone(self, bench: Bench, files: Files, told: Told) -> None:
        for bad in files.bad:
            first, failure, last = self.measure(bench, [files.small, bad, files.large], files, told)
            assert isinstance(first, Finding)
            assert isinstance(failure, MeasurementFailed)
            assert failure.details["failure"] == "bad-model"
            assert failure.details["failure"] in get_args(FailureKind)
            assert isinstance(last, Finding)

    def test_a_bad_reference_is_raised(self, bench: Bench, files: Files, told: Told) -> None:
        with pytest.raises(MeasurementFailed):
            bench.measure([Wanted(files.small)], files.bad[-1], keep_going=told.keep_going, waiting=told.reasons.append)
        (found,) = self.measure(bench, [files.small], files, told)
        assert isinstance(found, Finding)

    def test_it_stops_when_told_so_and_can_go_on_later(self, bench: Bench, files: Files, told: Told) -> None:
        assert self.measure(bench, [files.small, files.large], files, Told(stop_after=1)) is None
        (found,) = self.measure(bench, [files.small], files, told)
        assert isinstance(found, Finding)

    def test_operator_times_come_where_they_are_wanted(self, bench: Bench, files: Files, told: Told) -> None:
        (plain,) = self.measure(bench, [files.small], files, told)
        assert plain.operator_times == ()
        (profiled,) = self.measure(bench, [files.small], files, told, profile=True)
        assert profiled.operator_times
        assert sum(sum(operator.times_us) for operator in profiled.operator_times) > 0

    def test_the_effort_is_accounted_for(self, bench: Bench, files: Files, told: Told) -> None:
        before: Mapping[str, float] = dict(bench.effort())
        (found,) = self.measure(bench, [files.small], files, told)
        after = bench.effort()
        assert set(after) <= PARTS
        assert all(after[part] >= before.get(part, 0) >= 0 for part in after)
        if found.grain == "invoke":
            timed_s = sum(sum(p.samples_ms) for p in found.passes) / 1000
            assert after["candidates"] - before.get("candidates", 0) == pytest.approx(timed_s)
            assert after["reference"] > before.get("reference", 0)

    def test_closing_twice_is_harmless(self, bench: Bench) -> None:
        bench.close()
        bench.close()
