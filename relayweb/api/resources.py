"""What the views of things that are read and managed have in common: GET needs ``read``, everything else ``manage``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar
from uuid import UUID

import msgspec
from django.http import HttpRequest
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import UnsupportedMediaType
from rest_framework.request import Request

from relayweb.api.permissions import MANAGE, READ
from relayweb.api.problems import not_found
from relayweb.api.schema import PROBLEMS
from relayweb.api.structures import parameters_of, read_body, read_query
from relayweb.api.views import ApiView

View = TypeVar("View", bound=Callable[..., Any])
Given = TypeVar("Given", bound=msgspec.Struct)


class NoParameters(msgspec.Struct, forbid_unknown_fields=True):
    """Of a path that takes none."""


class ResourceView(ApiView):
    scope = MANAGE
    scopes: ClassVar[dict[str, str]] = {"GET": READ, "HEAD": READ, "OPTIONS": READ}

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if not all(value.isprintable() for value in kwargs.values() if isinstance(value, str)):
            raise not_found()  # no name has a control character, and the database takes no NUL

    def given(self, kind: type[Given]) -> Given:
        """The body. Raises Problem."""
        request: HttpRequest = self.request._request
        content_type = (request.content_type or "").strip().lower()
        body = request.body
        if body and content_type != "application/json":
            raise UnsupportedMediaType(content_type)
        return read_body(body, kind)

    def asked(self, kind: type[Given]) -> Given:
        """The query. Raises Problem."""
        return read_query(self.request._request.GET, kind)


def operation(
    name: str,
    *,
    tag: str,
    says: str,
    answer: Any = None,
    status: int = 200,
    query: type[msgspec.Struct] | None = None,
    body: type[msgspec.Struct] | None = None,
) -> Callable[[View], View]:
    """Describes a method for the document."""
    return extend_schema(
        operation_id=name,
        tags=[tag],
        summary=says,
        parameters=parameters_of(query) if query is not None else [],
        request={"application/json": body} if body is not None else None,
        responses={status: answer, **PROBLEMS},
    )


def key_of(text: UUID | str) -> UUID | None:
    try:
        return text if isinstance(text, UUID) else UUID(text)
    except ValueError:
        return None
