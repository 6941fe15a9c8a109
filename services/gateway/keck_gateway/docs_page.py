"""The OpenAPI document as one page of HTML.

Litestar's render plugins (Swagger, Scalar, Redoc …) are pages that load their scripts from a CDN: they show
nothing on a machine without the internet and let a third party run code on this origin. Hence this one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

import msgspec

__all__ = ["render"]

_METHODS = ("get", "post", "put", "patch", "delete")
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: 13px/1.45 ui-monospace, monospace; }
pre { background: #8881; padding: .7rem; overflow-x: auto; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .15rem .8rem .15rem 0; vertical-align: top; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #8884; }
.method { text-transform: uppercase; }
:root { color-scheme: light dark; }
"""


def render(document: Mapping[str, Any]) -> str:
    """A page that shows every operation and every schema of an OpenAPI document."""
    info = document["info"]
    body = "\n".join([*_operations(document["paths"]), *_schemas(document["components"]["schemas"])])
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(info["title"])}</title>'
        f"<style>{_STYLE}</style><h1>{escape(info['title'])} {escape(info['version'])}</h1>"
        f"<p>{escape(info.get('description', ''))} The document itself: "
        f'<a href="/openapi.json">/openapi.json</a>.</p>\n{body}</html>'
    )


def _operations(paths: Mapping[str, Any]) -> Iterator[str]:
    for path, item in sorted(paths.items()):
        for method in _METHODS:
            if method in item:
                yield from _operation(method, path, item[method])


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f'<h2><code><span class="method">{method}</span> {escape(path)}</code></h2>'
    yield f"<p>{escape(operation.get('description') or operation.get('summary') or '')}</p>"
    if parameters := operation.get("parameters"):
        rows = [
            f"<td><code>{escape(each['name'])}</code><td>{each['in']}<td>{escape(each.get('description', ''))}"
            for each in parameters
        ]
        yield _table("Parameter", "In", "Meaning", rows=rows)
    if body := operation.get("requestBody"):
        rows = [
            f"<td><code>{escape(kind)}</code><td>{_named(content['schema'])}"
            for kind, content in body["content"].items()
        ]
        yield _table("Body", "Schema", rows=rows)
    yield _table(
        "Status", "Answer", "Schema", rows=list(map(_response, sorted(operation["responses"].items())))
    )


def _response(item: tuple[str, Mapping[str, Any]]) -> str:
    status, response = item
    kinds = ", ".join(
        f"<code>{escape(kind)}</code> {_named(content.get('schema', {}))}"
        for kind, content in response.get("content", {}).items()
    )
    return f"<td>{status}<td>{escape(response.get('description', ''))}<td>{kinds}"


def _schemas(schemas: Mapping[str, Any]) -> Iterator[str]:
    yield "<h2>Schemas</h2>"
    for name, schema in sorted(schemas.items()):
        text = msgspec.json.format(msgspec.json.encode(schema), indent=2).decode()
        yield f'<h3 id="{escape(name)}">{escape(name)}</h3><pre>{escape(text)}</pre>'


def _named(schema: Mapping[str, Any]) -> str:
    """A schema as a link where it has a name, else in full."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[-1])
        return f'<a href="#{name}">{name}</a>'
    for several in ("oneOf", "anyOf"):
        if several in schema:
            return " or ".join(map(_named, schema[several]))
    if schema.get("type") == "array":
        return f"list of {_named(schema['items'])}"
    if "properties" in schema:
        return ", ".join(f"<code>{escape(name)}</code>" for name in schema["properties"])
    return escape(str(schema.get("type", "")))


def _table(*heads: str, rows: list[str]) -> str:
    head = "".join(f"<th>{head}" for head in heads)
    return f"<table><tr>{head}{''.join(f'<tr>{row}' for row in rows)}</table>"
