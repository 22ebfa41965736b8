"""Keys of all rows: UUID version 7 (RFC 9562 §5.7), made here because PostgreSQL has uuidv7() only from 18 on.

The first 48 bits are the time in milliseconds, so keys sort by age and the tables that grow with mail can be partitioned by
their key alone.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from uuid import UUID

from accounts import clock

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_VERSION_AND_VARIANT = (0x7 << 76) | (0b10 << 62)
_RANDOM_B_BITS = 62
_MICROSECOND = timedelta(microseconds=1)


def uuid7(now: datetime | None = None) -> UUID:
    """A new key for `now` (accounts.clock's if not given); keys of different microseconds sort by their time."""
    moment = now if now is not None else clock.now()
    milliseconds, microseconds = divmod((moment - _EPOCH) // _MICROSECOND, 1000)
    # RFC 9562 §6.2 method 3: the twelve bits after the version hold the fraction of the millisecond.
    return _assemble(milliseconds, microseconds * 4096 // 1000)


def uuid7_at(sibling: UUID) -> UUID:
    """A new key of the same millisecond as `sibling`: rows that belong together share a partition."""
    return _assemble(sibling.int >> 80, int.from_bytes(os.urandom(2), "big") & 0xFFF)


def time_of(key: UUID) -> datetime:
    """When a UUIDv7 was made, to the millisecond. Raises `ValueError` for other UUIDs."""
    if key.version != 7:
        raise ValueError("only a UUIDv7 carries a time of this kind")
    return _EPOCH + timedelta(milliseconds=key.int >> 80)


def first_of(moment: datetime) -> UUID:
    """The smallest key of `moment`'s millisecond: a bound for partitions and time filters."""
    milliseconds = (moment - _EPOCH) // timedelta(milliseconds=1)
    return UUID(int=milliseconds << 80)


def _assemble(milliseconds: int, twelve_bits: int) -> UUID:
    if not 0 <= milliseconds < 1 << 48:
        raise ValueError("the time is outside what a UUIDv7 can hold")
    random_b = int.from_bytes(os.urandom(8), "big") >> (64 - _RANDOM_B_BITS)
    return UUID(int=(milliseconds << 80) | (twelve_bits << 64) | _VERSION_AND_VARIANT | random_b)
