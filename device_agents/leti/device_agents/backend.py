"""What a runtime must do to be measured: load a model file, and run it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol


class Session(Protocol):
    """A loaded model with fixed inputs, ready to be run again and again.

    ``init_ms`` is the time from bytes to a prepared model, ``first_inference_ms`` the time of its first run.
    """

    init_ms: float
    first_inference_ms: float

    @abstractmethod
    def invoke(self) -> None:
        """Run once; raise :class:`~leti.core.errors.MeasurementFailed` where the runtime refuses."""

    @abstractmethod
    def close(self) -> None:
        """Free the model; the session cannot be run afterwards. Closing twice is harmless."""


class Backend(Protocol):
    """A runtime on this machine, named as in :class:`~leti.core.device.Platform`.

    Two backends that are not equally fast differ in one of these four: latencies are kept by platform.
    """

    runtime: str
    runtime_version: str
    delegate: str
    threads: int

    def __init__(self, *, threads: int = 1) -> None:
        """Prepare to run models with ``threads`` threads; raise :class:`~leti.core.errors.InvalidInput` below 1."""

    @abstractmethod
    def load(self, model: bytes) -> Session:
        """Return a session of the model file ``model`` that has run once, on random inputs.

        Raises :class:`~leti.core.errors.MeasurementFailed` with ``details["failure"] == "bad-model"`` where the file is
        not one, or holds what the runtime cannot run.
        """
