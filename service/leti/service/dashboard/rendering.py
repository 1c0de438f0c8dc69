"""Rendering: templates with everything escaped, what every page holds, and what a browser may do with a page."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from fastapi import Request
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.types import Scope

from leti.core.errors import NotFound
from leti.service.dashboard import words
from leti.service.dashboard.figures import Figure
from leti.service.gate.access import caller_in
from leti.service.gate.access import may as role_may
from leti.service.gate.sessions import proof_in

HERE: Final = Path(__file__).parent
STATIC: Final = HERE / "static"
HOME: Final = "/dashboard"

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",  # the marks of boxes and menus in the style
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
"""Only what lies on this service is loaded, and no script or style that stands in a page holds."""

HEADERS: Final = {
    "content-security-policy": POLICY,
    "referrer-policy": "same-origin",  # with none at all a browser says of the page's own forms that they are nobody's
    "vary": "HX-Request",
}


@cache
def _environment() -> Environment:
    found = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(words.FILTERS)
    found.globals.update(static=static, home=HOME, version=metadata.version("leti"))
    return found


@cache
def static(name: str) -> str:
    """Return the address of a file of the dashboard, which changes with the file: that may then be kept for good."""
    return f"{HOME}/static/{name}?{hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]}"


def render(scope: Scope, template: str, /, **context: Any) -> str:
    """Return a template as HTML. It knows who asks, and what they may do: ``may("POST /campaigns")``."""
    caller = caller_in(scope)
    return (
        _environment()
        .get_template(template)
        .render(
            caller=caller,
            may=lambda route: role_may(caller, route),
            proof_of_session=proof_in(scope),
            path=scope["path"],
            **context,
        )
    )


def page(request: Request, template: str, /, status: int = 200, **context: Any) -> HTMLResponse:
    """Return a page, or a part of one."""
    return HTMLResponse(render(request.scope, template, **context), status, headers=HEADERS)


def seen(address: str) -> RedirectResponse:
    """Return where to look after something was done, so that loading the page anew does not do it again."""
    return RedirectResponse(address, 303)


def figure(request: Request, drawn: Figure, *, name: str) -> Response:
    """Return a figure: as a part of a page, or as a file with ``?format=csv``."""
    wanted = request.query_params.get("format", "html")
    if wanted == "csv":
        disposition = f'attachment; filename="{name}.csv"'
        return PlainTextResponse(drawn.csv(), headers={"content-disposition": disposition}, media_type="text/csv")
    if wanted != "html":
        raise NotFound(f"there is no form {wanted[:20]!r} of a figure", field="format", remedy="html or csv")
    file = request.url.include_query_params(format="csv")
    return page(request, "figure.html", **placed(drawn, name, f"{file.path}?{file.query}"))


def placed(drawn: Figure, name: str, file: str) -> dict[str, Any]:
    """Return what the template of a figure needs, its file's address among it, for a page that holds the figure."""
    data = json.dumps(drawn.drawn(), allow_nan=False).replace("<", "\\u003c")
    return {"figure": drawn, "name": name, "data": data, "file": file}
