"""A run of a compression: what it was asked, where its products are kept, what it says, and how it measures."""

from __future__ import annotations

import hashlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, final

from leti.compression.measuring.meter import Reading, Subject
from leti.compression.scores import content_hash
from leti.compression.steps.asking import Asked
from leti.compression.steps.work import ARRAYS, NETWORK, Work, digest, json_form
from leti.compression.training.comparing import correct
from leti.compression.training.distilling import Teacher
from leti.compression.training.executing import NO_TAPS, Network, Taps
from leti.compression.training.fine_tuning import Epoch, fine_tune
from leti.core.device import ModelFormat
from leti.core.errors import InvalidInput
from leti.core.patches import Patch
from leti.generator.export.formats import WRITERS
from leti.generator.importers import Imported

Step = Literal["baseline", "precision", "prices", "sensitivity", "plans", "measuring", "training", "export"]
"""The parts of a compression, in order."""

Progress = Callable[[Step, int, int], None]
"""Told a step, how much of it is done, and of how much."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One compression on its way. ``notes`` say in a sentence each what was decided and why."""

    asked: Asked
    work: Work
    tell: Progress
    identity: str = ""
    notes: list[str] = field(default_factory=list)

    def measured(self, step: Step, subjects: Sequence[Subject], *, occasion: str = "") -> tuple[Reading, ...] | None:
        """Return readings of networks, in order, or ``None`` without a meter.

        Latencies are ratios times the baseline's latency as it was measured first, so that all of a run can be
        compared. The ``occasion`` tells measurements of the same networks apart.
        """
        if self.asked.target.meter is None:
            return None
        baseline_ms = self.baseline_ms()
        found = self._readings(step, subjects, occasion)
        return tuple(replace(reading, latency_ms=reading.ratio * baseline_ms) for reading in found[1:])

    def baseline_ms(self) -> float:
        """Return the latency of the network as it is: measured, or predicted where there is no meter."""
        if self.asked.target.meter is None:
            costs = self.asked.target.prices["float32"].price(self.asked.network.graph, [Patch()])
            return float(costs.latency_ms[0])
        return self._readings("baseline", ())[0].latency_ms

    def baseline_reading(self) -> Reading | None:
        """Return what the network as it is took, where there is a meter."""
        return None if self.asked.target.meter is None else self._readings("baseline", ())[0]

    def baseline_subject(self) -> Subject:
        """Return the network as it is, for the meter."""
        return Subject(self.asked.network.graph, self.file(self.asked.network))

    def file(self, network: Imported) -> bytes:
        """Return a float32 network as a file of the format that the target loads."""
        return float_file(network, self.asked.target.model_format)

    def right(self, step: Step, network: Imported) -> Any:
        """Return of each sample that judges with whether a network names its class; there must be data."""
        data = self.asked.data
        assert data is not None  # noqa: S101 - who asks has data
        key = content_hash(network)
        found = self.work.kept(step, "right", [self.identity, key], ARRAYS, lambda: {"right": correct(network, data)})
        return found["right"]

    def tuned(
        self,
        network: Imported,
        *,
        name: str = "",
        epochs: int,
        rate: float = 1.0,
        prepare: Callable[[Network], None] | None = None,
        taps: Taps = NO_TAPS,
    ) -> Imported:
        """Return a network trained on with the baseline as its teacher, over so many epochs.

        ``prepare`` and ``taps`` are those of :func:`~leti.compression.training.fine_tuning.fine_tune`; the ``name``
        says what they do.
        """
        asked = self.asked
        if asked.data is None:
            raise InvalidInput("is missing, to train with", field="data")
        data = asked.data
        recipe = replace(asked.recipe, epochs=epochs, learning_rate=asked.recipe.learning_rate * rate)
        key = [self.identity, content_hash(network), recipe, name]
        checkpoint = self.work.path(f"checkpoint-{digest(key)}.npz")

        def told(epoch: Epoch) -> None:
            self.tell("training", epoch.done, epoch.epochs)

        def train() -> Imported:
            teacher = Teacher(asked.network)
            return fine_tune(
                network,
                data,
                teacher=teacher,
                recipe=recipe,
                taps=taps,
                prepare=prepare,
                progress=told,
                checkpoint=checkpoint,
            )

        made = self.work.kept("training", "tuned", key, NETWORK, train)
        if checkpoint is not None:
            checkpoint.unlink(missing_ok=True)
        return made

    def _readings(self, step: Step, subjects: Sequence[Subject], occasion: str = "") -> tuple[Reading, ...]:
        meter = self.asked.target.meter
        assert meter is not None  # noqa: S101 - who asks has one
        names = [[s.graph.fingerprint(), hashlib.sha256(s.content).hexdigest()] for s in subjects]
        found: tuple[Reading, ...] = self.work.kept(
            step,
            "measured",
            [self.identity, names, occasion],
            json_form(tuple[Reading, ...]),
            lambda: meter.measure(
                self.baseline_subject(), subjects, progress=lambda done, of: self.tell(step, done, of)
            ),
        )
        return found


def float_file(network: Imported, model_format: ModelFormat) -> bytes:
    """Return a float32 network with its weights as a file."""
    written: bytes = pkgutil.resolve_name(WRITERS[model_format])(network.graph, weights=network.loaded_weights())
    return written
