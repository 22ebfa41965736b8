"""What the API says of itself: the OpenAPI document, and a page that people read, made from the same document.

Both are public and the same for everybody: they hold no tenant's data, only what the software can do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import msgspec
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import include, path
from django.utils import translation
from django.utils.cache import patch_cache_control
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe
from drf_spectacular.generators import SchemaGenerator

from delivery.version import VERSION

PREFIX = "/api/v1"
_DEEPEST = 3

TAGS: dict[str, str | Promise] = {
    "send": _("Send"),
    "messages": _("Messages"),
    "recipients": _("Recipients"),
    "domains": _("Sending domains"),
    "credentials": _("Credentials"),
    "suppressions": _("Suppressions"),
    "routes": _("Routes"),
    "tenant": _("Tenant"),
    "webhooks": _("Webhooks"),
    "operator": _("Operators"),
}


@lru_cache(maxsize=1)
def document() -> dict[str, Any]:
    """The OpenAPI document of this installation. Made once in a process: it says what the code does."""
    from relayweb.api import urls

    with translation.override("en"):
        made: dict[str, Any] = SchemaGenerator(patterns=[path("api/v1/", include(urls.v1))]).get_schema(
            request=None, public=True
        )
    made["info"] = {
        "title": "relayweb",
        "version": f"1 ({VERSION})",
        "description": "Hand over mail, read what became of it, manage what a tenant has.",
    }
    made["servers"] = [{"url": settings.PUBLIC_URL.rstrip("/")}]
    made["tags"] = [{"name": tag} for tag in TAGS if any(tag in one["tags"] for one in _operations(made))]
    return made


@require_safe
def schema(request: HttpRequest) -> HttpResponse:
    response = HttpResponse(
        msgspec.json.format(msgspec.json.encode(document()), indent=1), content_type="application/json"
    )
    patch_cache_control(response, public=True, max_age=300)
    return response


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    return render(request, "api/docs.html", {"groups": _groups(), "prefix": PREFIX, "servers": document()["servers"]})


# Nothing is changed here, and 405 says so to a program that tries; the check would answer with a page about cookies.
schema.csrf_exempt = page.csrf_exempt = True  # type: ignore[attr-defined]


# ---------------------------------------------------------------- the page


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    kind: str
    is_required: bool
    description: str
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Described:
    """An operation as the page shows it."""

    name: str
    method: str
    path: str
    summary: str
    scope: str
    parameters: list[Field] = field(default_factory=list)
    body: list[Field] = field(default_factory=list)
    status: str = ""
    answer: list[Field] = field(default_factory=list)
    media: str = ""


def _groups() -> list[tuple[str, str | Promise, list[Described]]]:
    described: dict[str, list[Described]] = {tag: [] for tag in TAGS}
    made = document()
    for address, methods in made["paths"].items():
        for method, operation in methods.items():
            tag = operation["tags"][0]
            described.setdefault(tag, []).append(_described(made, address, method, operation))
    return [(tag, TAGS.get(tag, tag), found) for tag, found in described.items() if found]


def _described(made: Mapping[str, Any], address: str, method: str, operation: Mapping[str, Any]) -> Described:
    responses: dict[str, Any] = operation["responses"]
    status = next(code for code in responses if code.startswith("2"))
    content: dict[str, Any] = responses[status].get("content", {})
    media = next(iter(content), "")
    body: dict[str, Any] = next(iter(operation.get("requestBody", {}).get("content", {}).values()), {})
    return Described(
        name=operation["operationId"],
        method=method.upper(),
        path=address,
        summary=_translated(operation.get("summary", "")),
        scope=operation.get("x-scope", ""),
        parameters=[
            Field(
                one["name"],
                _kind(made, one["schema"]),
                bool(one.get("required")),
                _translated(one.get("description", "")),
            )
            for one in operation.get("parameters", [])
        ],
        body=_fields(made, body.get("schema", {})),
        status=status,
        answer=_fields(made, content.get(media, {}).get("schema", {})),
        media="" if media == "application/json" else media,
    )


def _fields(made: Mapping[str, Any], schema: Mapping[str, Any], depth: int = 0) -> list[Field]:
    schema = _resolved(made, schema)
    required = schema.get("required", ())
    found: list[Field] = []
    for name, one in schema.get("properties", {}).items():
        inner = _resolved(made, one)
        found.append(Field(name, _kind(made, one), name in required, _translated(inner.get("description", "")), depth))
        if depth + 1 < _DEEPEST:
            found += _fields(made, inner.get("items", inner), depth + 1)
    return found


def _translated(text: str) -> str:
    # gettext of nothing is the catalogue's header.
    return translation.gettext(text) if text else ""


def _resolved(made: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in schema:
        schema = {**made["components"]["schemas"][schema["$ref"].rpartition("/")[2]], **_without_ref(schema)}
    options = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    return _resolved(made, {**options[0], **_without_any(schema)}) if len(options) == 1 else schema


def _without_ref(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != "$ref"}


def _without_any(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != "anyOf"}


def _kind(made: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """In a few words: `string (uuid)`, `list of string`, `a | b`, with `| null` where it may be null."""
    may_be_null = any(one.get("type") == "null" for one in schema.get("anyOf", ()))
    inner = _resolved(made, schema)
    if "enum" in inner:
        words = " | ".join(str(value) for value in inner["enum"])
    elif inner.get("type") == "array":
        words = f"list of {_kind(made, inner.get('items', {}))}"
    elif "anyOf" in inner:
        words = " | ".join(_kind(made, one) for one in inner["anyOf"])
    else:
        kind, form = inner.get("type", "any"), inner.get("format")
        words = f"{kind} ({form})" if form else str(kind)
        if "default" in inner and inner["default"] not in ("", None, [], {}):
            words += f" = {msgspec.json.encode(inner['default']).decode()}"
    return f"{words} | null" if may_be_null else words


def _operations(made: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [operation for methods in made["paths"].values() for operation in methods.values()]
