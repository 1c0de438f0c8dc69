"""A meter at hand: networks are measured on a bench, whose reference network is the baseline itself."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Final, final

from typing_extensions import override

from leti.compression.measuring.medians import median_interval
from leti.compression.measuring.meter import Meter, Progress, Reading, Subject
from leti.core.errors import DeviceFault, InvalidInput, LetiError, MeasurementFailed
from leti.core.measurement import Pass, calm_passes, ratio, reference_ms
from leti.device_agents.bench import Bench, Finding, Wanted

log = logging.getLogger(__name__)

BATCH: Final = 8
"""Networks measured together beside the baseline: as many as an agent leases at a time unless it is told otherwise."""


@final
class BenchMeter(Meter):
    """Measures on ``bench``, which times the baseline before and after every turn of a network, in shuffled order.

    More subjects than ``batch`` are measured in several batches of about one size, each with the baseline. A ratio is
    the median over a network's calm passes, with the interval of :func:`~leti.compression.measuring.medians
    .median_interval`. The baseline's latency is pooled over its calm passes in all batches of a call. Files that are
    not there are written with random weights, in the format that the bench loads and the precision of their graphs.
    """

    takes_files = True

    def __init__(self, bench: Bench, *, batch: int = BATCH) -> None:
        if batch < 1:
            raise InvalidInput(f"must be 1 or more, not {batch}", field="batch")
        self._bench = bench
        self._batch = batch

    @override
    def measure(
        self, baseline: Subject, subjects: Sequence[Subject], *, progress: Progress | None = None
    ) -> tuple[Reading, ...]:
        reference = self._file(baseline, "baseline")
        passes: list[Pass] = []
        found: list[Finding] = []
        for start, stop in self._batches(len(subjects)):
            wanted = [(f"subjects[{i}]", subjects[i]) for i in range(start, stop)] or [("baseline", baseline)]
            findings = self._together(reference, wanted)
            passes += [each for finding in findings for each in finding.passes]
            found += findings[: stop - start]
            if progress is not None:
                progress(len(found) + 1, len(subjects) + 1)
        latency_ms = reference_ms(passes)
        return (Reading(latency_ms, 1.0, 1.0, 1.0), *(_reading(finding, latency_ms) for finding in found))

    def _batches(self, count: int) -> Iterator[tuple[int, int]]:
        """Yield where each batch starts and ends; one without subjects where there are none."""
        batches = max(math.ceil(count / self._batch), 1)
        for number in range(batches):
            yield number * count // batches, (number + 1) * count // batches

    def _together(self, reference: bytes, wanted: Sequence[tuple[str, Subject]]) -> list[Finding]:
        """Return what is found of subjects, by their names, in turns with the baseline."""
        files = [Wanted(self._file(subject, name)) for name, subject in wanted]
        try:
            outcomes = self._bench.measure(files, reference, keep_going=lambda: True, waiting=_wait)
        except MeasurementFailed as error:
            if isinstance(error, DeviceFault):
                raise
            raise _failed(error, "baseline") from error
        assert outcomes is not None  # noqa: S101 - nobody said no
        findings: list[Finding] = []
        for (name, _), outcome in zip(wanted, outcomes, strict=True):
            if not isinstance(outcome, Finding):
                raise _failed(outcome, name) from outcome
            findings.append(outcome)
        return findings

    def _file(self, subject: Subject, name: str) -> bytes:
        """Return a subject's model file, written with random weights where it has none."""
        if subject.content:
            return subject.content
        from leti.generator.export.formats import export_model

        try:
            return export_model(subject.graph, self._bench.model_format)
        except InvalidInput as error:
            raise _failed(error, name, "unsupported") from error


def _reading(finding: Finding, baseline_ms: float) -> Reading:
    measured = ratio(finding.passes)
    calm = [each.ratio for each in calm_passes(finding.passes)]
    return Reading(measured * baseline_ms, measured, *median_interval(calm), noisy=finding.noisy)


def _failed(error: LetiError, name: str, failure: str = "other") -> MeasurementFailed:
    """Return the error of a subject as one that names it."""
    message = error.message if isinstance(error, MeasurementFailed) else str(error)
    return MeasurementFailed(message, field=name, failure=str(error.details.get("failure", failure)))


def _wait(reason: str) -> None:
    log.info("waiting: %s", reason or "no longer")
