"""``/openapi.json`` and ``/docs``: what is served, made of the routes that serve it."""

from __future__ import annotations

import html
import importlib.metadata
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from starlette.routing import Route

from stockade_server.described import BODIES, KEY, OPEN, OPERATIONS, TOKEN, Operation

__all__ = ["document", "page"]

_JSON = "application/json"
_PARAMETER = re.compile(r"\{(\w+)(:path)?\}")
_SECURITY: Mapping[str, list[dict[str, list[str]]]] = {
    OPEN: [],
    KEY: [{"key": []}],
    TOKEN: [{"token": []}],
}
_WORDS = {OPEN: "nothing", KEY: "an API key", TOKEN: "the sandbox's id and its access token"}
_FAILURE = {
    "type": "object",
    "required": ["code", "message"],
    "properties": {"code": {"type": "integer"}, "message": {"type": "string"}},
}


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The OpenAPI document. Raises KeyError for a route that nobody described."""
    paths: dict[str, dict[str, Any]] = {}
    for path, method, operation in _served(routes):
        described = _described(path, method, operation)
        paths.setdefault(_PARAMETER.sub(r"{\1}", path), {})[method.lower()] = described
    schemes = {
        "key": {"type": "apiKey", "in": "header", "name": "X-API-KEY"},
        "token": {"type": "apiKey", "in": "header", "name": "X-Access-Token"},
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "stockade serve",
            "version": importlib.metadata.version("stockade-server"),
            "description": "E2B's protocol in front of stockade's walls.",
        },
        "paths": paths,
        "components": {"securitySchemes": schemes, "schemas": {"Failure": _FAILURE}},
    }


def _served(routes: Iterable[Route]) -> Iterator[tuple[str, str, Operation]]:
    for route in routes:
        for method in sorted((route.methods or set()) - {"HEAD"}):
            if (method, route.path) in OPERATIONS:
                yield route.path, method, OPERATIONS[method, route.path]
            elif route.path in BODIES:  # a service: each of its methods is one path
                for name, operation in BODIES[route.path].items():
                    yield route.path.replace("{method}", name), method, operation
            else:
                raise KeyError(f"{method} {route.path} is served, and described nowhere")


def _described(path: str, method: str, operation: Operation) -> dict[str, Any]:
    names = [found[1] for found in _PARAMETER.finditer(path)]
    text = {"type": "string"}
    parameters = [{"name": one, "in": "path", "required": True, "schema": text} for one in names]
    parameters += [{"name": one, "in": "query", "schema": text} for one in operation.query]
    if operation.needs == TOKEN:
        header = {"name": "E2b-Sandbox-Id", "in": "header", "required": True, "schema": text}
        parameters.append(header)
    failure = {_JSON: {"schema": {"$ref": "#/components/schemas/Failure"}}}
    answer: dict[str, Any] = {"description": operation.summary}
    if operation.answers is not None:
        answer["content"] = {operation.answers: {}}
    found: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{method.lower()}{path}"),
        "summary": operation.summary,
        "tags": [operation.group],
        "parameters": parameters,
        "security": _SECURITY[operation.needs],
        "responses": {
            str(operation.status): answer,
            "default": {"description": "It is refused; `message` says why.", "content": failure},
        },
    }
    if operation.body is not None:
        fields = {name: {"type": kind} for name, kind in operation.body.items()}
        schema = {"type": "object", "properties": fields, "required": list(operation.required)}
        kind = {operation.takes: {"schema": schema if operation.takes == _JSON else {}}}
        found["requestBody"] = {"content": kind, "required": bool(operation.required)}
    return found


def page(routes: Iterable[Route]) -> str:
    """The same for people: markup alone, with no script and nothing from elsewhere."""
    groups: dict[str, list[str]] = {}
    for path, method, one in _served(routes):
        asked = [*one.query, *(one.body or {})]
        words = "".join(f" <code>{html.escape(name)}</code>" for name in asked)
        row = (
            f"<tr><td><code>{method}</code></td><td><code>{html.escape(path)}</code></td>"
            f"<td>{html.escape(one.summary)}{words and '<br>Takes' + words}</td>"
            f"<td>{html.escape(_WORDS[one.needs])}</td></tr>"
        )
        groups.setdefault(one.group, []).append(row)
    head = "<tr><th>Method</th><th>Path</th><th>What it does</th><th>Wants</th></tr>"
    tables = "".join(
        f"<h2>{html.escape(group)}</h2><table class='wide'><thead>{head}</thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
        for group, rows in groups.items()
    )
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        "<title>stockade serve: its paths</title><link rel='stylesheet' href='/ui/style.css'>"
        "</head><body><header><h1>stockade serve</h1></header><main>"
        "<p>For programs: <a href='/openapi.json'>openapi.json</a>. What is refused is answered "
        "with <code>code</code> and <code>message</code>; what is not served, with 501 and what "
        f"to do instead.</p>{tables}</main></body></html>"
    )
