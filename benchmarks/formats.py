"""One network by way of three formats: python benchmarks/formats.py [MODEL …].

Each model of keras.applications, with random weights (of zeros, converters make less), is imported as the Keras model
that it is, from the .tflite file that the TensorFlow converter makes of it, and from the .onnx file that Keras exports
on its PyTorch backend. Prints, as a Markdown table, whether MACs, parameters, peak memory and the folded graph are
equal.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

MODELS = {
    **dict.fromkeys(("MobileNet", "MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "EfficientNetV2B0"), 96),
    **dict.fromkeys(("ResNet50", "ResNet50V2", "DenseNet121", "VGG16", "ConvNeXtTiny"), 96),
    **dict.fromkeys(("InceptionV3", "Xception"), 128),
    "NASNetMobile": 224,
}
"""Height and width of each model's input."""

BUILD = """
import sys
import numpy as np
import keras
rng = np.random.default_rng(0)
model = getattr(keras.applications, sys.argv[1])(weights=None, input_shape=(int(sys.argv[2]),) * 2 + (3,))
model.set_weights([rng.uniform(0.5, 1.5, value.shape).astype(value.dtype) for value in model.get_weights()])
"""
EXPORT = (
    BUILD
    + """
import torch
model(torch.zeros((1, *model.input_shape[1:])))
model.export(sys.argv[3], format="onnx", verbose=False)
"""
)


def onnx_file(name: str, size: int, folder: Path) -> Path | None:
    """Return the file that Keras exports on its PyTorch backend, in a process of its own; none where Keras cannot."""
    path = folder / f"{name}.onnx"
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    command = [sys.executable, "-c", EXPORT, name, str(size), str(path)]
    ran = subprocess.run(command, check=False, capture_output=True, env=environment)
    return None if ran.returncode else path


def main() -> None:
    """Print a row a model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=list(MODELS))
    names = parser.parse_args().models
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    from leti.generator.importers import import_model

    print("| model | MACs, M | parameters | peak memory, KiB | .tflite | .onnx |\n|---|---|---|---|---|---|")
    for name in names:
        sys.argv = ["", name, str(MODELS[name])]
        scope: dict[str, object] = {}
        exec(BUILD, scope)
        model = scope["model"]
        function = tf.function(lambda x, model=model: model(x, training=False))
        size = MODELS[name]
        concrete = function.get_concrete_function(tf.TensorSpec((1, size, size, 3), tf.float32))
        frozen = convert_variables_to_constants_v2(concrete)
        converted = tf.lite.TFLiteConverter.from_concrete_functions([frozen]).convert()
        keras_graph = import_model(model).graph
        with tempfile.TemporaryDirectory() as folder:
            exported = onnx_file(name, size, Path(folder))
            ways = [import_model(converted).graph, None if exported is None else import_model(exported).graph]
        cells = []
        for graph in ways:
            if graph is None:
                cells.append("Keras does not export it")
                continue
            same = [
                word
                for word, value in (
                    ("MACs", "macs"),
                    ("parameters", "params"),
                    ("peak memory", "peak_memory_bytes"),
                )
                if getattr(graph, value) == getattr(keras_graph, value)
            ]
            cells.append("same graph" if graph == keras_graph and len(same) == 3 else "same " + ", ".join(same))
            if graph != keras_graph or len(same) < 3:
                cells[-1] += f" ({graph.macs / 1e6:.3f} M, {graph.params}, {graph.peak_memory_bytes / 1024:.0f} KiB)"
        peak = keras_graph.peak_memory_bytes / 1024
        print(f"| {name} | {keras_graph.macs / 1e6:.1f} | {keras_graph.params:,} | {peak:,.0f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
