"""What the client brings along."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys

HTTPX = {"httpx", "httpcore", "h11", "anyio", "sniffio", "idna", "certifi"}
ITS_COMMAND = {"click", "pygments", "rich"}
"""What httpx imports for its own command, where that is installed."""

PROGRAM = """
import sys
before = set(sys.modules)
import leti.client
from leti.client.calls import access, farm, learning, networks, queries
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""


def test_the_client_imports_httpx_and_no_more():
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    imported = {name for name in ran.stdout.split() if not name.startswith("_")}
    allowed = sys.stdlib_module_names | HTTPX | ITS_COMMAND | {"leti", "typing_extensions"}
    assert imported - allowed == set()


def test_the_extra_brings_no_more_than_the_base():
    required = importlib.metadata.requires("leti") or []
    assert not [line for line in required if re.search(r"extra == .client.", line)]
    base = {re.split(r"[<>=~; ]", line)[0] for line in required if "extra ==" not in line}
    assert base == {"httpx", "typing-extensions"}
