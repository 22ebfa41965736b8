"""A secret on its way to the one page that shows it: sealed in the session, taken out by the first look, gone after that.

Nothing of it is in an address, a cookie or a page that a browser may keep.
"""

from __future__ import annotations

import base64
import time
from uuid import UUID

from django.http import HttpRequest

from accounts import sealing

_SESSION_KEY = "shown_once"
_WITHIN_SECONDS = 600


def put(request: HttpRequest, key: UUID, secret: str) -> None:
    sealed = sealing.seal(secret.encode(), context=_context(key))
    request.session[_SESSION_KEY] = [key.hex, base64.b64encode(sealed).decode(), int(time.time())]


def take(request: HttpRequest, key: UUID) -> str | None:
    """None when it was taken before, waited too long, or was never put there."""
    held = request.session.get(_SESSION_KEY)
    if not isinstance(held, list) or held[0] != key.hex:
        return None
    del request.session[_SESSION_KEY]
    if time.time() - held[2] > _WITHIN_SECONDS:
        return None
    try:
        return sealing.unseal(base64.b64decode(held[1]), context=_context(key)).decode()
    except sealing.SealingError:
        return None


def _context(key: UUID) -> str:
    return f"shown once {key.hex}"
