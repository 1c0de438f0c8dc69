"""Faults on demand: what is to go wrong, and when."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal


@dataclass(slots=True)
class Fault:
    """``then`` happens ``times`` times, where a request's text matches and ``after_bytes`` of it have passed.

    ``on`` says what is watched: the ``start`` of any request, the output of a ``shell`` command (matched by its text),
    or what a ``push`` brings or a ``pull`` takes. ``cut`` is a pulled cable, with new links refused for ``refuse_s``;
    ``off`` an empty battery; ``stall`` a line that stays open and silent; ``damage`` changes a byte of what a push
    brings. All of it ``delay_s`` later, and once a request.
    """

    on: Literal["start", "shell", "push", "pull"]
    then: Literal["cut", "off", "stall", "damage"] = "cut"
    match: str = ""
    after_bytes: int = 0
    delay_s: float = 0.0
    refuse_s: float = 0.0
    times: int = 1


class Faults:
    """The faults that are still to come."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Want a fault."""
        self._waiting.append(fault)

    def clear(self) -> None:
        """Want none any more."""
        self._waiting.clear()

    def due(self, on: str, what: str, count: int) -> Fault | None:
        """Return the fault that strikes now, once less to come, or ``None``."""
        for fault in self._waiting:
            if fault.on == on and count >= fault.after_bytes and re.search(fault.match, what):
                fault.times -= 1
                if not fault.times:
                    self._waiting.remove(fault)
                return fault
        return None
