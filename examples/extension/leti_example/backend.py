"""A backend: LiteRT in its reference kernels, plain loops that its fast kernels are checked against.

On one machine, another platform: what a network costs where no kernel was written for the processor.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import final

from ai_edge_litert.interpreter import OpResolverType
from typing_extensions import override

from leti.core.device import Precision
from leti.device_agents.backend import Backend, Offer, Session
from leti.device_agents.desktop.litert import LiteRTSession
from leti.device_agents.desktop.litert_refusals import LITERT_ERRORS, refusal
from leti.device_agents.offers import choose


@final
class ReferenceKernelsBackend(Backend):
    """LiteRT's interpreter, its operators from the reference kernels."""

    model_format = "tflite"

    @classmethod
    @override
    def offers(cls) -> tuple[Offer, ...]:
        return (Offer("reference"),)

    def __init__(self, *, delegate: str = "", threads: int = 1, precision: Precision = "fp32") -> None:
        self.delegate = choose(self.offers(), delegate=delegate, threads=threads, precision=precision).delegate
        self.runtime = "litert"
        self.runtime_version = version("ai-edge-litert")
        self.threads = threads
        self.precision = precision

    @override
    def load(self, model: bytes) -> Session:
        try:
            return LiteRTSession(model, OpResolverType.BUILTIN_REF, threads=self.threads)
        except LITERT_ERRORS as error:
            raise refusal(error) from error
