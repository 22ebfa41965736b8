"""Links in mails that do one thing once: signed, with an end, and naming a nonce that a newer mail replaces.

Their host comes from the settings, never from a request. What a link leads to has a button: a mail scanner's GET does
nothing.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.core import signing

from accounts.refusals import NotFound


def new_nonce() -> str:
    return secrets.token_hex(12)


def link(path: str, token: str) -> str:
    return settings.PUBLIC_URL + path.format(token=token)


def token_for(purpose: str, key: UUID, nonce: str) -> str:
    return signing.dumps([key.hex, nonce], salt=f"accounts.links.{purpose}")


def read_token(purpose: str, token: str, *, lifetime: timedelta, sentence: str) -> tuple[UUID, str]:
    """The row's key and the nonce it must have. Raises NotFound with ``sentence``."""
    try:
        key, nonce = signing.loads(token, salt=f"accounts.links.{purpose}", max_age=lifetime)
        return UUID(hex=key), str(nonce)
    except (signing.BadSignature, ValueError, TypeError):
        raise NotFound(sentence, reason="link_dead") from None
