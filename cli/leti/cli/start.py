"""Where the `leti` command begins: what it is made of may be missing, where only the client is installed."""

from __future__ import annotations

import sys

from leti.core.errors import MissingExtra
from leti.core.extras import needs


def main() -> None:
    """Run the command, or say which extra brings it, and end with exit code 2."""
    try:
        with needs("cli"):
            from leti.cli.main import main as run
    except MissingExtra as error:
        sys.stderr.write(f"leti: {error}\n")
        sys.exit(2)
    run()
