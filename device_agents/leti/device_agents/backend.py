"""What a runtime on this machine must do to be measured: say what it offers, load a model file, and run it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Protocol

from leti.core.device import ModelFormat, Precision
from leti.core.measurement import OperatorTime


@dataclass(frozen=True, slots=True)
class Offer:
    """One way in which a runtime can execute here: a delegate (or provider), and what it can compute in.

    ``reason`` says why it cannot be used on this machine, and is empty where it can.
    """

    delegate: str
    precisions: tuple[Precision, ...] = ("fp32",)
    reason: str = ""


class Session(Protocol):
    """A loaded model with fixed inputs, ready to be run again and again.

    ``init_ms`` is the time from bytes to a prepared model, ``first_inference_ms`` the time of its first run.
    """

    init_ms: float
    first_inference_ms: float

    @abstractmethod
    def invoke(self) -> None:
        """Run once, to the end (an accelerator is waited for).

        Raises :class:`~leti.core.errors.MeasurementFailed` where the runtime refuses.
        """

    @abstractmethod
    def close(self) -> None:
        """Free the model; the session cannot be run afterwards. Closing twice is harmless."""


class Backend(Protocol):
    """A runtime on this machine, named as in :class:`~leti.core.device.Platform`.

    Two backends that are not equally fast differ in one of these five: latencies are kept by platform.
    """

    model_format: ClassVar[ModelFormat]
    """The kind of model file that it loads."""

    runtime: str
    runtime_version: str
    delegate: str
    threads: int
    precision: Precision

    @classmethod
    @abstractmethod
    def offers(cls) -> tuple[Offer, ...]:
        """Return what this runtime can execute with, the usual first, and why what is missing cannot be used here."""

    @abstractmethod
    def __init__(self, *, delegate: str = "", threads: int = 1, precision: Precision = "fp32") -> None:
        """Prepare to run models with ``threads`` threads; an empty ``delegate`` is the first usable offer's.

        Raises :class:`~leti.core.errors.InvalidInput` naming the field for what is not offered, with the offer's reason
        where there is one, and for threads below 1.
        """

    @abstractmethod
    def load(self, model: bytes) -> Session:
        """Return a session of the model file ``model`` that has run once, on random inputs.

        Raises :class:`~leti.core.errors.MeasurementFailed` with ``details["failure"] == "bad-model"`` where the file is
        not one, and ``"unsupported"`` where it holds what the runtime, or its delegate, cannot run.
        """

    def profile(self, model: bytes, *, runs: int = 10) -> tuple[OperatorTime, ...]:
        """Return the operators in the order in which the runtime runs them, after its fusions, with their times.

        Empty where the runtime does not tell. Raises what :meth:`load` raises.
        """
        return ()
