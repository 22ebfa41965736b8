"""Browsers in which a person has signed in before, so that guesses from everywhere else cannot keep that person out.

A signed cookie names the account, by hash, and a number of the browser's own; tries from there are counted by that number
alone (relayweb.console.tries). It proves nothing else: a thief of it gets as many guesses as anybody.
"""

from __future__ import annotations

import hashlib
import secrets

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponse

COOKIE = "__Host-relay_known" if settings.SESSION_COOKIE_SECURE else "relay_known"
_SALT = "relayweb.console.known"
_SECONDS = 180 * 24 * 3600
_MOST_ACCOUNTS = 5


def number_of(request: HttpRequest, account: str) -> str:
    """The browser's number for an account that was signed in here, else nothing. No question to the database."""
    return next((number for known, number in _read(request) if known == _hash(account)), "")


def remember(request: HttpRequest, response: HttpResponse, account: str) -> None:
    """After a whole sign-in."""
    mine = [_hash(account), number_of(request, account) or secrets.token_hex(8)]
    others = [one for one in _read(request) if one[0] != mine[0]]
    response.set_cookie(
        COOKIE,
        signing.dumps([mine, *others][:_MOST_ACCOUNTS], salt=_SALT),
        max_age=_SECONDS,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def _read(request: HttpRequest) -> list[list[str]]:
    try:
        found = signing.loads(request.COOKIES.get(COOKIE, ""), salt=_SALT, max_age=_SECONDS)
    except signing.BadSignature:
        return []
    return list(found)


def _hash(account: str) -> str:
    return hashlib.sha256(account.strip().lower().encode()).hexdigest()[:24]
