"""Keras import: every family of keras.applications costs what Keras counts and what is published.

``LETI_KERAS_APPLICATIONS=all`` asks for those as well that are a deeper or wider one of their family.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from leti.generator.importers import import_model

keras = pytest.importorskip("keras")
pytest.importorskip("tensorflow")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras.*")  # numpy's, of Keras's own arrays

_STRIDE_MOVED = 3 * 77_070_336
"""What torchvision's ResNets have more: their first block of stages 3 to 5 strides in the 3x3 convolution, so that
the 1x1 before it (256 -> 128 at 56², 512 -> 256 at 28², 1024 -> 512 at 14²) runs on four times as many places. Keras
keeps to the paper's own stride in the 1x1 (He et al., 2015, who write 3.8, 7.6 and 11.3 G for it, rounded down)."""

PUBLISHED_GMACS: dict[str, float] = {
    # torchvision's model documentation ("GFLOPS", which are multiply-accumulates) of the same networks
    **{"ConvNeXtTiny": 4.456, "ConvNeXtSmall": 8.684, "ConvNeXtBase": 15.355, "ConvNeXtLarge": 34.361},
    **{"DenseNet121": 2.834, "DenseNet169": 3.36, "DenseNet201": 4.291, "InceptionV3": 5.713},
    **{"EfficientNetB0": 0.386, "EfficientNetB1": 0.687, "EfficientNetB3": 1.827, "EfficientNetB4": 4.394},
    **{"EfficientNetB5": 10.266, "EfficientNetB6": 19.068, "EfficientNetB7": 37.746},
    **{"EfficientNetV2S": 8.366, "EfficientNetV2M": 24.582, "EfficientNetV2L": 56.08},
    **{"ResNet50": 4.089, "ResNet101": 7.801, "ResNet152": 11.514, "VGG16": 15.47, "VGG19": 19.632},
    "MobileNetV3Large": 0.217,  # Howard et al. (2019) state 219 M, 1.1 % more
    # the papers: Howard et al. (2017, 2019), Sandler et al. (2018), Liu et al. (2022), Tan & Le (2019), the table of
    # NASNet's (Zoph et al., 2018), and EfficientNetV2's own repository
    **{"MobileNet": 0.569, "MobileNetV2": 0.3, "MobileNetV3Small": 0.056, "ConvNeXtXLarge": 60.9},
    **{"EfficientNetB2": 1.0, "Xception": 8.38, "InceptionResNetV2": 13.2, "NASNetMobile": 0.564, "NASNetLarge": 23.8},
    **{"EfficientNetV2B0": 0.72, "EfficientNetV2B1": 1.2, "EfficientNetV2B2": 1.7, "EfficientNetV2B3": 3.0},
}
"""Without ResNet50V2 to 152V2, which torchvision does not have: their own count is the only reference here.

Tan & Le state other figures for some of theirs (B1 0.70, B4 4.2, B5 9.9, B7 37, V2-S 8.8, V2-M 24, V2-L 53): the
count from the layers and torchvision's agree to four digits, so that the networks are the same and the papers round or
counted others.
"""

LARGER = {
    *(f"ConvNeXt{size}" for size in ("Base", "Large", "XLarge")),
    *(f"EfficientNetB{size}" for size in range(1, 8)),
    *(f"EfficientNetV2{size}" for size in ("B1", "B2", "B3", "M", "L")),
    *("DenseNet169", "DenseNet201", "NASNetLarge", "VGG19"),
    *("ResNet101", "ResNet152", "ResNet101V2", "ResNet152V2"),
}
"""Layers and wiring of another one here, more often."""

APPLICATIONS = sorted(
    name
    for name, value in vars(keras.applications).items()
    if name[0].isupper() and callable(value)
    if name not in LARGER or os.environ.get("LETI_KERAS_APPLICATIONS") == "all"
)


def outline(name: str) -> Any:
    """Return an application without values in its variables; in a thread, whose names and scopes Keras forgets."""

    def build() -> Any:
        with keras.StatelessScope(initialize_variables=False):
            shape = {"input_shape": (224, 224, 3)} if name.startswith("MobileNetV3") else {}
            return getattr(keras.applications, name)(weights=None, **shape)

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(build).result()


def count_macs(model: Any) -> int:
    """Count multiply-accumulates without the importer: elements of kernels times places of the layers' own outputs."""
    total = 0
    for layer in model._flatten_layers(include_self=False):
        names = ("kernel", "depthwise_kernel", "pointwise_kernel")
        kernels = [getattr(layer, name).shape for name in names if getattr(layer, name, None) is not None]
        if kernels:
            total += math.prod(layer.output.shape[1:-1]) * sum(map(math.prod, kernels))
    return total


@pytest.mark.parametrize("name", APPLICATIONS)
def test_applications_cost_what_is_published(name: str) -> None:
    model = outline(name)
    graph = import_model(model, fold=False).graph
    assert graph.unknown == ()
    assert graph.params == model.count_params()
    assert graph.macs == count_macs(model)
    if name in PUBLISHED_GMACS:
        stated = PUBLISHED_GMACS[name] * 1e9 - (_STRIDE_MOVED if name in ("ResNet50", "ResNet101", "ResNet152") else 0)
        assert graph.macs == pytest.approx(stated, rel=0.01)
