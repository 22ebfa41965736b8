"""The PROXY protocol, versions 1 and 2: before anything else, a load balancer tells whose connection it passes on.

Specification: https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt (§2.1 text, §2.2 binary).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_TEXT = b"PROXY "
# §2.1: with the CRLF.
_LONGEST_TEXT = 107
# Addresses and what may follow them (TLVs). Senders keep below a segment.
_LONGEST_BINARY = 2048
_LOCAL, _PROXY = 0x20, 0x21
# Family and transport: TCP over IPv4 and IPv6, with the octets of an address and of all that must follow.
_FAMILIES = {0x11: (4, 12), 0x21: (16, 36)}

# So many octets at most; none when the peer has ended.
Receive = Callable[[int], Awaitable[bytes]]


class ProxyHeaderError(ValueError):
    """What came first is no header of this protocol."""


async def read_source(receive: Receive) -> str | None:
    """The address of the proxy's peer; None where the proxy speaks for itself, as its health checks do.

    Not an octet behind the header is taken. Raises ProxyHeaderError.
    """
    start = await _exactly(receive, len(_SIGNATURE))
    if start == _SIGNATURE:
        return await _read_binary(receive)
    if start.startswith(_TEXT):
        return await _read_text(start, receive)
    raise ProxyHeaderError("no header")


async def _read_text(line: bytes, receive: Receive) -> str | None:
    while not line.endswith(b"\n"):
        if len(line) >= _LONGEST_TEXT:
            raise ProxyHeaderError("too long")
        line += await _exactly(receive, 1)
    if not line.endswith(b"\r\n"):
        raise ProxyHeaderError("not ended by CRLF")
    words = line[:-2].split(b" ")
    if words[1] == b"UNKNOWN":
        return None
    version = {b"TCP4": 4, b"TCP6": 6}.get(words[1])
    if version is None or len(words) != 6:
        raise ProxyHeaderError("malformed")
    try:
        source = ipaddress.ip_address(words[2].decode("ascii"))
    except ValueError:
        raise ProxyHeaderError("no address") from None
    if source.version != version:
        raise ProxyHeaderError("an address of another family")
    return str(source)


async def _read_binary(receive: Receive) -> str | None:
    kind, family, *length = await _exactly(receive, 4)
    octets = int.from_bytes(bytes(length), "big")
    if kind not in (_LOCAL, _PROXY):
        raise ProxyHeaderError("another version or command")
    if octets > _LONGEST_BINARY:
        raise ProxyHeaderError("too long")
    rest = await _exactly(receive, octets)
    if kind == _LOCAL or family not in _FAMILIES:
        return None  # §2.2: of other families nothing is known, and the connection itself counts
    width, least = _FAMILIES[family]
    if octets < least:
        raise ProxyHeaderError("too short")
    return str(ipaddress.ip_address(rest[:width]))


async def _exactly(receive: Receive, octets: int) -> bytes:
    found = b""
    while len(found) < octets:
        piece = await receive(octets - len(found))
        if not piece:
            raise ProxyHeaderError("ended early")
        found += piece
    return found
