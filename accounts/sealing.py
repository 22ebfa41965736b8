"""Secrets that must be read again (DKIM keys, smarthost passwords), sealed with a key that is not in the database.

AES-256-GCM; the sealed bytes begin with the id of the key that sealed them, so that keys can be rotated one row at a time.
``context`` binds a sealed value to its row: a value copied into another row does not open.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

_NONCE_OCTETS = 12


class SealingError(Exception):
    """A sealed value cannot be opened: its key is not configured, or the value was altered."""


def current_key_id() -> str:
    try:
        return next(iter(settings.ENCRYPTION_KEYS))
    except StopIteration:
        raise SealingError("RELAY_ENCRYPTION_KEYS is not set") from None


def seal(secret: bytes, *, context: str) -> bytes:
    key_id = current_key_id()
    nonce = os.urandom(_NONCE_OCTETS)
    sealed = AESGCM(settings.ENCRYPTION_KEYS[key_id]).encrypt(nonce, secret, context.encode())
    return key_id.encode() + b"\0" + nonce + sealed


def unseal(sealed: bytes, *, context: str) -> bytes:
    """Raises SealingError."""
    key_id, _, rest = bytes(sealed).partition(b"\0")
    key = settings.ENCRYPTION_KEYS.get(key_id.decode(errors="replace"))
    if key is None:
        raise SealingError(
            f"sealed with key {key_id.decode(errors='replace')!r}, which RELAY_ENCRYPTION_KEYS does not hold"
        )
    try:
        return AESGCM(key).decrypt(rest[:_NONCE_OCTETS], rest[_NONCE_OCTETS:], context.encode())
    except InvalidTag:
        raise SealingError("a sealed value was altered or belongs to another row") from None


def derived_keys(purpose: str) -> list[bytes]:
    """A key for ``purpose`` from every configured key, the current one first: make with the first, check with all."""
    current_key_id()
    return [
        HKDF(algorithm=SHA256(), length=32, salt=None, info=f"relayweb {purpose}".encode()).derive(key)
        for key in settings.ENCRYPTION_KEYS.values()
    ]
