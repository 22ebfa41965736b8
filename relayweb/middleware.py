"""What every HTTP request passes: who really asks, under which reference, in which zone; and a database that is away.

Nothing here reads the database. An error in one of these answers 500 like any other. Importing this also bounds every
statement of the web's own database connections, so that one search cannot hold a thread and a snapshot for minutes.
"""

from __future__ import annotations

import ipaddress
import logging
import secrets
from collections.abc import Callable
from typing import Any

import psycopg
from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from delivery.content_store import StoreTrouble
from relayweb.serving.bodies import TOO_SLOW
from relayweb.serving.shell import REFUSAL

Respond = Callable[[HttpRequest], HttpResponse]

logger = logging.getLogger("relayweb.console")


def _bound_statements(connection: BaseDatabaseWrapper, **_signal: Any) -> None:
    # Behind a transaction pooler a SET would stay with somebody else's connection; there the web's role carries the limit.
    if settings.PART == "web" and settings.DATABASE_URL == settings.DATABASE_DIRECT_URL:
        with connection.cursor() as cursor:
            cursor.execute(f"SET statement_timeout = {settings.WEB_STATEMENT_SECONDS * 1000}")


connection_created.connect(_bound_statements, dispatch_uid="relayweb.middleware.bound_statements")


class ClientAddress:
    """Believes X-Forwarded-For and X-Forwarded-Proto from the operator's proxies, and from nobody else.

    REMOTE_ADDR becomes the nearest address that is no proxy of ours. Where the peer is a unix socket it has none, and is
    believed: only the operator can put a proxy there.
    """

    def __init__(self, respond: Respond) -> None:
        self.respond = respond

    def __call__(self, request: HttpRequest) -> HttpResponse:
        peer = request.META.get("REMOTE_ADDR", "")
        forwarded = request.META.pop("HTTP_X_FORWARDED_FOR", "")
        scheme = request.META.pop("HTTP_X_FORWARDED_PROTO", "")
        if _is_proxy(peer) and scheme in {"http", "https"}:
            request.META["wsgi.url_scheme"] = scheme
        request.META["REMOTE_ADDR"] = client_address(peer, forwarded)
        return self.respond(request)


def client_address(peer: str, forwarded: str) -> str:
    """Who asks: the peer, or whom a proxy of ours names in X-Forwarded-For."""
    if not _is_proxy(peer):
        return peer
    for hop in reversed([hop.strip() for hop in forwarded.split(",") if hop.strip()]):
        if not _is_address(hop):
            break
        peer = hop
        if not _is_proxy(hop):
            break
    return peer


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_proxy(text: str) -> bool:
    if not text:
        return bool(settings.TRUSTED_PROXIES)
    return _is_address(text) and any(ipaddress.ip_address(text) in network for network in settings.TRUSTED_PROXIES)


class Reference:
    """Gives every request an id that an error page shows and the log carries."""

    def __init__(self, respond: Respond) -> None:
        self.respond = respond

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.reference = secrets.token_hex(5)  # type: ignore[attr-defined]
        return self.respond(request)


class Clock:
    """Forgets the zone that a page has activated, so that the next request of this thread begins with the default."""

    def __init__(self, respond: Respond) -> None:
        self.respond = respond

    def __call__(self, request: HttpRequest) -> HttpResponse:
        try:
            return self.respond(request)
        finally:
            timezone.deactivate()


class DatabaseAway:
    """Answers 503 with a page of its own while the database cannot be reached; it recovers by itself."""

    def __init__(self, respond: Respond) -> None:
        self.respond = respond

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.respond(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        from relayweb.console import errors

        if isinstance(exception, StoreTrouble):
            logger.error("the object store cannot be reached (reference %s): %s", request.reference, exception)  # type: ignore[attr-defined]
            return errors.content_away(request)
        if not isinstance(exception, OperationalError | InterfaceError):
            return None
        if isinstance(exception.__cause__, psycopg.errors.QueryCanceled):
            return None
        logger.error("the database cannot be reached (reference %s): %s", request.reference, exception)  # type: ignore[attr-defined]
        return errors.database_away(request)


class NoNul:
    """Answers 400 to a page's form with a NUL in it, which no keyboard makes and PostgreSQL keeps in no text.

    After CsrfViewMiddleware, which has read the form; programs are answered by the field (relayweb.api).
    """

    def __init__(self, respond: Respond) -> None:
        self.respond = respond

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.respond(request)

    def process_view(self, request: HttpRequest, *_view: Any) -> HttpResponse | None:
        from relayweb.api import problems
        from relayweb.console import errors

        if request.method != "POST" or problems.is_for_programs(request.path_info):
            return None
        if any("\0" in value for _name, values in request.POST.lists() for value in values):
            return errors.bad_request(request)
        return None


class RefusedBody:
    """Answers for a body that the server did not receive (relayweb.serving): a page, or a problem document."""

    def __init__(self, respond: Respond) -> None:
        self.respond = respond

    def __call__(self, request: HttpRequest) -> HttpResponse:
        refusal = request.META.get(REFUSAL)
        if refusal is None:
            return self.respond(request)
        from relayweb.console import errors

        if refusal.status == TOO_SLOW.status:
            return errors.too_slow(request)
        return errors.too_many_bodies(request, status=refusal.status, seconds=refusal.retry_after_s)
