"""``leti`` for the tests' agents: as it is, but that no measurement is noisy, however busy the machine is."""

from __future__ import annotations

from leti.cli.start import main
from leti.device_agents.desktop.bench import DesktopBench
from leti.device_agents.timing import Protocol

if __name__ == "__main__":
    DesktopBench.__init__.__kwdefaults__["protocol"] = Protocol(retries=0, drift=100, slowdown=100)
    main()
