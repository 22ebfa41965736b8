"""When and from where a signed-in browser was last seen: written down every few minutes, not at every request."""

from __future__ import annotations

import time

from django.http import HttpRequest

from accounts import browsers

NOTED_KEY = "is_noted"
_MOST = 10_000
_noted: dict[str, float] = {}


def note(request: HttpRequest) -> None:
    key = request.session.session_key
    if key is None or not request.session.get(NOTED_KEY):
        return
    now = time.monotonic()
    if now - _noted.get(key, -1e9) < browsers.NOTED_EVERY.total_seconds():
        return
    if len(_noted) >= _MOST:
        _noted.clear()  # each is written down once more: cheap, and no bookkeeping of ages
    _noted[key] = now
    browsers.note_visit(key, peer_address=request.META.get("REMOTE_ADDR") or None)
