"""A secret on its way to the one page that shows it: sealed in the session, taken out by the first look, gone after that.

Nothing of it is in an address, a cookie or a page that a browser may keep.
"""

from __future__ import annotations

import base64
import time
from typing import Any
from uuid import UUID

from django.http import HttpRequest

from accounts import sealing

_SESSION_KEY = "shown_once"
_WITHIN_SECONDS = 600
_MOST = 4


def put(request: HttpRequest, key: UUID, secret: str) -> None:
    sealed = sealing.seal(secret.encode(), context=_context(key))
    held = _held(request)
    held[key.hex] = [base64.b64encode(sealed).decode(), int(time.time())]
    # The newest few; what was never looked at must not pile up.
    request.session[_SESSION_KEY] = dict(list(held.items())[-_MOST:])


def take(request: HttpRequest, key: UUID) -> str | None:
    """None when it was taken before, waited too long, or was never put there."""
    found = peek(request, key)
    held = _held(request)
    if held.pop(key.hex, None) is not None:
        if held:
            request.session[_SESSION_KEY] = held
        else:
            del request.session[_SESSION_KEY]
    return found


def peek(request: HttpRequest, key: UUID) -> str | None:
    """Like ``take``, and leaves it there: for what a second page of the same form needs."""
    held = _held(request).get(key.hex)
    if held is None or time.time() - held[1] > _WITHIN_SECONDS:
        return None
    try:
        return sealing.unseal(base64.b64decode(held[0]), context=_context(key)).decode()
    except sealing.SealingError:
        return None


def _held(request: HttpRequest) -> dict[str, Any]:
    held = request.session.get(_SESSION_KEY)
    return dict(held) if isinstance(held, dict) else {}


def _context(key: UUID) -> str:
    return f"shown once {key.hex}"
