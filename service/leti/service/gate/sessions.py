"""Sessions of browsers: a cookie in the place of a token, and proof that a page of the service itself is asking.

A browser sends its cookies with whatever any page makes it ask. So who comes by a cookie and wants something changed
must be a page of this origin, and show a text that only such a page can know (OWASP's "HMAC based token pattern").
"""

from __future__ import annotations

import hashlib
import hmac
from http import cookies
from typing import Final

from starlette.types import Scope

from leti.core.errors import NotPermitted
from leti.service.gate.headers import every, first, foreign_origin

COOKIE: Final = "__Host-leti-session"
"""The prefix binds it to this host, to ``/`` and to https; browsers count their own machine as that."""

PROOF: Final = "x-csrf-token"
"""Header of the proof; a form sends it as the field :data:`FIELD`."""

FIELD: Final = "csrf"

_PROOF: Final = PROOF.encode()
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_KEY: Final = "leti.proof"


def secret_in(scope: Scope) -> str | None:
    """Return the secret of the session that a request comes with."""
    for given in every(scope, b"cookie"):
        if COOKIE in given:
            jar: cookies.SimpleCookie = cookies.SimpleCookie()
            try:
                jar.load(given)
            except cookies.CookieError:
                continue
            if COOKIE in jar:
                return jar[COOKIE].value
    return None


def proof_of(secret: str) -> str:
    """Return what a page of this session's proves itself by."""
    return hmac.new(secret.encode(), b"leti csrf", hashlib.sha256).hexdigest()


def expect(scope: Scope, secret: str) -> None:
    """Note in a request that it came by a session; raise :class:`NotPermitted` where another page made it.

    A change needs the proof in a header; a form of the dashboard brings it inside, and :func:`check_form` looks there.
    """
    scope[_KEY] = proof_of(secret)
    if scope["method"] in _SAFE:
        return
    check_origin(scope)
    given = first(scope, _PROOF)
    if given is not None or not scope["path"].startswith("/dashboard/"):
        check_proof(scope, given or "")


def check_origin(scope: Scope) -> None:
    """Raise :class:`NotPermitted` where a browser says that another site's page asks."""
    origin, site = foreign_origin(scope), first(scope, b"sec-fetch-site")
    if origin is not None or site not in (None, "same-origin", "none"):
        asks = first(scope, b"origin") or site or ""
        raise NotPermitted(f"answers no pages of {asks[:80]!r}", field="origin", remedy=_REMEDY)


def proof_in(scope: Scope) -> str:
    """Return what a page has to prove itself by, empty where the request did not come by a session."""
    found: str = scope.get(_KEY, "")
    return found


def check_proof(scope: Scope, given: str) -> None:
    """Raise :class:`NotPermitted` where a request came by a session, and without its proof."""
    wanted = proof_in(scope)
    if wanted and not hmac.compare_digest(wanted.encode(), given.encode()):
        raise NotPermitted("the request proves no page of this session", field=PROOF, remedy=_REMEDY)


_REMEDY: Final = "load the page anew, or send a token"
