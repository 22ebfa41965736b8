"""The sandbox's authoritative name server, over UDP and TCP.

It answers what `Zones` knows, and REFUSED for anybody else's names. Faults that the scenarios ask for (SERVFAIL, no
answer, truncation, delay) are made here. A message that is not a query is dropped; nothing a client sends stops it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from typing import cast

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from sandbox.scenarios import DnsFault
from sandbox.zones import Answer, Zones

LOG = logging.getLogger("sandbox.dns")

_PLAIN_UDP_BYTES = 512
_MAX_UDP_BYTES = 1232
_TCP_IDLE_S = 10
_MAX_TCP_CONNECTIONS = 200

_MOST_TRIES = 10


class DnsServer:
    """Serves one address over UDP and TCP."""

    def __init__(self, zones: Zones) -> None:
        self._zones = zones
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Bind; port 0 takes a free one. Returns the address and the port. Raises `OSError` when it is taken."""
        # A port that is free for UDP may be in use for TCP: where any will do, another one is tried.
        for _ in range(0 if port else _MOST_TRIES - 1):
            with contextlib.suppress(OSError):
                return await self._bind(host, port)
        return await self._bind(host, port)

    async def _bind(self, host: str, port: int) -> tuple[str, int]:
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _UdpProtocol(self), sock=_bound_socket(host, port))
        bound_host, bound_port = self._udp.get_extra_info("sockname")[:2]
        try:
            self._tcp = await asyncio.start_server(self._serve_tcp, host, bound_port)
        except OSError:
            self._udp.close()
            raise
        return bound_host, bound_port

    async def stop(self) -> None:
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
            await self._tcp.wait_closed()

    def answer(self, wire: bytes, *, is_udp: bool) -> tuple[bytes | None, float]:
        """The response to a query (None: silence) and the seconds to wait before it."""
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return _format_error(wire), 0.0
        if query.flags & dns.flags.QR:
            return None, 0.0
        response = dns.message.make_response(query)
        found = self._look_up(query, response)
        if found.fault is DnsFault.DROP:
            return None, 0.0
        if found.fault is DnsFault.SERVFAIL:
            response = dns.message.make_response(query)
            response.set_rcode(dns.rcode.SERVFAIL)
        elif found.fault is DnsFault.REFUSED:
            response = dns.message.make_response(query)
            response.set_rcode(dns.rcode.REFUSED)
        elif found.fault is DnsFault.TRUNCATE and is_udp:
            return _truncated(query), found.delay_s
        return _to_wire(query, response, is_udp=is_udp), found.delay_s

    def _look_up(self, query: dns.message.Message, response: dns.message.Message) -> Answer:
        if query.opcode() != dns.opcode.QUERY or len(query.question) != 1:
            response.set_rcode(dns.rcode.NOTIMP)
            return Answer(is_ours=False)
        question = query.question[0]
        transfers = (dns.rdatatype.AXFR, dns.rdatatype.IXFR)
        if question.rdclass != dns.rdataclass.IN or question.rdtype in transfers:
            response.set_rcode(dns.rcode.REFUSED)
            return Answer(is_ours=False)
        found = self._zones.lookup(question.name, question.rdtype)
        if not found.is_ours:
            response.set_rcode(dns.rcode.REFUSED)
            return found
        response.flags |= dns.flags.AA
        response.answer = found.rrsets
        response.authority = found.authority
        if not found.exists:
            response.set_rcode(dns.rcode.NXDOMAIN)
        return found

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if len(self._connections) <= _MAX_TCP_CONNECTIONS:
                await self._answer_stream(reader, writer)
        except (OSError, EOFError, TimeoutError):
            LOG.debug("DNS connection ended")
        except asyncio.CancelledError:
            LOG.debug("DNS connection closed at the end of the process")
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            async with asyncio.timeout(_TCP_IDLE_S):
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                wire = await reader.readexactly(length)
            response, delay_s = self.answer(wire, is_udp=False)
            if delay_s:
                await asyncio.sleep(delay_s)
            if response is not None:
                writer.write(struct.pack("!H", len(response)) + response)
                await writer.drain()


class _UdpProtocol(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        response, delay_s = self._server.answer(data, is_udp=True)
        if response is None:
            return
        if delay_s:
            asyncio.get_running_loop().call_later(delay_s, self._send, response, addr)
        else:
            self._send(response, addr)

    def _send(self, response: bytes, addr: tuple[str, int]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(response, addr)


def _bound_socket(host: str, port: int) -> socket.socket:
    # Bound here, because uvloop's own error no longer tells a port in use from any other trouble.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_DGRAM)
    try:
        bound.setblocking(False)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


def _to_wire(query: dns.message.Message, response: dns.message.Message, *, is_udp: bool) -> bytes:
    limit = 65535
    if is_udp:
        limit = min(max(query.payload, _PLAIN_UDP_BYTES), _MAX_UDP_BYTES) if query.edns >= 0 else _PLAIN_UDP_BYTES
    try:
        return response.to_wire(max_size=limit)
    except dns.exception.TooBig:
        return _truncated(query)


def _truncated(query: dns.message.Message) -> bytes:
    response = dns.message.make_response(query)
    response.flags |= dns.flags.AA | dns.flags.TC
    return response.to_wire()


def _format_error(wire: bytes) -> bytes | None:
    """FORMERR with the id of a query that could not be read; silence when even its header is missing."""
    if len(wire) < 12 or wire[2] & 0x80:
        return None
    return wire[:2] + bytes((0x80, dns.rcode.FORMERR)) + bytes(8)
