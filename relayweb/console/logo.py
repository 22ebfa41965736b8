"""The operator's logo in place of ours: a file of the installation, looked at before anybody is sent it.

Only pictures that can hold no script are taken, by what they begin with and not by what they are called; browsers are told to
believe the type. The address changes with the picture, so that it may be kept for good.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_safe

logger = logging.getLogger("relayweb.console")

MOST_OCTETS = 256 * 1024
_A_YEAR_S = 365 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Logo:
    content: bytes
    content_type: str

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.content).hexdigest()[:16]


def read(path: Path) -> Logo:
    """Raises ValueError with a sentence that follows the name of the setting."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_OCTETS + 1)
    except OSError as error:
        raise ValueError(f"names {path}, which cannot be read: {error.strerror}") from None
    if len(content) > MOST_OCTETS:
        raise ValueError(f"names {path}, which has more than {MOST_OCTETS // 1024} KB")
    content_type = _type_of(content)
    if not content_type:
        raise ValueError(f"names {path}, which is no PNG, JPEG or WebP picture")
    return Logo(content, content_type)


def _type_of(content: bytes) -> str:
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return ""


@lru_cache(maxsize=2)
def _logo_of(path: str) -> Logo | None:
    """Once for each process. A file that went bad since the start leaves our own picture, and a line in the log."""
    try:
        return read(Path(path))
    except ValueError as fault:
        logger.error("RELAY_LOGO_FILE %s", fault)
        return None


def address() -> str:
    """Empty: there is none, and ours is shown."""
    found = _logo_of(settings.LOGO_FILE) if settings.LOGO_FILE else None
    return reverse("logo", args=[found.fingerprint]) if found else ""


@require_safe
def picture(request: HttpRequest, fingerprint: str) -> HttpResponse:
    """For everybody: the page that signs people in shows it."""
    found = _logo_of(settings.LOGO_FILE) if settings.LOGO_FILE else None
    if found is None or found.fingerprint != fingerprint:
        raise Http404
    return HttpResponse(
        found.content,
        content_type=found.content_type,
        headers={
            "Cache-Control": f"public, max-age={_A_YEAR_S}, immutable",
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'; sandbox",
        },
    )
