"""Where content stands: in its row, or in an S3-compatible object store that the row points to; sealed or not.

`delivery_content.compressed` is a zstandard frame as it is, or an envelope of ours that says what was done with the frame.
Content is in the object store before its row is committed, so that a row never points to nothing; what is left of a commit
that failed is an orphan, which `delivery.content_sweep` finds. An object's name follows from its row: retention class, day
and message, in the order of time. Its SHA-256 stands in the row, so that what was changed outside is not taken for the mail.

Trouble with the object store is a StoreTrouble, a ConnectionError: acceptance answers 451, an engine puts the attempt off,
a page answers 503. Nothing is ever lost by it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from accounts.identifiers import time_of

if TYPE_CHECKING:
    from obstore.store import S3Config, S3Store

log = structlog.get_logger(__name__)

# A zstandard frame begins with 28 B5 2F FD (RFC 8878 §3.1.1).
_MARK = b"rwc1"
_ELSEWHERE, _SEALED = 1, 2
_KEY_ID_OCTETS, _DIGEST_OCTETS, _NONCE_OCTETS = 16, 32, 12

_CONNECT_WITHIN_S, _ANSWER_WITHIN_S = 3, 20
_RETRIES = 2
_RETRIED_FOR = timedelta(seconds=10)
# Objects that one reader asks for at a time.
_AT_ONCE = 16
_DELETED_AT_ONCE = 1000  # as many as a request of S3 takes


class StoreTrouble(ConnectionError):
    """The object store cannot be reached, or refuses us."""


class ContentUnreadable(Exception):
    """What is stored is not what was stored: missing, altered, or sealed with a key that is gone."""


@dataclass(frozen=True, slots=True)
class ContentKey:
    """A tenant's own key, open."""

    id: UUID
    secret: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """What a row holds, read."""

    is_elsewhere: bool
    key_id: UUID | None
    digest: bytes
    payload: bytes

    @classmethod
    def read(cls, row: bytes) -> Stored:
        """Raises ContentUnreadable."""
        if row[:4] != _MARK:
            return cls(False, None, b"", row)
        try:
            flags, at, key_id, digest = row[4], 5, None, b""
            if flags & _SEALED:
                key_id = UUID(bytes=row[at : at + _KEY_ID_OCTETS])
                at += _KEY_ID_OCTETS
            if flags & _ELSEWHERE:
                digest = row[at : at + _DIGEST_OCTETS]
                at += _DIGEST_OCTETS
        except (IndexError, ValueError):
            raise ContentUnreadable("the row is cut off") from None
        return cls(bool(flags & _ELSEWHERE), key_id, digest, row[at:])

    def row(self) -> bytes:
        flags = (_ELSEWHERE if self.is_elsewhere else 0) | (_SEALED if self.key_id else 0)
        if not flags:
            return self.payload
        key_id = self.key_id.bytes if self.key_id else b""
        return b"".join((_MARK, bytes([flags]), key_id, self.digest, b"" if self.is_elsewhere else self.payload))


@dataclass(frozen=True, slots=True)
class Place:
    """Which content: the key of its row."""

    message_id: UUID
    retention_days: int

    @property
    def name(self) -> str:
        """Of the object. Within a day names are in the order of time."""
        return f"{day_folder(self.retention_days, time_of(self.message_id))}/{self.message_id}"


def day_folder(retention_days: int, moment: datetime) -> str:
    return f"r{retention_days}/{moment.astimezone(UTC):%Y%m%d}"


# ---------------------------------------------------------------- sealing


def seal(frame: bytes, key: ContentKey | None, *, message_id: UUID) -> Stored:
    """The frame as a row would hold it; AES-256-GCM with a key that is the message's alone."""
    if key is None:
        return Stored(False, None, b"", frame)
    nonce = os.urandom(_NONCE_OCTETS)
    sealed = AESGCM(_message_key(key, message_id)).encrypt(nonce, frame, message_id.bytes)
    return Stored(False, key.id, b"", nonce + sealed)


def unseal(stored: Stored, key: ContentKey | None, *, message_id: UUID) -> bytes:
    """The zstandard frame. Raises ContentUnreadable."""
    if stored.key_id is None:
        return stored.payload
    if key is None:
        raise ContentUnreadable("the key it was sealed with is gone")
    nonce, sealed = stored.payload[:_NONCE_OCTETS], stored.payload[_NONCE_OCTETS:]
    try:
        return AESGCM(_message_key(key, message_id)).decrypt(nonce, sealed, message_id.bytes)
    except (InvalidTag, ValueError):
        raise ContentUnreadable("it was altered, or belongs to another message") from None


def _message_key(key: ContentKey, message_id: UUID) -> bytes:
    # One key for each message: however many a tenant sends, no nonce meets its own key twice.
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"relayweb content " + message_id.bytes).derive(
        key.secret
    )


# ---------------------------------------------------------------- the object store


def is_used() -> bool:
    """Whether an object store is configured; it may still hold older content when nothing new goes there."""
    return bool(settings.OBJECT_STORE)


def goes_there(octets: int) -> bool:
    return is_used() and octets >= settings.OBJECT_STORE_FROM_BYTES


async def put(place: Place, stored: Stored) -> Stored:
    """Write the payload into the object store; what is returned is for the row. Raises StoreTrouble."""
    import obstore

    with _trouble():
        await obstore.put_async(_bucket(), place.name, stored.payload)
    return _pointer_to(stored)


def put_now(place: Place, stored: Stored) -> Stored:
    """The same, for threads."""
    import obstore

    with _trouble():
        obstore.put(_bucket(), place.name, stored.payload)
    return _pointer_to(stored)


def _pointer_to(stored: Stored) -> Stored:
    return Stored(True, stored.key_id, hashlib.sha256(stored.payload).digest(), b"")


async def fetch(place: Place, stored: Stored) -> Stored:
    """With its payload. Raises StoreTrouble, ContentUnreadable."""
    import obstore

    if not stored.is_elsewhere:
        return stored
    with _trouble():
        found = await obstore.get_async(_bucket(), place.name)
        payload = bytes(await found.bytes_async())
    return _checked(stored, payload)


def fetch_now(place: Place, stored: Stored) -> Stored:
    """The same, for threads."""
    import obstore

    if not stored.is_elsewhere:
        return stored
    with _trouble():
        payload = bytes(obstore.get(_bucket(), place.name).bytes())
    return _checked(stored, payload)


def _checked(stored: Stored, payload: bytes) -> Stored:
    if hashlib.sha256(payload).digest() != stored.digest:
        raise ContentUnreadable("the object is not the one that was stored")
    return Stored(False, stored.key_id, b"", payload)


async def fetch_all(wanted: Sequence[tuple[Place, Stored]]) -> dict[UUID, Stored | Exception]:
    """Several at a time; what went wrong with one is its own."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(place: Place, stored: Stored) -> Stored | Exception:
        try:
            async with slots:
                return await fetch(place, stored)
        except (StoreTrouble, ContentUnreadable) as error:
            return error

    found = await asyncio.gather(*(one(place, stored) for place, stored in wanted))
    return {place.message_id: one for (place, _stored), one in zip(wanted, found, strict=True)}


async def discard(place: Place) -> None:
    """Of a message that was refused after all; the sweep finds what this leaves. Never raises."""
    import obstore

    try:
        with _trouble():
            await obstore.delete_async(_bucket(), place.name)
    except (StoreTrouble, ContentUnreadable) as error:
        log.warning("content_not_discarded", message=str(place.message_id), error=str(error))


def delete(names: Sequence[str]) -> None:
    """By name; what is not there is no error. Raises StoreTrouble."""
    import obstore

    for start in range(0, len(names), _DELETED_AT_ONCE):
        with _trouble():
            obstore.delete(_bucket(), list(names[start : start + _DELETED_AT_ONCE]))


def folders(within: str = "") -> list[str]:
    """The folders right below one, in order. Raises StoreTrouble."""
    import obstore

    with _trouble():
        found = obstore.list_with_delimiter(_bucket(), within or None)
    return sorted(found["common_prefixes"])


@dataclass(frozen=True, slots=True)
class Found:
    """An object: its name, the message it is of (None: nothing of ours), and when it was written by the store's clock."""

    name: str
    message_id: UUID | None
    written_at: datetime


def objects_in(folder: str, *, after: UUID | None = None) -> Iterator[list[Found]]:
    """Page by page, in order; ``after`` leaves out messages up to that one. Raises StoreTrouble."""
    import obstore

    with _trouble():
        offset = f"{folder}/{after}" if after else None
        pages = iter(obstore.list(_bucket(), folder, offset=offset, chunk_size=_DELETED_AT_ONCE))
    while True:
        with _trouble():
            page = next(pages, None)
        if page is None:
            return
        yield [Found(one["path"], _message_of(one["path"]), one["last_modified"]) for one in page]


def _message_of(name: str) -> UUID | None:
    try:
        return UUID(name.rpartition("/")[2])
    except ValueError:
        return None


def probe() -> None:
    """Write, read and delete an object. Raises StoreTrouble."""
    import obstore

    name, octets = f"probe/{uuid4()}", os.urandom(64)
    with _trouble():
        obstore.put(_bucket(), name, octets)
        read = bytes(obstore.get(_bucket(), name).bytes())
        obstore.delete(_bucket(), [name])
    if read != octets:
        raise StoreTrouble("what was read is not what was written")


class _trouble:
    """Turns the client's errors into ours."""

    def __enter__(self) -> None:
        if not is_used():
            raise StoreTrouble("RELAY_OBJECT_STORE is not set")

    def __exit__(self, _kind: Any, error: BaseException | None, _trace: Any) -> None:
        if error is None or isinstance(error, StoreTrouble):
            return
        from obstore.exceptions import BaseError

        if isinstance(error, FileNotFoundError):
            raise ContentUnreadable("the object is missing") from error
        if isinstance(error, BaseError | OSError):
            raise StoreTrouble(_first_line(error)) from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__


def _bucket() -> S3Store:
    return _client(
        settings.OBJECT_STORE,
        settings.OBJECT_STORE_ENDPOINT,
        settings.OBJECT_STORE_REGION,
        settings.OBJECT_STORE_KEY_ID,
        settings.OBJECT_STORE_SECRET,
    )


@cache
def _client(place: str, endpoint: str, region: str, key_id: str, secret: str) -> S3Store:
    """Made when first used, so in the process that uses it: threads of its own do not survive a fork."""
    from obstore.store import S3Store

    bucket, _, prefix = place.removeprefix("s3://").partition("/")
    config: S3Config = {"region": region, "virtual_hosted_style_request": not endpoint}
    if endpoint:
        config["endpoint"] = endpoint
    if key_id:
        config["access_key_id"], config["secret_access_key"] = key_id, secret
    return S3Store(
        bucket,
        prefix=prefix.strip("/") or None,
        config=config,
        client_options={
            "connect_timeout": timedelta(seconds=_CONNECT_WITHIN_S),
            "timeout": timedelta(seconds=_ANSWER_WITHIN_S),
            "allow_http": endpoint.startswith("http://"),
            "user_agent": "relayweb",
        },
        retry_config={"max_retries": _RETRIES, "retry_timeout": _RETRIED_FOR},
    )
