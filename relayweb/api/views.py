"""What all views of the API have in common: keys, scopes, limits, JSON in and out, problems, English."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import msgspec
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils import translation
from django.utils.cache import patch_cache_control
from drf_spectacular.openapi import AutoSchema
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import Tenant
from delivery.acceptance import door
from relayweb.api import problems
from relayweb.api.authentication import BearerKey, Caller
from relayweb.api.permissions import HasScope
from relayweb.api.problems import Problem
from relayweb.api.throttling import Requests


class JsonRenderer(BaseRenderer):
    media_type = "application/json"
    format = "json"
    charset = None

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        return b"" if data is None else msgspec.json.encode(data)


class JsonParser(BaseParser):
    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        try:
            return msgspec.json.decode(stream.read())
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Problem(400, "malformed_request", f"The body is not JSON: {error}") from None


class FirstChoice(BaseContentNegotiation):
    """There is one form of every answer, so what is accepted is not asked; bodies are read by their content type."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        given = (request.content_type or "").partition(";")[0].strip().lower()
        return next((parser for parser in parsers if parser.media_type == given), None)

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


class Described(AutoSchema):
    """Says of each operation which scope it needs."""

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        operation: dict[str, Any] | None = super().get_operation(*args, **kwargs)
        if operation is not None:
            operation["x-scope"] = cast(ApiView, self.view).scope_of(self.method)
        return operation


class ApiView(APIView):
    authentication_classes = (BearerKey,)
    permission_classes = (HasScope,)
    throttle_classes = (Requests,)
    renderer_classes = (JsonRenderer,)
    parser_classes: Sequence[type[BaseParser]] = (JsonParser,)
    content_negotiation_class = FirstChoice
    schema = Described()

    scope: ClassVar[str] = "read"
    scopes: ClassVar[dict[str, str]] = {}
    # What it reads leaves out all but the domain that the key is limited to.
    heeds_domain: ClassVar[bool] = False
    rate: Requests | None = None
    # A body larger than this is not read.
    most_octets: int = 1024 * 1024

    @classmethod
    def scope_of(cls, method: str | None) -> str:
        return cls.scopes.get(method or "", cls.scope)

    @property
    def caller(self) -> Caller:
        return cast(Caller, self.request.user)

    @property
    def tenant(self) -> Tenant:
        return self.caller.tenant

    @property
    def only_domain(self) -> str:
        """Of whose authors alone the key may read mail; empty for all."""
        return self.caller.principal.only_domain

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        translation.activate("en")
        return super().dispatch(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            # A few octets could become gigabytes.
            raise Problem(415, "media_type_unsupported", "Bodies are read as they are: send no Content-Encoding.")
        if "Transfer-Encoding" in request.headers:
            # The gateway would hand such a body on as none at all, and an empty one means something here.
            raise Problem(411, "length_required", "Send the body with its Content-Length, not in chunks.")
        length = request.META.get("CONTENT_LENGTH") or "0"
        if not length.isdigit() or int(length) > self.most_octets:
            raise Problem(413, "too_large", f"At most {self.most_octets} octets are read.")
        if self.scope_of(request.method) != "send":
            door.note_use(self.caller.principal, peer=self.caller.address)

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        answer = super().finalize_response(request, response, *args, **kwargs)
        if self.rate is not None:
            for name, value in self.rate.headers.items():
                answer[name] = value
        patch_cache_control(answer, private=True, no_store=True)
        return answer

    def get_exception_handler(self) -> Any:
        return problems.respond


def no_such_path(request: HttpRequest, **_path: Any) -> HttpResponse:
    """Every address below the API's that is none: a problem document, never a page or a redirect."""
    return problems.answer(request, problems.not_found())


no_such_path.csrf_exempt = True  # type: ignore[attr-defined]
