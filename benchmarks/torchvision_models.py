"""Import models of torchvision and print what they cost beside what is published and what PyTorch counts.

Each model is built with ``weights=None``, exported for one image by ``torch.export``, saved, and imported without
folding. MACs are published in torchvision's documentation (which calls them GFLOPS), with two decimals; "counted" are
those of PyTorch's own ``FlopCounterMode``, attention by its plain kernels. PyTorch's parameters are with mean and
variance of every batch norm; the graph of Swin has more, its positions and masks, which are constants that the network
reads. Seconds are of ``torch.export.export`` and of the import of the saved file. Prints a Markdown table; takes some
two minutes on one core::

    python benchmarks/torchvision_models.py [NAME …]
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from leti.generator.importers import Imported, import_model

PUBLISHED_GMACS: Mapping[str, float] = {
    **{"alexnet": 0.71, "convnext_tiny": 4.46, "densenet121": 2.83, "efficientnet_b0": 0.39, "googlenet": 1.50},
    **{"inception_v3": 5.71, "mnasnet1_0": 0.31, "mobilenet_v2": 0.30, "mobilenet_v3_large": 0.22},
    **{"mobilenet_v3_small": 0.06, "regnet_y_400mf": 0.40, "resnet18": 1.81, "resnet50": 4.09},
    **{"resnext50_32x4d": 4.23, "shufflenet_v2_x1_0": 0.14, "squeezenet1_1": 0.35, "swin_t": 4.49, "vgg16": 15.47},
    **{"vit_b_16": 17.56, "wide_resnet50_2": 11.40},
}
"""Multiply-accumulates of one image, in thousands of millions, of each model's documentation (``GFLOPS``)."""

_SIZES = {"inception_v3": 299}
_ARGUMENTS: Mapping[str, dict[str, Any]] = {  # neither changes what inference runs; the first is minutes of drawing
    **{"googlenet": {"init_weights": False, "aux_logits": False}},
    **{"inception_v3": {"init_weights": False, "aux_logits": False}},
}


@dataclass(frozen=True, slots=True)
class Row:
    """A model: what was imported, what PyTorch says of it, how long it took in seconds."""

    imported: Imported
    counted_macs: int
    params: int
    export_s: float
    import_s: float


def import_torchvision() -> ModuleType:
    """Return torchvision, also where its compiled operators do not load.

    The wheel of torchvision is built for one build of PyTorch; beside another, importing it fails because it describes
    operators (``torchvision::nms`` …) that nobody has defined. No model here uses them: they are defined without a
    kernel. Raises what the import raises for any other reason.
    """
    for _ in range(100):
        try:
            import torchvision
        except RuntimeError as error:
            missing = re.search(r"operator torchvision::(\w+) does not exist", str(error))
            if missing is None:
                raise
            _DEFINED.append(torch.library.Library("torchvision", "FRAGMENT"))
            _DEFINED[-1].define(f"{missing[1]}(Tensor boxes) -> Tensor")
            for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
                del sys.modules[name]
        else:
            return torchvision
    raise RuntimeError("torchvision describes too many operators that are not defined")


_DEFINED: list[torch.library.Library] = []  # operators are forgotten with the library that defined them


def measure(name: str) -> Row:
    """Build, export, save and import a model."""
    models = import_torchvision().models
    network = getattr(models, name)(weights=None, **_ARGUMENTS.get(name, {})).eval()
    size = _SIZES.get(name, 224)
    image = torch.zeros(1, 3, size, size)
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(network, (image,))
        exported = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.pt2"
            torch.export.save(program, path)
            saved = time.perf_counter()
            imported = import_model(path, fold=False)
            read = time.perf_counter()
    torch.backends.mha.set_fastpath_enabled(False)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        network(image)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    params = sum(p.numel() for p in network.parameters()) + sum(2 * norm.num_features for norm in norms)
    return Row(imported, counter.get_total_flops() // 2, params, exported - started, read - saved)


def main(names: list[str]) -> None:
    """Print the table."""
    columns = ("model", "MACs, G", "published, G", "counted, G", "params", "PyTorch's", "unknown operators")
    print("|", " | ".join((*columns, "export, s", "import, s")), "|")
    print("|---" * (len(columns) + 2) + "|")
    for name in names or PUBLISHED_GMACS:
        row = measure(name)
        graph = row.imported.graph
        cells = (
            *(name, f"{graph.macs / 1e9:.4f}", f"{PUBLISHED_GMACS[name]:.2f}", f"{row.counted_macs / 1e9:.4f}"),
            *(f"{graph.params:,}", f"{row.params:,}", ", ".join(graph.unknown) or "none"),
            *(f"{row.export_s:.1f}", f"{row.import_s:.2f}"),
        )
        print("|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
