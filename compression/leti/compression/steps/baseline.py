"""The network as it is: whether it came through whole, what it takes, and how often it is right."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from leti.compression.quantizing.running import outputs_of_file
from leti.compression.results import Candidate
from leti.compression.steps.asking import Asked
from leti.compression.steps.run import Run
from leti.compression.steps.work import ARRAYS
from leti.compression.training.executing import outputs
from leti.core.device import ModelFormat
from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.core.graph import Graph
from leti.core.patches import Patch
from leti.generator.importers import Imported
from leti.generator.weights import Array

with needs("compression"):
    import numpy as np

CLOSE: Final = 1e-3
"""Of the largest output: how far a float32 file may be from the network that it was written of."""

_LOOKED_AT: Final = 4  # samples


def baseline(run: Run) -> Candidate:
    """Return the network as it is: measured, and judged where there are data.

    Raises :class:`~leti.core.errors.InvalidInput` where its file does not compute what it does.
    """
    asked, network = run.asked, run.asked.network
    run.tell("baseline", 0, 2)
    content = run.baseline_subject().content
    off = deviation(content, asked.target.model_format, network, samples_of(asked))
    if off > CLOSE:
        raise InvalidInput(
            f"computes something else in its file: {off:.1%} of the largest output", field="model",
            remedy="report it, with the model",
        )  # fmt: skip
    run.tell("baseline", 1, 2)
    baseline_ms = run.baseline_ms()
    reading = run.baseline_reading()
    accuracy = float(run.right("baseline", network).mean()) if asked.data is not None else None
    run.tell("baseline", 2, 2)
    said = f"{baseline_ms:.4g} ms " + ("predicted, as there is no meter" if reading is None else "measured")
    judged = "accuracy not known, as there are no data" if accuracy is None else f"accuracy {accuracy:.2%}"
    run.notes.append(f"The network as it is: {said}, {judged}; its file is within {off:.1e} of it.")
    return Candidate(
        planner="baseline",
        patch=Patch(),
        budget_ms=baseline_ms,
        macs=network.graph.macs,
        params=network.graph.params,
        predicted_ms=baseline_ms,
        high_ms=baseline_ms,
        reading=reading,
        accuracy=accuracy,
        size_bytes=len(content),
    )


def samples_of(asked: Asked) -> Array:
    """Return a few samples to compare outputs on: of the data, or drawn."""
    shape = asked.network.graph.inputs[0].shape[1:]
    if asked.data is None:
        drawn: Array = np.random.default_rng(asked.seed).standard_normal((_LOOKED_AT, *shape)).astype(np.float32)
        return drawn
    found: Array = np.ascontiguousarray(next(iter(asked.data.calibrate()))[:_LOOKED_AT])
    return found


def deviation(content: bytes, model_format: ModelFormat, network: Imported, samples: Array) -> float:
    """Return how far a file's outputs are from the network's at most, over the network's largest."""
    wanted = outputs(network, [samples])[: len(network.graph.outputs)]
    made = outputs_of_file(content, model_format, network.graph, [samples])
    return max(_apart(a, b) for a, b in zip(made, wanted, strict=True))


def _apart(made: Any, wanted: Any) -> float:
    return float(np.abs(made - wanted).max() / max(float(np.abs(wanted).max()), 1e-12))


def right_in_file(run: Run, content: bytes, source: Graph) -> Any:
    """Return of each sample that judges with whether the file of a graph, as the target loads it, names its class."""
    data, model_format = run.asked.data, run.asked.target.model_format
    assert data is not None  # noqa: S101 - who asks has data

    def judged() -> dict[str, Any]:
        found = [
            outputs_of_file(content, model_format, source, [images])[0].argmax(axis=-1) == classes
            for images, classes in data.evaluate()
        ]
        return {"right": np.concatenate(found)}

    key = [run.identity, hashlib.sha256(content).hexdigest()]
    return run.work.kept("precision", "right-in-file", key, ARRAYS, judged)["right"]
