"""Compression that meets a latency budget: what is cheap first, then what is searched for, and nothing untested.

Precision first; then candidates for every coupled group of channels and layer, priced in one call; an exact solver for
several budgets; the best few measured beside the network as it is and beside plans that other ways propose; the prices
set right and solved again; the best trained with the network as it is for a teacher, written, and measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from leti.client import LatencyClient
from leti.compression.budgets import Budget
from leti.compression.results import Candidate, Compression
from leti.compression.steps.answering import Judged, files, is_over, measured_files, said_of_rival
from leti.compression.steps.asking import METHODS, Asked, Method, for_one_sample
from leti.compression.steps.baseline import baseline
from leti.compression.steps.layers import layers
from leti.compression.steps.planning import Plans, planned
from leti.compression.steps.precision import First, Quantised, precision_first
from leti.compression.steps.run import Progress, Run
from leti.compression.steps.searching import Search, Searched
from leti.compression.steps.training import TWO_STAGES, Trained, trained, trained_in_stages, trained_longer
from leti.compression.steps.work import Work
from leti.compression.targets import Target, target_of
from leti.compression.training.comparing import paired
from leti.compression.training.data import Data
from leti.compression.training.fine_tuning import Recipe
from leti.core.patches import Patch
from leti.generator.importers import Imported, import_model


def compress(
    model: Imported | Path | str,
    *,
    platform: Target | str,
    budget: Budget,
    data: Data | None = None,
    max_drop: float = 0.005,
    methods: Sequence[Method] = METHODS,
    client: LatencyClient | None = None,
    out: Path | str | None = None,
    seed: int = 0,
    recipe: Recipe | None = None,
    rivals: Sequence[str] = ("macs", "uniform", "nsga2", "tpe"),
    evaluations: int = 300,
    held_out: int = 10,
    progress: Progress | None = None,
) -> Compression:
    """Return the best network that keeps a latency budget, with all that was found on the way.

    ``model`` is a network with weights, or a .keras, .onnx, .pt2 or .tflite file. ``platform`` is one of a service,
    which the ``client`` reaches, or any other target. ``max_drop`` is the share of accuracy that may be lost. Without
    ``data``, weights tell what a change harms, nothing is trained, and accuracy is not known. ``recipe`` is how the
    best plan and its ``rivals`` are fine-tuned, ``evaluations`` what each searching rival looks at, and ``held_out``
    how many networks more are measured to judge predictions by. With ``out``, the answer is written there, and the
    product of every step below it: a run that was broken off goes on where it was.

    Raises :class:`~leti.core.errors.InvalidInput` naming the argument that is wrong, and
    :class:`~leti.core.errors.MeasurementFailed` where the platform cannot measure.
    """
    imported = model if isinstance(model, Imported) else import_model(Path(model), weights=True)
    imported.loaded_weights()
    network = for_one_sample(imported)
    asked = Asked(
        network=network,
        target=target_of(platform, client, network.graph),
        budget=budget,
        data=data,
        max_drop=max_drop,
        methods=tuple(methods),
        recipe=recipe or Recipe(epochs=8, seed=seed),
        rivals=tuple(rivals),
        evaluations=evaluations,
        held_out=held_out,
        seed=seed,
    )
    work = Work(None if out is None else Path(out) / "work")
    run = Run(asked, work, progress or (lambda _step, _done, _total: None), asked.identity())
    found = _Compressing(run).compression()
    if out is not None:
        found.save(Path(out))
    return found


class _Compressing:
    """The steps of one compression."""

    def __init__(self, run: Run) -> None:
        self._run, self._asked = run, run.asked
        if run.asked.data is None:
            run.notes.append(
                "There are no data: weights tell what a change harms, nothing is trained, and accuracy is unknown."
            )
        self._baseline = baseline(run)
        self._baseline_ms = run.baseline_ms()
        self._budget_ms = run.asked.budget.of(self._baseline_ms)
        self._right = None if run.asked.data is None else run.right("baseline", run.asked.network)

    def compression(self) -> Compression:
        """Return the answer."""
        run, asked = self._run, self._asked
        if self._baseline_ms <= self._budget_ms:
            run.notes.append("The network keeps the budget as it is: nothing is changed.")
            content = run.baseline_subject().content
            made = Trained(self._baseline, asked.network, content, asked.network.graph, self._right)
            return self._answer(made, First("float32"), None, None, ())
        first = precision_first(run, self._baseline.accuracy, self._budget_ms)
        if first.met is not None:
            run.notes.append("Precision alone meets the budget and the tolerance: nothing is taken away.")
            return self._answer(self._by_precision(first.met, first), first, None, None, ())
        dense_ms = self._baseline_ms if first.plain is None or first.precision == "float32" else first.plain.latency_ms
        plans = planned(run, first.precision, max(dense_ms / self._budget_ms, 1.0))
        searched = Search(run, plans.problem, dense_ms=dense_ms, budget_ms=self._budget_ms).searched()
        if not searched.is_feasible:
            run.notes.append(self._what_it_takes(searched))
            fastest = [trained(run, plan, first.precision, epochs=asked.recipe.epochs) for plan in searched.plans[:1]]
            return self._answer(fastest[0] if fastest else None, first, plans, searched, ())
        best = self._best(searched.plans[0], first)
        if is_over(run, best, self._budget_ms) and len(searched.plans) > 1:
            run.notes.append("The file takes more than the plan did: the next plan that keeps the budget is taken.")
            best = self._best(min(searched.plans[1:], key=lambda plan: plan.predicted_ms), first)
        rivals = [trained(run, rival, first.precision, epochs=asked.recipe.epochs) for rival in searched.rivals]
        return self._answer(best, first, plans, searched, rivals)

    def _best(self, plan: Candidate, first: First) -> Trained:
        """Return the network of the best plan, trained in stages where much is cut, and longer where much is lost."""
        run, asked = self._run, self._asked
        best = trained(run, plan, first.precision, epochs=asked.recipe.epochs)
        if self._baseline_ms / self._budget_ms > TWO_STAGES:
            best = trained_in_stages(run, best, first.precision)
        if self._drop(best) > asked.max_drop:
            best = trained_longer(run, best, first.precision)
        return best

    def _drop(self, network: Trained) -> float:
        if self._right is None or network.right is None:
            return 0.0
        return float(self._right.mean() - network.right.mean())

    def _by_precision(self, found: Quantised, first: First) -> Trained:
        candidate = Candidate(
            planner="precision",
            patch=Patch(precision=first.precision),
            budget_ms=self._budget_ms,
            macs=found.graph.macs,
            params=found.graph.params,
            predicted_ms=found.latency_ms,
            high_ms=found.latency_ms,
            reading=found.reading,
            accuracy=found.accuracy,
            size_bytes=len(found.content),
        )
        return Trained(candidate, found.source, found.content, found.graph, found.right, found.how, found.kept)

    def _what_it_takes(self, searched: Searched) -> str:
        """Say what would have to be given for a budget that no plan keeps."""
        left = [method for method in METHODS if method not in self._asked.methods]
        more = f" Methods that were not allowed: {', '.join(left)}." if left else ""
        fixed_ms = float(searched.problem.fixed.latency_ms)
        return (
            f"No plan keeps {self._budget_ms:.4g} ms: the fastest takes {searched.reachable_ms:.4g} ms, a speed-up of "
            f"{self._baseline_ms / searched.reachable_ms:.2f}, of {fixed_ms:.4g} ms unchanged.{more}"
        )

    def _answer(
        self,
        best: Trained | None,
        first: First,
        plans: Plans | None,
        searched: Searched | None,
        rivals: Sequence[Trained],
    ) -> Compression:
        run, asked = self._run, self._asked
        made = [] if best is None else [best, *rivals]
        measured = measured_files(run, made) if made else ()
        judged = self._judged(best, measured, first, searched)
        written = {} if best is None else files(run, best, first.precision)
        run.notes.extend(map(said_of_rival, measured[1:]))
        run.notes.append(judged.summary())
        calibration = None if searched is None else searched.calibration
        patch = measured[0].patch if measured else Patch()
        before = asked.target.prices["float32"]
        after = asked.target.prices.get(first.precision, before)  # which knows no kernels of another precision
        if plans is not None:
            before = after = plans.prices
        return Compression(
            platform=asked.target.name,
            verdict=judged.verdict(),
            summary=judged.summary(),
            budget_ms=self._budget_ms,
            reachable_ms=judged.reachable_ms,
            max_drop=asked.max_drop,
            baseline=replace(self._baseline, budget_ms=self._budget_ms),
            best=measured[0] if measured else None,
            front=() if searched is None else searched.front,
            rivals=measured[1:],
            rounds=() if searched is None else searched.rounds,
            layers=layers(asked.network, patch, before, after, 1.0 if calibration is None else calibration.factor),
            comparison=None if best is None or self._right is None else paired(self._right, best.right),
            held_out=None if searched is None else searched.held_out,
            notes=tuple(run.notes),
            seconds=dict(run.work.seconds),
            models=written,
        )

    def _judged(
        self, best: Trained | None, measured: Sequence[Candidate], first: First, searched: Searched | None
    ) -> Judged:
        reading = measured[0].reading if measured else None
        latency_ms = None if reading is None else reading.latency_ms
        reachable_ms = latency_ms or (measured[0].predicted_ms if measured else self._baseline_ms)
        return Judged(
            latency_ms=latency_ms,
            budget_ms=self._budget_ms,
            drop=None if best is None or self._right is None else self._drop(best),
            max_drop=self._asked.max_drop,
            by_precision=first.met is not None,
            is_feasible=searched is None or searched.is_feasible,
            reachable_ms=reachable_ms if searched is None else searched.reachable_ms,
        )
