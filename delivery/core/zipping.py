"""A ZIP file made piece by piece: between two pieces nothing is kept but a few numbers, so that a kill costs one piece.

A member's data is a row of pieces, each deflated by itself and ended at a byte (RFC 1951 §3.2.4, an empty stored block), so
that they are one stream when put behind each other. Its local header comes before them and is written last, when size and
checksum are known. Sizes beyond 4 GB are written in the way of ZIP64 (APPNOTE.TXT 6.3, §4.3 to §4.5).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

_BEYOND_32_BITS = 0xFFFFFFFF
_BEYOND_16_BITS = 0xFFFF
_NAMES_ARE_UTF8 = 1 << 11
_DEFLATED = 8
_PLAIN_VERSION, _ZIP64_VERSION = 20, 45


@dataclass(frozen=True, slots=True)
class Member:
    """A file within. ``offset`` is that of its local header; the numbers grow with each piece."""

    name: str
    modified: datetime
    offset: int
    crc: int = 0
    size: int = 0
    deflated: int = 0

    @property
    def is_large(self) -> bool:
        return max(self.size, self.deflated) >= _BEYOND_32_BITS


def piece(member: Member, data: bytes, *, is_last: bool) -> tuple[bytes, Member]:
    """What is written behind the pieces before, and the member as it is then."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    written = packer.compress(data) + packer.flush(zlib.Z_FINISH if is_last else zlib.Z_FULL_FLUSH)
    grown = Member(
        member.name,
        member.modified,
        member.offset,
        zlib.crc32(data, member.crc),
        member.size + len(data),
        member.deflated + len(written),
    )
    return written, grown


def local_header(member: Member) -> bytes:
    """In front of the pieces of a finished member."""
    name = member.name.encode()
    extra = struct.pack("<HHQQ", 1, 16, member.size, member.deflated) if member.is_large else b""
    sizes = (_BEYOND_32_BITS,) * 2 if member.is_large else (member.deflated, member.size)
    fixed = struct.pack(
        "<4sHHHHHLLLHH",
        b"PK\x03\x04",
        _ZIP64_VERSION if member.is_large else _PLAIN_VERSION,
        _NAMES_ARE_UTF8,
        _DEFLATED,
        *_dos_time(member.modified),
        member.crc,
        *sizes,
        len(name),
        len(extra),
    )
    return fixed + name + extra


def directory(members: Sequence[Member], *, offset: int) -> bytes:
    """The end of the file; ``offset`` is how much stands before it."""
    entries = b"".join(map(_entry, members))
    number, size = len(members), len(entries)
    is_large = offset >= _BEYOND_32_BITS or size >= _BEYOND_32_BITS or number >= _BEYOND_16_BITS
    beyond = b""
    if is_large:
        version = _ZIP64_VERSION
        record = (b"PK\x06\x06", 44, version, version, 0, 0, number, number, size, offset)
        beyond = struct.pack("<4sQHHLLQQQQ", *record) + struct.pack("<4sLQL", b"PK\x06\x07", 0, offset + size, 1)
    end = struct.pack(
        "<4sHHHHLLH",
        b"PK\x05\x06",
        0,
        0,
        min(number, _BEYOND_16_BITS),
        min(number, _BEYOND_16_BITS),
        min(size, _BEYOND_32_BITS),
        min(offset, _BEYOND_32_BITS),
        0,
    )
    return entries + beyond + end


def _entry(member: Member) -> bytes:
    name = member.name.encode()
    is_large = member.is_large or member.offset >= _BEYOND_32_BITS
    extra = struct.pack("<HHQQQ", 1, 24, member.size, member.deflated, member.offset) if is_large else b""
    deflated, size, offset = (
        (_BEYOND_32_BITS,) * 3 if is_large else (member.deflated, member.size, member.offset)
    )  # fmt: skip
    version = _ZIP64_VERSION if is_large else _PLAIN_VERSION
    fixed = struct.pack(
        "<4sHHHHHHLLLHHHHHLL",
        b"PK\x01\x02",
        version,
        version,
        _NAMES_ARE_UTF8,
        _DEFLATED,
        *_dos_time(member.modified),
        member.crc,
        deflated,
        size,
        len(name),
        len(extra),
        0,
        0,
        0,
        0,
        offset,
    )
    return fixed + name + extra


def _dos_time(moment: datetime) -> tuple[int, int]:
    """Time and date of MS-DOS, in steps of two seconds."""
    return (
        moment.hour << 11 | moment.minute << 5 | moment.second // 2,
        max(0, moment.year - 1980) << 9 | moment.month << 5 | moment.day,
    )
