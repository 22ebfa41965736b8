"""The OpenAPI document: what the views say of themselves, completed by the structures that requests are read into."""

from __future__ import annotations

from typing import Any

import msgspec
from drf_spectacular.utils import OpenApiResponse
from rest_framework import serializers

from relayweb.api.problems import CONTENT_TYPE


class FieldErrorSerializer(serializers.Serializer[Any]):
    field = serializers.CharField(allow_blank=True)
    message = serializers.CharField()


class ProblemSerializer(serializers.Serializer[Any]):
    """RFC 9457. `type` is stable, `detail` is for people."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField(required=False)
    errors = FieldErrorSerializer(many=True, required=False)  # type: ignore[assignment]
    reference = serializers.CharField(required=False)


_MEANINGS = {
    400: "The request cannot be read, or a field is not valid.",
    401: "No valid key.",
    403: "The key may not do this, or the tenant may not send at present.",
    404: "There is no such thing here.",
    405: "This method is not known there.",
    409: "The idempotency key was used for another request.",
    413: "Too large.",
    415: "This content type is not read here.",
    422: "Understood, and refused: see `type`.",
    429: "A limit is reached; Retry-After says when to go on.",
    503: "Trouble of ours; Retry-After says when to try again.",
}
PROBLEMS: dict[Any, Any] = {
    (status, CONTENT_TYPE): OpenApiResponse(ProblemSerializer, description=meaning)
    for status, meaning in _MEANINGS.items()
}


def request_schema(structure: Any, *, item: Any = None) -> dict[str, Any]:
    """The JSON schema of what a body is read into, self-contained; ``item`` stands for members that are read later."""
    schema = _resolved(structure)
    if item is not None:
        schema["properties"]["messages"]["items"] = _resolved(item)
        # What the mails have in common: any of their fields.
        schema["properties"]["defaults"] = _resolved(item)
    return schema


def _resolved(structure: Any) -> dict[str, Any]:
    (schema,), components = msgspec.json.schema_components([structure], ref_template="#/{name}")
    resolved = _inline(schema, components)
    assert isinstance(resolved, dict)
    return resolved


def _inline(node: Any, components: dict[str, Any]) -> Any:
    if isinstance(node, dict):
        if "$ref" in node:
            return _inline(components[node["$ref"].rpartition("/")[2]], components)
        inlined = {name: _inline(value, components) for name, value in node.items()}
        if inlined.get("contentEncoding") == "base64":
            inlined.pop("contentEncoding")
            inlined["format"] = "byte"
        return inlined
    if isinstance(node, list):
        return [_inline(value, components) for value in node]
    return node
