"""Precision first: int8 costs nothing to try, and often is enough; what it loses may be won back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, final

from leti.compression.measuring.meter import Reading, Subject
from leti.compression.quantizing.backends import Backend, quantize_model
from leti.compression.quantizing.equalizing import corrected, equalized
from leti.compression.quantizing.mixed import sensitivities
from leti.compression.quantizing.recipes import Method as Quantization
from leti.compression.quantizing.recipes import QuantizationRecipe
from leti.compression.quantizing.training_aware import rounded, rounded_activations
from leti.compression.quantizing.weights import quantized_weights, weighted
from leti.compression.scores import content_hash
from leti.compression.searching.candidates import Costs, Group, Problem
from leti.compression.searching.harming import divergence
from leti.compression.searching.solver import solve
from leti.compression.steps.baseline import right_in_file
from leti.compression.steps.run import Run
from leti.compression.steps.work import BYTES
from leti.compression.training.executing import Network
from leti.core.device import ModelFormat, ModelPrecision
from leti.core.extras import needs
from leti.core.graph import Graph
from leti.core.patches import Patch
from leti.generator.importers import Imported
from leti.generator.precision import quantized

with needs("compression"):
    import numpy as np
    import torch
    from torch.nn.utils import parametrize

_BITS: Final = 8
_ROUNDED: Final[Mapping[str, int | None]] = {"transpose_conv2d": None}  # where a filter's scales lie; else first
_SCORED: Final = 256  # samples that sensitivities are found on


@final
@dataclass(frozen=True, slots=True, eq=False)
class Quantised:
    """A file in whole numbers of 8 bits: of which float32 network, what runs, what it takes, and what it gets right.

    ``latency_ms`` is measured where there is a ``reading``, else predicted. ``kept`` operators stay in float32.
    """

    how: str
    source: Imported
    content: bytes
    graph: Graph
    latency_ms: float
    reading: Reading | None
    right: Any
    kept: tuple[int, ...] = ()

    @property
    def accuracy(self) -> float | None:
        """The share of samples whose class it names; ``None`` without data."""
        return None if self.right is None else float(self.right.mean())


@final
@dataclass(frozen=True, slots=True, eq=False)
class First:
    """What precision alone comes to: ``met`` where it is enough, and the precision to search under where it is not.

    ``plain`` is the unchanged network in whole numbers.
    """

    precision: ModelPrecision
    met: Quantised | None = None
    plain: Quantised | None = None


def precision_first(run: Run, accuracy: float | None, budget_ms: float) -> First:
    """Return whether whole numbers of 8 bits meet the budget and the tolerance, and how; what to search under if not.

    ``accuracy`` is the network's in float32.
    """
    asked = run.asked
    precision: ModelPrecision = "dynamic_range" if asked.data is None else "full_integer"
    if "quantize" not in asked.methods:
        return First("float32")
    has_prices, takes_files = precision in asked.target.prices, asked.target.meter and asked.target.meter.takes_files
    if asked.target.model_format not in BACKENDS or not (has_prices or takes_files):
        run.notes.append(f"{asked.target.name} knows no {precision}: the search is in float32.")
        return First("float32")
    run.tell("precision", 0, 1)
    plain = quantised(run, f"{precision} as it is", asked.network, precision)
    is_fast, is_right = plain.latency_ms <= budget_ms, _is_right(run, plain, accuracy)
    _tell(run, plain, budget_ms)
    if is_fast and is_right:
        return First(precision, plain, plain)
    if is_fast:
        for number, remedy in enumerate(REMEDIES, 1):
            run.tell("precision", number, len(REMEDIES) + 1)
            found = remedy(run, plain, budget_ms)
            _tell(run, found, budget_ms)
            if found.latency_ms <= budget_ms and _is_right(run, found, accuracy):
                return First(precision, found, plain)
        run.notes.append("Precision alone loses too much whatever is done: the search is in float32.")
        return First("float32", plain=plain)
    is_gain = is_right and plain.latency_ms < run.baseline_ms()
    if is_gain and has_prices:
        run.notes.append(f"{precision} alone misses the budget, is faster and accurate enough: the search is under it.")
        return First(precision, plain=plain)
    why = "has no prices here" if is_gain else "is no gain"
    run.notes.append(f"{precision} alone misses the budget and {why}: the search is in float32.")
    return First("float32", plain=plain)


def quantised(
    run: Run,
    how: str,
    source: Imported,
    precision: ModelPrecision,
    kept: tuple[int, ...] = (),
    *,
    backend: Backend | None = None,
    measure: bool = True,
) -> Quantised:
    """Return a float32 network in a precision: its file, measured and judged as far as that can be.

    The ``backend`` is the usual one of the format unless it is named. One that shall not be measured has the latency 0.
    """
    asked = run.asked
    method: Quantization = "static" if precision == "full_integer" else "dynamic"
    recipe = QuantizationRecipe(method, kept=kept)

    def written() -> bytes:
        return quantized_file(run, source, recipe, asked.target.model_format, backend)

    key = [run.identity, content_hash(source), recipe, backend]
    content = run.work.kept("precision", "quantised", key, BYTES, written)
    graph = quantized(source.graph, precision, kept=recipe.kept_in(source.graph)).graph
    readings = run.measured("precision", [Subject(graph, content)]) if measure else None
    reading = None if readings is None else readings[0]
    predicted = 0.0
    if reading is None and measure:
        costs = asked.target.prices[precision].price(source.graph, [Patch(precision=precision)])
        predicted = float(costs.latency_ms[0])
    return Quantised(
        how=how,
        source=source,
        content=content,
        graph=graph,
        latency_ms=predicted if reading is None else reading.latency_ms,
        reading=reading,
        right=None if asked.data is None else right_in_file(run, content, source.graph),
        kept=kept,
    )


def quantized_file(
    run: Run, source: Imported, recipe: QuantizationRecipe, model_format: ModelFormat, backend: Backend | None = None
) -> bytes:
    """Return a network as a file in fewer bits, by the quantizer of the format, or another."""
    samples = run.asked.samples() if recipe.method == "static" else ()
    return quantize_model(source, recipe, backend=backend or BACKENDS[model_format], samples=samples).content


def better_quantised(run: Run, source: Imported, precision: ModelPrecision) -> Quantised:
    """Return a network in a precision by the quantizer whose file gets more right; its latency is not asked for."""
    one = quantised(run, precision, source, precision, measure=False)
    if not _has_other_ranges(run, precision):
        return one
    other = quantised(run, precision, source, precision, backend="leti", measure=False)
    return max((one, other), key=lambda each: float(each.right.mean()))


def _has_other_ranges(run: Run, precision: ModelPrecision) -> bool:
    return precision == "full_integer" and run.asked.target.model_format == "tflite" and run.asked.data is not None


BACKENDS: Final[Mapping[ModelFormat, Backend]] = {"tflite": "litert", "onnx": "onnxruntime"}


def _is_right(run: Run, found: Quantised, accuracy: float | None) -> bool:
    if accuracy is None or found.accuracy is None:
        return True
    return accuracy - found.accuracy <= run.asked.max_drop


def _tell(run: Run, found: Quantised, budget_ms: float) -> None:
    verb = "takes" if found.reading is not None else "is predicted to take"
    kept = f" of {budget_ms:.4g} ms"
    judged = "" if found.accuracy is None else f", accuracy {found.accuracy:.2%}"
    run.notes.append(f"{found.how[:1].upper()}{found.how[1:]} {verb} {found.latency_ms:.4g}{kept}{judged}.")


# --- what wins accuracy back -----------------------------------------------------------------------------------------


def _inputs(run: Run) -> Any:
    return np.concatenate([sample for (sample,) in run.asked.samples()[:_SCORED]])


def _spanned(run: Run, plain: Quantised, budget_ms: float) -> Quantised:
    """Ranges of activations that span all samples, where LiteRT's are moving averages."""
    if not _has_other_ranges(run, "full_integer"):
        return plain
    how = "full_integer with ranges over all samples"
    return quantised(run, how, plain.source, "full_integer", backend="leti")


def _equalised(run: Run, plain: Quantised, budget_ms: float) -> Quantised:
    """Cross-layer equalisation, then biases that make up for rounded weights (Nagel et al., 2019)."""
    even = equalized(plain.source)
    changed = corrected(even, quantized_weights(even, _BITS), [_inputs(run)])
    return quantised(run, "full_integer with ranges made equal and biases corrected", changed, "full_integer")


def _mixed(run: Run, plain: Quantised, budget_ms: float) -> Quantised:
    """The operators that lose most stay in float32, as far as the budget goes (HAWQ-V3's way).

    What an operator costs in float32 is its share of the multiply-accumulates, as the two files take together.
    """
    network = run.asked.network
    numbers = weighted(network.graph)
    rows = sensitivities(network, divergence(network, _inputs(run)), bits=(_BITS,), operators=numbers)
    total = sum(network.graph.ops[number].macs for number in numbers)
    slower_ms = max(run.baseline_ms() - plain.latency_ms, 0.0)
    groups = []
    for row in rows:
        share = network.graph.ops[row.operator].macs / total
        costs = Costs.of([share * slower_ms, 0.0])
        groups.append(Group.of([Patch(), Patch()], costs, [0.0, max(row.rise, 0.0) + 1e-9]))
    problem = Problem(tuple(groups), (), Costs.of(plain.latency_ms))
    plan = solve(problem, [0.95 * budget_ms]).solved[0].plan
    kept = () if plan is None else tuple(n for n, choice in zip(numbers, plan.choices, strict=True) if choice == 0)
    return quantised(run, f"full_integer with {len(kept)} operators in float32", network, "full_integer", kept)


def _trained(run: Run, plain: Quantised, budget_ms: float) -> Quantised:
    """Quantisation-aware training: the network learns with rounded filters and activations."""
    network = run.asked.network
    epochs = max(run.asked.recipe.epochs // 2, 1)
    assert run.asked.data is not None  # noqa: S101 - ranges are static
    taps = rounded_activations(network, run.asked.data.calibrate())
    trained = run.tuned(
        network, name="rounded", epochs=epochs, rate=0.3, prepare=partial(round_filters, imported=network), taps=taps
    )
    return quantised(run, "full_integer trained as it rounds", trained, "full_integer")


def round_filters(network: Network, imported: Imported) -> None:
    """Have every filter of a network rounded to 8 bits whenever it is read; gradients pass as if it were not."""
    for trained in network.trained:
        if network.parameter(trained).ndim < 2:
            continue
        owner, _, role = trained.name.rpartition(".")
        axis = _ROUNDED.get(imported.graph.ops[trained.number].kind, 0)
        parametrize.register_parametrization(network.program.get_submodule(owner), role, _Rounded(axis))


@final
class _Rounded(torch.nn.Module):
    """Rounds what it is given."""

    def __init__(self, axis: int | None) -> None:
        super().__init__()
        self._axis = axis

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the values as numbers of 8 bits say them."""
        return rounded(values, _BITS, self._axis)


Remedy = Callable[[Run, Quantised, float], Quantised]
REMEDIES: Final[Sequence[Remedy]] = (_spanned, _equalised, _mixed, _trained)
"""What is tried, in order, where int8 is fast enough and loses too much."""
