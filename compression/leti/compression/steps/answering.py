"""The answer: what became of it all, in files and figures, and a verdict that only measurements give."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Final, final

from leti.compression.measuring.meter import Subject
from leti.compression.quantizing.recipes import QuantizationRecipe
from leti.compression.results import Candidate, Verdict
from leti.compression.steps.baseline import CLOSE, deviation, samples_of
from leti.compression.steps.precision import BACKENDS, quantized_file
from leti.compression.steps.run import Run, float_file
from leti.compression.steps.training import Trained
from leti.compression.steps.work import BYTES
from leti.core.device import ModelFormat, ModelPrecision
from leti.core.errors import InvalidGraph, InvalidInput, TaskFailed
from leti.generator.export.formats import WRITERS

_FINAL: Final = "what was made"


@final
@dataclass(frozen=True, slots=True)
class Judged:
    """What is to be held against the budget and the tolerance; what is not known is ``None``."""

    latency_ms: float | None
    budget_ms: float
    drop: float | None
    max_drop: float
    by_precision: bool = False
    is_feasible: bool = True
    reachable_ms: float = 0.0

    def verdict(self) -> Verdict:
        """Return the verdict: nothing is met that was not measured."""
        if not self.is_feasible:
            return "infeasible"
        if self.latency_ms is None:
            return "not measured"
        if self.latency_ms > self.budget_ms:
            return "missed"
        if self.drop is not None and self.drop > self.max_drop:
            return "too much is lost"
        return "met by precision" if self.by_precision else "met"

    def summary(self) -> str:
        """Return the verdict in a sentence or two, with figures."""
        return _SUMMARIES[self.verdict()](self) + self._accuracy()

    def _accuracy(self) -> str:
        if not self.is_feasible:
            return ""
        if self.drop is None:
            return " Accuracy is not known: there are no data to judge by."
        lost = f"{abs(self.drop) * 100:.2f} points of accuracy"
        return f" It {'loses' if self.drop > 0 else 'gains'} {lost}, where {self.max_drop * 100:.2g} may be lost."


def _within(judged: Judged) -> str:
    assert judged.latency_ms is not None  # noqa: S101 - it was measured
    return (
        f"Takes {judged.latency_ms:.4g} ms measured, {judged.latency_ms / judged.budget_ms:.1%} of the budget of "
        f"{judged.budget_ms:.4g} ms."
    )


def _missed(judged: Judged) -> str:
    assert judged.latency_ms is not None  # noqa: S101 - it was measured
    over_ms = judged.latency_ms - judged.budget_ms
    return (
        f"Takes {judged.latency_ms:.4g} ms measured, {over_ms:.3g} ms ({over_ms / judged.budget_ms:.1%}) more than the "
        f"budget of {judged.budget_ms:.4g} ms."
    )


def _infeasible(judged: Judged) -> str:
    return (
        f"No plan keeps {judged.budget_ms:.4g} ms: the least that can be reached is {judged.reachable_ms:.4g} ms, "
        f"{judged.reachable_ms / judged.budget_ms:.2f} times the budget."
    )


def _not_measured(judged: Judged) -> str:
    return f"Is predicted to keep the budget of {judged.budget_ms:.4g} ms; nothing was measured, as there is no meter."


_SUMMARIES: Final[Mapping[Verdict, Callable[[Judged], str]]] = MappingProxyType(
    {
        "met": _within,
        "met by precision": _within,
        "missed": _missed,
        "too much is lost": _within,
        "infeasible": _infeasible,
        "not measured": _not_measured,
    }
)


def is_over(run: Run, network: Trained, budget_ms: float) -> bool:
    """Return whether a network's file is measured to take more than the budget."""
    readings = run.measured("export", [Subject(network.graph, network.content)], occasion=_FINAL)
    return readings is not None and readings[0].latency_ms > budget_ms


def measured_files(run: Run, networks: Sequence[Trained]) -> tuple[Candidate, ...]:
    """Return the candidates of networks with the readings of their files, measured together; as they are, if not."""
    candidates = [network.candidate for network in networks]
    run.tell("export", 0, 1)
    readings = run.measured("export", [Subject(n.graph, n.content) for n in networks], occasion=_FINAL)
    run.tell("export", 1, 1)
    if readings is None:
        return tuple(candidates)
    return tuple(replace(c, reading=reading) for c, reading in zip(candidates, readings, strict=True))


def said_of_rival(rival: Candidate) -> str:
    """Return what became of a rival's plan in a sentence."""
    taken = f"is predicted to take {rival.predicted_ms:.4g} ms"
    if rival.reading is not None:
        is_within = rival.reading.latency_ms <= rival.budget_ms
        taken = f"takes {rival.reading.latency_ms:.4g} ms measured, {'within' if is_within else 'over'} the budget"
    judged = "" if rival.accuracy is None else f", and gets {rival.accuracy:.2%} right"
    return f"The plan by {rival.planner} {taken}{judged}."


def files(run: Run, network: Trained, precision: ModelPrecision) -> dict[ModelFormat, bytes]:
    """Return a network as the files of all formats that can say it, each held against the network.

    Raises :class:`~leti.core.errors.TaskFailed` where a float32 file computes something else.
    """
    source, made = network.network, dict[ModelFormat, bytes]()
    key = [run.identity, hashlib.sha256(network.content).hexdigest(), precision]
    for model_format in WRITERS:
        is_float = precision == "float32" or model_format not in BACKENDS
        try:
            content = run.work.kept(
                "export", model_format, key, BYTES, partial(_file, run, network, model_format, precision, is_float)
            )
            off = deviation(content, model_format, source, samples_of(run.asked))
        except (InvalidGraph, InvalidInput) as error:
            run.notes.append(f"There is no .{model_format} file: {error}.")
            continue
        if is_float and off > CLOSE:
            raise TaskFailed(f"the .{model_format} file computes something else: {off:.1%} of the largest output")
        made[model_format] = content
        stored = "float32" if is_float else precision
        run.notes.append(f"The .{model_format} file, in {stored}, is within {off:.2g} of the network's largest output.")
    return made


def _file(run: Run, network: Trained, model_format: ModelFormat, precision: ModelPrecision, is_float: bool) -> bytes:
    if model_format == run.asked.target.model_format:
        return network.content
    if is_float:
        return float_file(network.network, model_format)
    recipe = QuantizationRecipe("static" if precision == "full_integer" else "dynamic", kept=network.kept)
    return quantized_file(run, network.network, recipe, model_format)
