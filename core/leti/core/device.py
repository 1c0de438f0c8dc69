"""Device and Platform: everything that a latency depends on besides the graph."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Literal

from leti.core.codec import to_json
from leti.core.errors import InvalidInput

Precision = Literal["fp32", "bf16", "fp16"]
"""What the runtime may compute in: float32 only, with a bfloat16 hint, or float16 allowed."""


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

    ``affinity`` lists the cores that the measuring process is pinned to, empty where it is not.
    """

    device: Device
    runtime: str
    runtime_version: str
    delegate: str = "none"
    threads: int = 1
    affinity: tuple[int, ...] = ()
    precision: Precision = "fp32"

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
    def id(self) -> str:
        """A readable name that ends in 8 digits of the SHA-256 of everything that the platform says."""
        text = json.dumps(to_json(self), sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        words = f"{self.device.name}-{self.runtime}-{self.delegate}-t{self.threads}-{self.precision}"
        return f"{re.sub(r'[^a-z0-9]+', '-', words.lower()).strip('-')[:80]}-{digest}"
