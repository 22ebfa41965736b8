"""Every refusal and failure of the API as a problem document (RFC 9457).

``type`` is stable, and a program may rely on it; ``detail`` is for people and may change. Trouble of ours is 503 with
Retry-After where trying again helps, 500 where it does not; neither shows internals, both name a reference that the log has.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any

import msgspec
import psycopg
from django.core.exceptions import PermissionDenied
from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from psycopg_pool import PoolTimeout
from rest_framework import exceptions
from rest_framework.response import Response

from accounts.models import QuotaPeriod
from accounts.quotas import window_end
from accounts.refusals import NotFound, Refused
from delivery.acceptance.committer import StoreClosed
from delivery.acceptance.door import NotReady
from delivery.core import replies
from delivery.core.replies import Rejection
from delivery.time_limit import TookTooLong

logger = logging.getLogger("relayweb.api")

CONTENT_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:relayweb:problem:"

RETRY_SOON_S = 10
AWAY = (
    OperationalError,
    InterfaceError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    PoolTimeout,
    TimeoutError,
    NotReady,
    StoreClosed,
    ConnectionError,
)


@dataclass(frozen=True, slots=True)
class FieldError:
    """``field`` is the path of the input at fault, such as ``to[0]`` or ``headers.X-Name``."""

    field: str
    message: str


class Problem(Exception):
    """Ends a request, or one item of a batch."""

    def __init__(
        self,
        status: int,
        word: str,
        detail: str = "",
        *,
        errors: Sequence[FieldError] = (),
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(f"{status} {word}")
        self.status = status
        self.word = word
        self.detail = detail
        self.errors = tuple(errors)
        self.retry_after_s = retry_after_s

    def document(self, *, reference: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {
            "type": TYPE_PREFIX + self.word,
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
        }
        if self.detail:
            found["detail"] = self.detail
        if self.errors:
            found["errors"] = [{"field": error.field, "message": error.message} for error in self.errors]
        if reference:
            found["reference"] = reference
        return found


def is_for_programs(path: str) -> bool:
    """Whether whoever asked for this path reads problem documents, and no pages."""
    return path.startswith(("/api/", "/v3/", "//v3/"))


def answer(request: HttpRequest, problem: Problem) -> HttpResponse:
    """Where no view has been reached that would word it."""
    response = HttpResponse(
        msgspec.json.encode(problem.document(reference=getattr(request, "reference", ""))),
        status=problem.status,
        content_type=CONTENT_TYPE,
    )
    if problem.retry_after_s is not None:
        response["Retry-After"] = str(problem.retry_after_s)
    response["Cache-Control"] = "private, no-store"
    return response


def invalid(field: str, message: str) -> Problem:
    return Problem(400, "invalid_request", f"{field}: {message}", errors=[FieldError(field, message)])


def of_validation(error: msgspec.ValidationError) -> Problem:
    """What a structure could not be read from, with the field at fault also where it is one too many or missing."""
    message, _, path = str(error).partition(" - at `$")
    found = re.fullmatch(r"Object (?:contains unknown|missing required) field `(.*)`", message, re.DOTALL)
    # Of a mapping the library says no more than `[...]`.
    path = path.rstrip("`").lstrip(".").removesuffix("[...]")
    if found is not None:
        path = f"{path}.{found[1]}" if path else found[1]
    return invalid(path or "body", message)


def unknown_value(field: str, message: str) -> Problem:
    """The field names something that the tenant has not."""
    return Problem(422, "unknown_value", f"{field}: {message}", errors=[FieldError(field, message)])


def not_found() -> Problem:
    """For an id that does not exist and for another tenant's: there is no telling them apart."""
    return Problem(404, "not_found", "There is no such thing here.")


def database_away() -> Problem:
    return Problem(503, "temporarily_unavailable", "Try again later; nothing was promised.", retry_after_s=RETRY_SOON_S)


# What acceptance refuses, where the status is not 422.
_STATUS_OF = {
    replies.TOO_LARGE.reason: 413,
    replies.TENANT_SUSPENDED.reason: 403,
    replies.SENDING_TOO_FAST.reason: 429,
    "quota": 429,
    replies.IDEMPOTENCY_KEY_REUSED.reason: 409,
}
# What a business function will not do, where the status is not 422.
_STATUS_OF_REFUSAL = {"beyond_own_powers": 403, "operators_only": 403}
# The field of the request to look at.
_FIELD_OF = {
    "author_not_verified": "from",
    "author_outside_credential": "from",
    "onboarding_over": "from",
    "from_not_single": "from",
    "recipient_not_allowed": "to",
    "too_many_recipients": "to",
    "no_recipients": "to",
    "sender_not_verified": "headers.Sender",
    "sender_malformed": "headers.Sender",
    "stream_unknown": "stream",
    "pool_not_allowed": "pool",
}


def of_rejection(rejection: Rejection, *, now: datetime | None = None) -> Problem:
    """A refusal of acceptance, worded for HTTP; ``type`` is the machine word of the rejection log."""
    status = _STATUS_OF.get(rejection.reason)
    if status is None:
        status = 503 if rejection.reply.is_transient and rejection.reason != "too_many_recipients" else 422
    if status == 503:
        return database_away()
    field = _FIELD_OF.get(rejection.reason)
    return Problem(
        status,
        rejection.reason,
        rejection.reply.text,
        errors=[FieldError(field, rejection.reply.text)] if field else (),
        retry_after_s=_until_it_is_over(rejection, now or timezone.now()) if status == 429 else None,
    )


def _until_it_is_over(rejection: Rejection, now: datetime) -> int:
    """A volume limit says which period is used up; all of them end with an hour."""
    period = rejection.detail if rejection.detail in QuotaPeriod.values else QuotaPeriod.HOUR
    return max(1, math.ceil((window_end(period, now) - now).total_seconds()))


def of_trouble(error: Exception) -> Problem | None:
    """A failure where trying again helps; None for a fault."""
    return database_away() if isinstance(error, AWAY) else None


# ---------------------------------------------------------------- answering


def respond(error: Exception, context: Mapping[str, Any]) -> Response:
    """The views' exception handler: the edge at which every failure becomes a document."""
    request: HttpRequest = context["request"]
    reference = getattr(request, "reference", "")
    problem = problem_of(error, reference)
    return response_of(problem, reference=reference, headers=getattr(error, "auth_header", None))


def response_of(problem: Problem, *, reference: str = "", headers: str | None = None) -> Response:
    response = Response(problem.document(reference=reference), status=problem.status, content_type=CONTENT_TYPE)
    if problem.retry_after_s is not None:
        response["Retry-After"] = str(problem.retry_after_s)
    if headers:
        response["WWW-Authenticate"] = headers
    return response


def problem_of(error: Exception, reference: str) -> Problem:
    """What a failure is told as; a fault is logged under the reference."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, Rejection):
        return of_rejection(error)
    if isinstance(error, NotFound | Http404):
        return not_found()
    if isinstance(error, Refused):
        return Problem(
            _STATUS_OF_REFUSAL.get(error.reason, 422),
            error.reason,
            error.sentence,
            errors=[FieldError(error.field, error.sentence)] if error.field else (),
        )
    if isinstance(error, exceptions.APIException):
        return _of_framework(error)
    if isinstance(error, PermissionDenied):
        return Problem(403, "forbidden")
    if isinstance(error, TookTooLong):
        return Problem(422, "query_too_wide", "The search took too long. Ask for a shorter period, or a whole address.")
    if (trouble := of_trouble(error)) is not None:
        logger.error("the database cannot be reached (reference %s): %s", reference, error)
        return trouble
    if isinstance(error, DatabaseError):
        logger.exception("a statement failed (reference %s)", reference, exc_info=error)
    else:
        logger.exception("a request failed (reference %s)", reference, exc_info=error)
    return Problem(500, "internal_error", "A fault of ours. Please quote the reference.")


def _of_framework(error: exceptions.APIException) -> Problem:
    match error:
        case exceptions.ValidationError():
            return Problem(400, "invalid_request", "The request is not valid.", errors=list(_fields(error.detail)))
        case exceptions.ParseError():
            return Problem(400, "malformed_request", "The body cannot be read.")
        case exceptions.NotAuthenticated() | exceptions.AuthenticationFailed():
            return Problem(401, "authentication_required", "Send a valid key: Authorization: Bearer <key>")
        case exceptions.PermissionDenied():
            return Problem(403, str(error.get_codes()), str(error.detail))
        case exceptions.MethodNotAllowed():
            return Problem(405, "method_not_allowed")
        case exceptions.UnsupportedMediaType():
            return Problem(415, "media_type_unsupported", "This content type is not read here.")
        case exceptions.Throttled():
            return Problem(
                429,
                "too_many_requests",
                "Too many requests.",
                retry_after_s=max(1, int(getattr(error, "wait", None) or 1)),
            )
        case _:
            return Problem(error.status_code, "refused")


def _fields(detail: Any, path: str = "") -> list[FieldError]:
    if isinstance(detail, Mapping):
        found: list[FieldError] = []
        for name, inner in detail.items():
            here = "" if name == "non_field_errors" else str(name)
            found += _fields(inner, ".".join(part for part in (path, here) if part))
        return found
    if isinstance(detail, list):
        return [error for inner in detail for error in _fields(inner, path)]
    return [FieldError(path, str(detail))]
