"""A name server on loopback that says what a test tells it to: records, absences, failures, silence, truncation.

    async with FakeDns({"example.test": {"MX": ["10 mx.example.test."]}, "mx.example.test": {"A": ["192.0.2.1"]}}) as dns:
        resolver = Resolver(dns.address)

Names that are not listed do not exist; a listed name without the type asked for is an empty answer. `behaviours` maps
names to something worse. A server that `is_validating` sets the AD flag, but for the `unsigned` names. Every question is
kept in `questions`, so that a test can count them.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from types import TracebackType
from typing import Self

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

Records = Mapping[str, Mapping[str, Sequence[str]]]


class Behaviour(StrEnum):
    SERVFAIL = "servfail"
    REFUSED = "refused"
    SILENT = "silent"
    TRUNCATED = "truncated"  # over UDP; TCP has it all
    TRUNCATED_AND_SILENT = "truncated_and_silent"  # and TCP closes without an answer
    NXDOMAIN = "nxdomain"
    ALIAS_ONLY = "alias_only"  # a CNAME without the records of its target
    GARBAGE = "garbage"


class FakeDns:
    """`hold()` keeps every answer back until `go_on()`, so that questions pile up. `arrived` is set by each question."""

    def __init__(
        self,
        records: Records | None = None,
        *,
        behaviours: Mapping[str, Behaviour] | None = None,
        ttl: int = 300,
        negative_ttl: int | None = 60,
        is_validating: bool = False,
        unsigned: Collection[str] = (),
        host: str = "127.0.0.1",
    ) -> None:
        self._host = host
        self.records: dict[str, dict[str, list[str]]] = {
            name.lower(): {kind: list(texts) for kind, texts in kinds.items()}
            for name, kinds in (records or {}).items()
        }
        self.behaviours = dict(behaviours or {})
        self.ttl = ttl
        self.negative_ttl = negative_ttl
        self.is_validating = is_validating
        self.unsigned = set(unsigned)
        self.questions: list[tuple[str, str, str]] = []  # name, type, udp or tcp
        self.arrived = asyncio.Event()
        self._may_answer = asyncio.Event()
        self._may_answer.set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> tuple[str, int]:
        return self._host, self._port

    def count(self, name: str, kind: str | None = None) -> int:
        return sum(1 for asked, asked_kind, _ in self.questions if asked == name and kind in (None, asked_kind))

    async def until_asked(self, times: int) -> None:
        while len(self.questions) < times:
            self.arrived.clear()
            await self.arrived.wait()

    def hold(self) -> None:
        self._may_answer.clear()

    def go_on(self) -> None:
        self._may_answer.set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        while True:
            self._udp, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), local_addr=(self._host, 0))
            self._port = self._udp.get_extra_info("sockname")[1]
            try:
                self._tcp = await asyncio.start_server(self._serve_tcp, self._host, self._port)
            except OSError:
                self._udp.close()  # somebody else has the TCP port of that number
            else:
                return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._udp.close()
        self._tcp.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def take_datagram(self, wire: bytes, peer: tuple[str, int], transport: asyncio.DatagramTransport) -> None:
        async def answer() -> None:
            reply = await self._answer(wire, "udp")
            if reply is not None and not transport.is_closing():
                transport.sendto(reply, peer)

        task = asyncio.get_running_loop().create_task(answer())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            reply = await self._answer(await reader.readexactly(length), "tcp")
            if reply is not None:
                writer.write(struct.pack("!H", len(reply)) + reply)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    async def _answer(self, wire: bytes, protocol: str) -> bytes | None:
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        self.questions.append((name, dns.rdatatype.to_text(question.rdtype), protocol))
        self.arrived.set()
        await self._may_answer.wait()
        behaviour = self.behaviours.get(name)
        response = dns.message.make_response(query, recursion_available=True)
        if self.is_validating and name not in self.unsigned:
            response.flags |= dns.flags.AD
        match behaviour:
            case Behaviour.SILENT:
                return None
            case Behaviour.TRUNCATED_AND_SILENT if protocol == "tcp":
                return None
            case Behaviour.GARBAGE:
                return wire[:2] + b"\xff" * 20
            case Behaviour.SERVFAIL:
                response.set_rcode(dns.rcode.SERVFAIL)
            case Behaviour.REFUSED:
                response.set_rcode(dns.rcode.REFUSED)
            case Behaviour.TRUNCATED | Behaviour.TRUNCATED_AND_SILENT if protocol == "udp":
                response.flags |= dns.flags.TC
            case _:
                self._fill(response, question.name, question.rdtype, behaviour)
        return response.to_wire()

    def _fill(
        self,
        response: dns.message.Message,
        name: dns.name.Name,
        kind: dns.rdatatype.RdataType,
        behaviour: Behaviour | None,
    ) -> None:
        kind_name = dns.rdatatype.to_text(kind)
        for _ in range(20):
            known = self.records.get(name.to_text(omit_final_dot=True).lower())
            if known is None or behaviour is Behaviour.NXDOMAIN:
                response.set_rcode(dns.rcode.NXDOMAIN)
                break
            if kind_name in known:
                self._add(response, name, kind_name, known[kind_name])
                return
            if "CNAME" not in known:
                break
            self._add(response, name, "CNAME", known["CNAME"])
            if behaviour is Behaviour.ALIAS_ONLY:
                return
            name = dns.name.from_text(known["CNAME"][0])
        if self.negative_ttl is not None:
            soa = f"ns.test. hostmaster.test. 1 3600 600 86400 {self.negative_ttl}"
            response.authority.append(dns.rrset.from_text(name.parent(), self.ttl, "IN", "SOA", soa))

    def _add(self, response: dns.message.Message, name: dns.name.Name, kind: str, texts: Sequence[str]) -> None:
        if texts:
            response.answer.append(dns.rrset.from_text(name, self.ttl, "IN", kind, *texts))


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: FakeDns) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._server.take_datagram(data, addr, self._transport)
