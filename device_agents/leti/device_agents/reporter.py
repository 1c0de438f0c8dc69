"""What the service is told of a device: that it can measure, cools down, or is gone, and why."""

from __future__ import annotations

import logging
import time
from typing import Final, Literal, final

from leti.client import LatencyClient
from leti.core.errors import LetiError
from leti.core.farm import DeviceInfo, DeviceReport

log = logging.getLogger(__name__)

REMIND_S: Final = 30.0
"""A state that lasts is told again after so long: to tell is a sign of life."""

MOST_REASON: Final = 500


@final
class Reporter:
    """Tells the state of the device ``name``; what could not be told is told by the next call."""

    def __init__(self, client: LatencyClient, name: str) -> None:
        self._client = client
        self._name = name
        self._told: DeviceReport | None = None
        self._told_s = float("-inf")
        self._owed: DeviceReport | None = None
        self._refusal = ""

    def tell(self, state: Literal["available", "cooling", "gone"], reason: str = "") -> None:
        """Tell the state, unless it was told just now; how hot a device still is, is told from time to time."""
        report = DeviceReport(state, reason[:MOST_REASON])
        known = report == self._told or (self._told is not None and state == self._told.state == "cooling")
        if self._owed is None and known and time.monotonic() - self._told_s < REMIND_S:
            return
        self._owed = report
        self.settle()

    def waiting(self, reason: str) -> None:
        """Tell that the device cools down for a reason, or with none that it goes on: what benches call."""
        log.info("waiting: %s", reason or "no longer")
        self.tell("cooling" if reason else "available", reason)

    def settle(self) -> None:
        """Tell what could not be told before; whatever the service says, measuring goes on."""
        report = self._owed
        if report is None:
            return
        try:
            info = self._client.report_device(self._name, report)
        except LetiError as error:
            log.warning("cannot tell that %s is %s: %s", self._name, report.state, error)
        else:
            self._told, self._told_s, self._owed = report, time.monotonic(), None
            self._heed(info)

    def remind(self) -> None:
        """Tell the state again that was told long ago."""
        if self._told is not None and time.monotonic() - self._told_s >= REMIND_S:
            self._owed = self._told
        self.settle()

    def _heed(self, info: DeviceInfo) -> None:
        """Say once why the service lends the device nothing."""
        refusal = info.reason if info.state == "quarantined" else ""
        if refusal and refusal != self._refusal:
            log.warning("the service lends %s no jobs until it is released: %s", self._name, refusal)
        self._refusal = refusal
