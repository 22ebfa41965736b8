"""The OpenAPI document: what the views say of themselves, completed by the structures that requests are read into."""

from __future__ import annotations

from typing import Any

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
    408: "The body came too slowly.",
    409: "The idempotency key was used for another request.",
    411: "The body came in chunks; it needs a Content-Length.",
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
