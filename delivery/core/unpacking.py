"""Unpacking what strangers compressed: gzip (RFC 1952) and ZIP, within limits of size, ratio, members and depth.

Nothing is believed that a file says about itself: sizes are those that come out, counted while it is unpacked. Of ZIP
only stored and deflated members are read; the other methods may ask for any amount of memory.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

MAX_OCTETS = 8 * 1024 * 1024
MAX_MEMBERS = 8
# Deflate can reach 1032; reports of many like rows come near 100. A small file may be as dense as it likes.
MAX_RATIO = 250
_FREE_OF_RATIO = 1024 * 1024
MAX_DEPTH = 2
_MAX_DIRECTORY_OCTETS = 16 * 1024

_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
# Of damaged archives; a name that begins with NUL, say, is an IndexError.
_WHAT_ZIPFILE_RAISES = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError,
    LookupError, ArithmeticError, AttributeError,
)  # fmt: skip
_END_OF_DIRECTORY = struct.Struct("<4s4H2LH")


class UnpackError(ValueError):
    """It is damaged, or goes beyond a limit. ``reason`` is a machine word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def unpack(octets: bytes) -> list[bytes]:
    """The files in it; what is not compressed is given back as it is. Raises UnpackError."""
    return _unpack(octets, depth=0)


def _unpack(octets: bytes, *, depth: int) -> list[bytes]:
    if octets.startswith(_GZIP):
        inner = [_gunzip(octets)]
    elif octets.startswith(_ZIP):
        inner = _unzip(octets)
    else:
        if len(octets) > MAX_OCTETS:
            raise UnpackError("too_large")
        return [octets]
    if depth >= MAX_DEPTH:
        raise UnpackError("too_deep")
    found = [file for one in inner for file in _unpack(one, depth=depth + 1)]
    if len(found) > MAX_MEMBERS or sum(map(len, found)) > MAX_OCTETS:
        raise UnpackError("too_large")
    return found


def _gunzip(octets: bytes) -> bytes:
    reader = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        found = reader.decompress(octets, MAX_OCTETS + 1)
    except zlib.error:
        raise UnpackError("damaged") from None
    if len(found) <= MAX_OCTETS and not reader.eof:
        raise UnpackError("damaged")
    _ensure_bounded(len(found), of=len(octets))
    return found


def _unzip(octets: bytes) -> list[bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(_with_small_directory(octets))) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            if len(members) > MAX_MEMBERS:
                raise UnpackError("too_many_members")
            return _read_members(archive, members, of=len(octets))
    except _WHAT_ZIPFILE_RAISES as error:
        if isinstance(error, UnpackError):
            raise
        raise UnpackError("damaged") from None


def _with_small_directory(octets: bytes) -> bytes:
    """The archive up to the end of a directory that is known to be small: the library would read one of any size."""
    at = octets.rfind(b"PK\x05\x06")
    if at < 0 or len(octets) - at < _END_OF_DIRECTORY.size:
        raise UnpackError("damaged")
    signature, disk, start_disk, here, total, size, offset, _comment = _END_OF_DIRECTORY.unpack_from(octets, at)
    is_zip64 = octets[max(0, at - 20) : at].startswith(b"PK\x06\x07")
    if is_zip64 or total > 4 * MAX_MEMBERS or size > _MAX_DIRECTORY_OCTETS:
        raise UnpackError("too_many_members")
    return octets[:at] + _END_OF_DIRECTORY.pack(signature, disk, start_disk, here, total, size, offset, 0)


def _read_members(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], *, of: int) -> list[bytes]:
    found: list[bytes] = []
    size = 0
    for member in members:
        if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UnpackError("unknown_method")
        with archive.open(member) as file:
            found.append(file.read(MAX_OCTETS + 1 - size))
        size += len(found[-1])
        _ensure_bounded(size, of=of)
    return found


def _ensure_bounded(size: int, *, of: int) -> None:
    if size > MAX_OCTETS:
        raise UnpackError("too_large")
    if size > _FREE_OF_RATIO and size > of * MAX_RATIO:
        raise UnpackError("too_dense")
