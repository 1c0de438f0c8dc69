"""Examples of tokens."""

from __future__ import annotations

from typing import Any, Final

from leti.core.access import NewToken, TokenInfo, TokenPage, TokenRequest
from leti.service.routes.examples.values import AT

_INFO: Final = TokenInfo("k3J9x2Qa", "bench one", "agent", AT, "Zr81bTqL", None, None, AT)

EXAMPLES: Final[dict[type, Any]] = {
    TokenRequest: TokenRequest("bench one", "agent", 90.0),
    TokenInfo: _INFO,
    TokenPage: TokenPage((_INFO,), None),
    NewToken: NewToken("leti_k3J9x2Qa_…", _INFO),
}
