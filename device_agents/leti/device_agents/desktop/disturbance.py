"""Another process that loads one core, on and off: ``python -m leti.device_agents.desktop.disturbance``.

What a measurement is worth shows when the machine is not left in peace. The load comes and goes in stretches of 0.2 to
2 s drawn by a seed, and the process ends with its parent: when its standard input is closed.
"""

from __future__ import annotations

import random
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

SHORTEST_S: Final = 0.2
LONGEST_S: Final = 2.0


@contextmanager
def disturbed(seed: int = 0) -> Iterator[None]:
    """Keep one core busy, on and off, inside the block."""
    command = [sys.executable, "-m", "leti.device_agents.desktop.disturbance", str(seed)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)  # noqa: S603 - our own module
    try:
        yield
    finally:
        assert process.stdin is not None  # noqa: S101 - asked for above
        process.stdin.close()
        try:
            process.wait(2 * LONGEST_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main(seed: int) -> None:
    """Compute and rest by turns until standard input ends."""
    chance = random.Random(seed)  # noqa: S311 - the same disturbance again
    while True:
        end = time.monotonic() + chance.uniform(SHORTEST_S, LONGEST_S)
        while time.monotonic() < end:
            sum(range(1000))
        if select.select([sys.stdin], [], [], chance.uniform(SHORTEST_S, LONGEST_S))[0]:
            return


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
