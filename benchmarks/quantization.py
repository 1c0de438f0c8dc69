"""Quantised digits networks: python benchmarks/quantization.py [--seeds 0 1] [--epochs 12].

A network of six convolutions learns jittered digits and is quantised by every back end in every way that it has. For
each file: its size, what LiteRT or ONNX Runtime makes of 5,373 images beside the float32 network (the interval of the
difference takes images for independent, which nine of one digit are not, and is too narrow), and its speed-up on one
thread, measured in turns with the float32 file of the same format, with 90 % of its median. Last, filters of 4 bits
and activations of 4 bits: after training, and with half as many epochs of quantisation-aware training.
"""

import argparse
from collections.abc import Sequence

import numpy as np
import torch

from leti.cli.compress_demo import digits_data, digits_network
from leti.compression.measuring.at_hand import BenchMeter
from leti.compression.measuring.meter import Subject
from leti.compression.quantizing.backends import Backend, QuantizedModel, quantize_model
from leti.compression.quantizing.recipes import QuantizationRecipe
from leti.compression.quantizing.running import file_outputs
from leti.compression.quantizing.training_aware import QuantizationAware, rounded_activations
from leti.compression.training.comparing import correct, paired
from leti.compression.training.data import Data
from leti.compression.training.executing import executable
from leti.compression.training.fine_tuning import Recipe, fine_tune
from leti.device_agents.desktop.bench import DesktopBench
from leti.generator.importers import Imported

RECIPES = {
    "static": QuantizationRecipe("static"),
    "static, a scale each tensor": QuantizationRecipe("static", per_channel=False),
    "static, symmetric": QuantizationRecipe("static", symmetric_activations=True),
    "dynamic": QuantizationRecipe("dynamic"),
    "float16": QuantizationRecipe("float16"),
    "weights alone": QuantizationRecipe("weight_only"),
    "weights alone, 4 bits": QuantizationRecipe("weight_only", 4),
}
BACKENDS: dict[Backend, tuple[str, tuple[str, ...]]] = {
    "litert": ("litert", tuple(RECIPES)),
    "onnxruntime": ("onnxruntime", tuple(RECIPES)[:6]),
    "leti": ("litert", ("static", "dynamic", "float16")),
}
SAMPLES = 128


def right(model: QuantizedModel, data: Data) -> np.ndarray:
    """Say of each image whether a file names its digit."""
    return np.concatenate([file_outputs(model, (x,))[0].argmax(1) == y for x, y in data.evaluate()])


def speedups(models: Sequence[QuantizedModel], base: Imported, backend: str) -> list[str]:
    """Return what each file is faster by, beside the float32 file of its format."""
    bench = DesktopBench(backend)
    try:
        readings = BenchMeter(bench).measure(
            Subject(base.graph), [Subject(model.graph, model.content) for model in models]
        )
    finally:
        bench.close()
    return [f"{1 / r.ratio:.2f} [{1 / r.high_ratio:.2f}, {1 / r.low_ratio:.2f}]" for r in readings[1:]]


def trained_with_rounding(base: Imported, data: Data, epochs: int, bits: int) -> tuple[float, float]:
    """Return the accuracy with filters and activations of few bits, before training with them so and after."""
    taps = rounded_activations(base, data.calibrate(), bits=bits)
    module = executable(base, taps=taps)
    names = [name for name, parameter in module.named_parameters() if parameter.ndim > 1]
    aware = QuantizationAware(module, bits, kept=(names[0], names[-1]))  # first and last as they are
    before = judged(aware, data)
    optimizer = torch.optim.AdamW(aware.parameters(), 5e-4)
    for epoch in range(epochs):
        for images, classes in data.train(epoch):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(aware(torch.from_numpy(images))[0], torch.from_numpy(classes))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return before, judged(aware, data)


def judged(module: torch.nn.Module, data: Data) -> float:
    """Return the share of images whose digit a module names."""
    with torch.inference_mode():
        found = [module(torch.from_numpy(x))[0].argmax(1).numpy() == y for x, y in data.evaluate()]
    return float(np.concatenate(found).mean())


def main() -> None:
    """Print a table a seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--epochs", type=int, default=12)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for seed in arguments.seeds:
        data = digits_data(seed)
        base = fine_tune(digits_network(seed), data, recipe=Recipe(arguments.epochs, learning_rate=3e-3, seed=seed))
        named = correct(base, data)
        print(f"seed {seed}: float32 {named.mean():.2%} of {len(named):,} images", flush=True)
        images = np.concatenate(list(data.calibrate()))[:SAMPLES]
        samples = [(images[i : i + 1],) for i in range(len(images))]
        for backend, (runtime, recipes) in BACKENDS.items():
            models = [quantize_model(base, RECIPES[r], backend=backend, samples=samples) for r in recipes]
            for name, model, speedup in zip(recipes, models, speedups(models, base, runtime), strict=True):
                found = paired(named, right(model, data))
                size = len(model.content) / model.float_bytes
                print(
                    f"  {backend:11} {name:28} {size:4.2f} of the bytes  "
                    f"{found.difference:+.2%} [{found.low:+.2%}, {found.high:+.2%}]  {speedup} times as fast",
                    flush=True,
                )
        before, after = trained_with_rounding(base, data, arguments.epochs // 2, 4)
        print(f"  4 bits: {before:.2%} after training, {after:.2%} with quantisation-aware training", flush=True)


if __name__ == "__main__":
    main()
