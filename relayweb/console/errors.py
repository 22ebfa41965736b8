"""Error pages: what happened, whether mail is safe, what to do now. None of them asks the database for anything.

But for one: to a signed-in browser a page that says 4xx also says for whom its operator acts, as every page does.
"""

from __future__ import annotations

import logging

from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from relayweb.api import problems
from relayweb.api.problems import Problem

logger = logging.getLogger("relayweb.console")


def _page(
    request: HttpRequest, status: int, title: str | Promise, sentence: str | Promise, **context: object
) -> HttpResponse:
    if request.headers.get("HX-Request"):
        return HttpResponse(status=status)  # a part that refreshes keeps what it shows
    if status >= 500:
        context["acting"] = None  # the database may be what is away
    response = render(request, "errors/page.html", {"status": status, "title": title, "sentence": sentence, **context})
    response.status_code = status
    response["Cache-Control"] = "no-store"
    return response


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    if problems.is_for_programs(request.path_info):
        if isinstance(exception, DisallowedHost):
            detail = "The Host field is missing, or names a host that is not served here."
            return problems.answer(request, Problem(400, "unknown_host", detail))
        return problems.answer(request, Problem(400, "malformed_request", "The request cannot be read."))
    return _page(
        request,
        400,
        _("This address cannot be read"),
        _("The request was not understood. Open the page again from the navigation."),
    )


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return _page(
        request,
        403,
        _("Not permitted"),
        _("Your role does not include this. Ask an admin of the tenant."),
        has_home=True,
    )


def form_too_old(request: HttpRequest, reason: str = "") -> HttpResponse:
    return _page(
        request,
        403,
        _("Please send it again"),
        _(
            "This page has been open for long. “Back” in your browser brings back what you typed: sign in again, "
            "then send it once more."
        ),
    )


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return _page(
        request,
        404,
        _("Page not found"),
        _("Not found. It may have been removed, belong to another tenant, or be past its retention."),
        has_home=True,
    )


def too_many(request: HttpRequest, *, seconds: int) -> HttpResponse:
    response = _page(
        request,
        429,
        _("Please wait a moment"),
        _("Too many requests. You can go on in {seconds} seconds.").format(seconds=seconds),
    )
    response["Retry-After"] = str(seconds)
    return response


def too_slow(request: HttpRequest) -> HttpResponse:
    """The body did not come in time, and the connection is closed after this."""
    if problems.is_for_programs(request.path_info):
        return problems.answer(
            request, Problem(408, "too_slow", "The body came too slowly, and was not read to its end.")
        )
    return _page(
        request,
        408,
        _("This took too long to arrive"),
        _("What you sent came too slowly and was not saved. “Back” in your browser brings it back: send it once more."),
    )


def too_many_bodies(request: HttpRequest, *, status: int, seconds: int) -> HttpResponse:
    """More is being sent to us at once than we take, from this address (429) or in all (503)."""
    if problems.is_for_programs(request.path_info):
        word = "too_many_requests" if status == 429 else "temporarily_unavailable"
        detail = "Too many requests are being sent at once."
        return problems.answer(request, Problem(status, word, detail, retry_after_s=seconds))
    response = _page(
        request,
        status,
        _("Please wait a moment"),
        _("Too many requests. You can go on in {seconds} seconds.").format(seconds=seconds),
    )
    response["Retry-After"] = str(seconds)
    return response


def fault(request: HttpRequest) -> HttpResponse:
    reference = getattr(request, "reference", "")
    logger.error("a page failed (reference %s): %s", reference, request.path)
    sentence = _("A fault of ours kept this page from you. Mail already taken is not affected. Please quote {id}.")
    try:
        return _page(request, 500, _("This page cannot be shown"), sentence.format(id=reference))
    except Exception:
        # The frame itself is what is broken; the sentence must reach the reader all the same.
        logger.exception("the error page failed (reference %s)", reference)
        return HttpResponse(sentence.format(id=reference), status=500, content_type="text/plain; charset=utf-8")


def content_away(request: HttpRequest) -> HttpResponse:
    response = _page(
        request,
        503,
        _("The content cannot be reached"),
        _("The content of this mail is safe, but cannot be read at the moment. Please try again in a minute."),
    )
    response["Retry-After"] = "10"
    return response


def database_away(request: HttpRequest) -> HttpResponse:
    response = _page(
        request,
        503,
        _("The database cannot be reached"),
        _(
            "The database cannot be reached. Mail already taken is safe; new mail is put off with a temporary error, "
            "and senders try again."
        ),
    )
    response["Retry-After"] = "10"
    return response
