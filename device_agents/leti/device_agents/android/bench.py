"""A phone behind adb as a bench: whole processes of benchmark_model, gated, interleaved with the reference network."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, final

from typing_extensions import override

from leti.core.device import ModelFormat, ModelPrecision, Platform
from leti.device_agents.android.adb import Adb
from leti.device_agents.bench import Bench, KeepGoing, Outcome, Waiting, Wanted
from leti.device_agents.timing import Protocol

Delegate = Literal["xnnpack", "none", "gpu", "nnapi"]

ANDROID_PROTOCOL: Final = Protocol(warmup_invokes=1, settle=0, pass_invokes=1, reference_invokes=1, passes=5)


@final
class AndroidBench(Bench):
    """The phone ``serial`` (empty: the only one), measured by the benchmark_model at ``binary``."""

    platform: Platform
    model_format: ModelFormat = "tflite"

    def __init__(
        self,
        serial: str = "",
        binary: Path = Path("benchmark_model"),
        *,
        delegate: Delegate = "xnnpack",
        threads: int = 1,
        cluster: str = "big",
        model_precision: ModelPrecision = "float32",
        protocol: Protocol = ANDROID_PROTOCOL,
        rest_s: float = 10.0,
        name: str = "",
        adb: Adb | None = None,
        order: random.Random | None = None,
    ) -> None:
        raise NotImplementedError

    @override
    def measure(
        self, wanted: Sequence[Wanted], reference: bytes, *, keep_going: KeepGoing, waiting: Waiting
    ) -> tuple[Outcome, ...] | None:
        raise NotImplementedError

    @override
    def effort(self) -> Mapping[str, float]:
        raise NotImplementedError

    @override
    def close(self) -> None:
        raise NotImplementedError
