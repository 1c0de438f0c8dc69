"""The report of a compression: one HTML file, without scripts, that asks no network for anything."""

from __future__ import annotations

import platform as host
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Final, final

from leti.compression.reporting import plots, tables, words
from leti.compression.reporting.plots import Figure
from leti.compression.reporting.tables import Table
from leti.compression.results import Compression, Verdict
from leti.core.device import ModelFormat
from leti.core.extras import needs

with needs("compression"):
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

_HERE: Final = Path(__file__).parent
_STATES: Final[dict[Verdict, str]] = {
    "met": "good", "met by precision": "good", "missed": "bad", "too much is lost": "bad", "infeasible": "bad",
    "not measured": "",
}  # fmt: skip
_LIBRARIES: Final = (
    "leti", "ai-edge-litert", "litert-quantizer", "onnxruntime", "torch", "scipy", "numpy", "optuna",
)  # fmt: skip

_INDEX_BITS: Final = 5
_MOST_SHARED: Final = 2_000_000  # parameters: more take long to share

_RUN: Final[Mapping[ModelFormat, str]] = {
    "tflite": """\
from ai_edge_litert.interpreter import Interpreter

network = Interpreter("model.tflite", num_threads=1)
network.allocate_tensors()
network.set_tensor(network.get_input_details()[0]["index"], images)
network.invoke()
logits = network.get_tensor(network.get_output_details()[0]["index"])""",
    "onnx": """\
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
(logits,) = session.run(None, {session.get_inputs()[0].name: images})""",
    "pt2": """\
import torch

logits = torch.export.load("model.pt2").module()(images)""",
}


@final
@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: sentences, figures, tables, a list of steps, code."""

    title: str
    texts: tuple[str, ...] = ()
    figures: tuple[Figure | None, ...] = ()
    tables: tuple[Table, ...] = ()
    steps: tuple[str, ...] = ()
    code: tuple[str, ...] = ()


def write_report(compression: Compression, path: Path, *, network: str = "Network", seed: int | None = None) -> None:
    """Write what a compression found as one HTML file; ``network`` is what the network is called.

    The file needs nothing but itself: plots are SVG in the page, and there is no script. Raises :class:`OSError` where
    it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(compression, network=network, seed=seed), encoding="utf-8")


def page(compression: Compression, *, network: str = "Network", seed: int | None = None) -> str:
    """Return the report as HTML; all that comes from the network or its user is escaped."""
    return (
        _environment()
        .get_template("report.html")
        .render(
            network=network,
            style=Markup((_HERE / "report.css").read_text(encoding="utf-8")),  # noqa: S704  (a file of our own)
            state=_STATES[compression.verdict],
            verdict=words.verdict(compression),
            facts=tuple(_facts(compression)),
            sections=tuple(_shown(section) for section in _sections(compression)),
            footer=_footer(seed),
        )
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _shown(section: Section) -> Section:
    """Return a section without figures and tables that hold nothing."""
    figures = tuple(figure for figure in section.figures if figure is not None)
    filled = tuple(table for table in section.tables if table.rows)
    return Section(section.title, section.texts, figures, filled, section.steps, section.code)


def _facts(compression: Compression) -> Iterator[tuple[str, str]]:
    best = compression.best
    before_ms = words.baseline_ms(compression)
    source = "measured" if compression.baseline.reading else "predicted"
    yield "Platform", compression.platform
    yield (
        "Budget",
        f"{words.latency(compression.budget_ms)}, "
        f"{words.digits(before_ms / compression.budget_ms)}× as fast as the network that was given",
    )
    yield f"Latency before ({source})", words.latency(before_ms)
    if best is not None:
        measured = words.measured_ms(best)
        yield "Latency after (measured)", "not measured" if measured is None else words.latency(measured)
        yield "Latency after (predicted)", f"{words.latency(best.predicted_ms)}, at most {words.latency(best.high_ms)}"
        if best.reading is not None:
            yield "Measured speed-up, 90 % interval", words.speedup(best)
            if not best.reading.is_interleaved:
                yield "How it was measured", "not in turns with the network that was given: the ratio is of two runs"
    yield "Accuracy", words.accuracies(compression)
    yield "Accuracy that may be lost", f"{100 * compression.max_drop:.2f} percentage points"
    yield "Least latency that any plan reaches", words.reachable(compression)


def _sections(compression: Compression) -> Iterator[Section]:
    if compression.rivals or compression.front or compression.best is not None:
        yield Section(
            "Plans, and their rivals",
            (
                "Rivals answer the same budget, but see only what their way sees: plans by multiply-accumulates and of "
                "uniform widths cut those by the factor asked of latency, or by more; evolutionary and Bayesian "
                "searches may ask as often as the exact solver. All are trained and measured alike.",
            )
            if compression.rivals
            else (),
            (plots.accuracy(compression), plots.front(compression)),
            (tables.networks(compression), tables.front(compression)),
        )
    if compression.layers:
        yield Section("Layer by layer", (), (plots.layers(compression),), (tables.layers(compression),))
    measured = tables.rounds(compression)
    if measured.rows or compression.held_out is not None:
        yield Section(
            "Predicted against measured",
            ("Sums of parts are off where networks are much compressed, and a device changes from day to day: networks "
             "that were measured set the table right for the next round.",),
            (plots.rounds(compression),),
            (measured, tables.calibrations(compression)),
        )  # fmt: skip
    if compression.notes:
        yield Section("What was decided, and why", steps=compression.notes)
    for kind, content in compression.models.items():
        yield Section(
            f"How to run model.{kind}",
            (f"{words.size(len(content))}; inputs are what the network that was given reads.",),
            code=(_RUN[kind],),
        )
    if stored := _stored(compression):
        yield Section("Smaller files", (stored,))
    if compression.seconds:
        yield Section("Time", tables=(tables.steps(compression),))


def _stored(compression: Compression) -> str:
    """Return what sharing weights and Huffman codes would come to, where they are in float32 and not too many."""
    from leti.compression.storing.clustering import clustered
    from leti.generator.importers import import_model

    best, content = compression.best, compression.models.get("tflite")
    if best is None or content is None or best.patch.precision or best.params > _MOST_SHARED:
        return ""
    record = clustered(import_model(content, weights=True), _INDEX_BITS).record
    return f"With {2**_INDEX_BITS} values for each layer, {record}. Nothing of that is in the files here."


def _footer(seed: int | None) -> str:
    found = ", ".join(f"{name} {version}" for name, version in versions().items())
    drawn = "" if seed is None else f"Seed {seed}. "
    return f"{drawn}Made with {found}, Python {host.python_version()}, on {host.machine()}."


def versions() -> dict[str, str]:
    """Return the versions of the libraries that a compression rests on, of those that are installed."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
