"""Device and Platform: everything that a latency depends on besides the graph."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from leti.core.codec import to_json
from leti.core.errors import InvalidInput

Precision = Literal["fp32", "bf16", "fp16"]
"""What the runtime may compute in: float32 only, with a bfloat16 hint, or float16 allowed."""

ModelPrecision = Literal["float32", "float16", "dynamic_range", "full_integer"]
"""What the networks of a platform are stored in: it decides their graphs, and that of the reference network."""

ModelFormat = Literal["tflite", "onnx", "pt2"]
"""The kinds of model file that a service hands out: TFLite, ONNX, and programs of ``torch.export``."""

RUNTIME_FORMATS: Final[Mapping[str, ModelFormat]] = MappingProxyType(
    {
        "litert": "tflite",
        "benchmark_model": "tflite",
        "openvino": "tflite",
        "onnxruntime": "onnx",
        "pytorch": "pt2",
    }
)
"""The kind of model file that each runtime loads; runtimes that are not here (of plugins) load TFLite."""


@dataclass(frozen=True, slots=True)
class Device:
    """A machine that measures: ``name`` (its identity), ``kind``, ``soc`` (processor), ``cores``, ``os``."""

    name: str
    kind: Literal["desktop", "android"]
    soc: str
    cores: int
    os: str = ""

    def __post_init__(self) -> None:
        """Check that the device can be told from others."""
        for field in ("name", "soc"):
            if not 1 <= len(getattr(self, field).strip()) <= 200:
                raise InvalidInput("must be 1 to 200 characters", field=field)
        if len(self.os) > 200:
            raise InvalidInput("must be at most 200 characters", field="os")
        if not 1 <= self.cores <= 4096:
            raise InvalidInput(f"must be from 1 to 4096, not {self.cores}", field="cores")


@dataclass(frozen=True, slots=True)
class Platform:
    """The unit that a predictor is trained for: a device, and how a runtime executes on it.

    ``affinity`` lists the cores that the measuring process is pinned to, empty where it is not. ``precision`` is what
    the runtime computes in, ``model_precision`` what the networks are stored in: a search space measured in float32 and
    in int8 is two platforms, each with a reference network of its own precision.
    """

    device: Device
    runtime: str
    runtime_version: str
    delegate: str = "none"
    threads: int = 1
    affinity: tuple[int, ...] = ()
    precision: Precision = "fp32"
    model_precision: ModelPrecision = "float32"

    def __post_init__(self) -> None:
        """Check what can be checked without the device."""
        for field in ("runtime", "runtime_version", "delegate"):
            if not re.fullmatch(r"[A-Za-z0-9_.+-]{1,64}", getattr(self, field)):
                raise InvalidInput("must be 1 to 64 letters, digits, '_', '.', '+' or '-'", field=field)
        if not 1 <= self.threads <= 1024:
            raise InvalidInput(f"must be from 1 to 1024, not {self.threads}", field="threads")
        if len(self.affinity) > 4096 or not all(0 <= core < 4096 for core in self.affinity):
            raise InvalidInput("must be cores, numbered from 0 to 4095", field="affinity")

    @property
    def model_format(self) -> ModelFormat:
        """The kind of model file that its runtime loads."""
        return RUNTIME_FORMATS.get(self.runtime, "tflite")

    @property
    def id(self) -> str:
        """A readable name that ends in 8 digits of the SHA-256 of everything that the platform says."""
        said = to_json(self)
        words = f"{self.device.name}-{self.runtime}-{self.delegate}-t{self.threads}-{self.precision}"
        if self.model_precision == "float32":
            del said["model_precision"]  # platforms had names before they had this field
        else:
            words += f"-{self.model_precision}"
        text = json.dumps(said, sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return f"{re.sub(r'[^a-z0-9]+', '-', words.lower()).strip('-')[:80]}-{digest}"
