"""The page that documents the API: the OpenAPI document for people, without a script and without the network."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from leti.service.routes.documentation import operations

router = APIRouter()

STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
h2 { margin-top: 3rem; } h3 { font-family: ui-monospace, monospace; font-size: 1rem; margin-top: 2rem; }
h3 b { display: inline-block; min-width: 4.5rem; }
article { border-left: 3px solid #8886; padding-left: 1rem; }
pre { overflow: auto; max-height: 24rem; padding: .5rem; background: #8881; }
table { border-collapse: collapse; } td, th { text-align: left; vertical-align: top; padding: .1rem 1rem .1rem 0; }
summary { cursor: pointer; } .roles { opacity: .7; }
"""
_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
"""Nothing is loaded, and no style holds but this page's own."""


@router.get("/docs", include_in_schema=False)
def read_reference(request: Request) -> HTMLResponse:
    """Return every route with its parameters, who may use it, and examples of what is sent and answered."""
    return HTMLResponse(page(request.app.openapi()), headers={"content-security-policy": POLICY})


def page(document: Mapping[str, Any]) -> str:
    """Return an OpenAPI document as HTML."""
    groups: dict[str, list[str]] = {}
    for method, path, operation in operations(document):
        group = (operation.get("tags") or ["others"])[0]
        groups.setdefault(group, []).append(_operation(method.upper(), path, operation, document["components"]))
    info = document["info"]
    title = html.escape(f"{info['title']} {info['version']}")
    links = " · ".join(f'<a href="#{_anchor(name)}">{html.escape(name)}</a>' for name in groups)
    sections = (
        f'<h2 id="{_anchor(name)}">{html.escape(name.capitalize())}</h2>\n' + "\n".join(found)
        for name, found in groups.items()
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>'
        f"{title}</title><style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
        f"<p>{_prose(info.get('description', ''))}</p><p>Requests carry <code>Authorization: Bearer TOKEN</code>, "
        'unless the service runs without authentication. For programs: <a href="openapi.json">openapi.json</a>.</p>\n'
        f"<nav>{links}</nav>\n" + "\n".join(sections) + "\n</body></html>\n"
    )


def _operation(method: str, path: str, said: Mapping[str, Any], components: Mapping[str, Any]) -> str:
    who = ", ".join(said["x-roles"]) or "nobody"
    parts = [f"<h3><b>{method}</b> {html.escape(path)}</h3><article><p>{_prose(said.get('description', ''))}</p>"]
    parts.append(f'<p class="roles">Roles: {who}</p>')
    parts.extend(_parameters(said.get("parameters", ())))
    for kind, content in said.get("requestBody", {}).get("content", {}).items():
        for name, shown in content.get("examples", {}).items():
            parts.append(_example(f"Body: {name} ({kind})", shown["value"]))
    refusals = []
    for status, answer in sorted(said["responses"].items()):
        if "$ref" in answer:
            answer = components["responses"][answer["$ref"].rpartition("/")[2]]
        meaning = _prose(answer.get("description", ""))
        if status >= "400":
            refusals.append(f"<li>{status} {meaning}</li>")
        for kind, content in answer.get("content", {}).items() if status < "400" else ():
            parts.append(_example(f"{status} {kind}", content.get("example", "")))
    parts.append(f"<details><summary>Problems</summary><ul>{''.join(refusals)}</ul></details>")
    return "\n".join([*parts, "</article>"])


def _parameters(parameters: Any) -> Iterator[str]:
    if not parameters:
        return
    yield "<table><tr><th>parameter</th><th>in</th><th>meaning</th></tr>"
    for one in parameters:
        needed = " (needed)" if one.get("required") and one["in"] != "path" else ""
        meaning = _prose(one.get("description", "")) or html.escape(_kind(one.get("schema", {})))
        yield f"<tr><td><code>{html.escape(one['name'])}</code></td><td>{one['in']}{needed}</td><td>{meaning}</td></tr>"
    yield "</table>"


def _kind(schema: Mapping[str, Any]) -> str:
    """Return a schema in a few words."""
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    kinds = [one for one in schema.get("anyOf", (schema,)) if one.get("type") != "null"]
    return " or ".join("one of " + ", ".join(one["enum"]) if "enum" in one else one.get("type", "") for one in kinds)


def _example(label: str, value: Any) -> str:
    shown = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    return f"<details><summary>{html.escape(label)}</summary><pre>{html.escape(shown)}</pre></details>"


def _prose(text: str) -> str:
    escaped = html.escape(text).replace("\n\n", "</p><p>")
    return re.sub(r"`+([^`]+)`+", r"<code>\1</code>", escaped)


def _anchor(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())
