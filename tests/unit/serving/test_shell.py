"""What Django's side is handed of a request, and how its answers leave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from relayweb.serving.bodies import Limits
from relayweb.serving.shell import Shell

MEGABYTE = 1024 * 1024


class Exchange:
    """One request as a server would hand it to us: its events, and what was sent back."""

    def __init__(self, *chunks: bytes, length: int | None = None, address: str = "192.0.2.1") -> None:
        self.events = [
            {"type": "http.request", "body": chunk, "more_body": number < len(chunks)}
            for number, chunk in enumerate(chunks, start=1)
        ]
        self.sent: list[dict[str, Any]] = []
        self.is_reading = asyncio.Event()
        self.is_reading.set()
        declared = sum(map(len, chunks)) if length is None else length
        self.scope = {
            "type": "http",
            "method": "POST",
            "http_version": "1.1",
            "scheme": "http",
            "raw_path": b"/a%20b/%ff",
            "query_string": b"x=%20",
            "server": ("127.0.0.1", "8000"),
            "client": (address, "1"),
            "headers": [
                (b"content-length", str(declared).encode()),
                (b"x-two", b"1"),
                (b"x-two", b"\xe9"),
                (b"cookie", b"a=1"),
                (b"cookie", b"b=2"),
                (b"x_forwarded_for", b"198.51.100.1"),
            ],
        }

    async def receive(self) -> dict[str, Any]:
        if not self.events:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        return self.events.pop(0)

    async def send(self, event: dict[str, Any]) -> None:
        await self.is_reading.wait()
        self.sent.append(event)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def body(self) -> bytes:
        return b"".join(event["body"] for event in self.sent[1:])


def shell(handler: Callable[..., Any], *, threads: int = 1, **limits: Any) -> Shell:
    usual = {"silence_seconds": 0.2, "octets_per_second": 1, "bodies": 9, "bodies_per_address": 9}
    return Shell(
        handler,
        threads=threads,
        limits=Limits(**{**usual, "held_octets": 50 * MEGABYTE, **limits}),
        most_octets=20 * MEGABYTE,
        address_of=lambda environ: str(environ["REMOTE_ADDR"]),
    )


def echo(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    refusal = environ.get("relayweb.refusal")
    start_response(f"{refusal.status if refusal else 200} .", [])
    return [environ["wsgi.input"].read()]


def test_the_environment_is_that_of_the_interface() -> None:
    seen: dict[str, Any] = {}

    def handler(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        seen.update(environ)
        return echo(environ, start_response)

    async def run() -> None:
        exchange = Exchange(b"abc")
        await shell(handler)(exchange.scope, exchange.receive, exchange.send)

    asyncio.run(run())

    assert seen["PATH_INFO"] == "/a b/\xff"
    assert seen["QUERY_STRING"] == "x=%20"
    assert seen["CONTENT_LENGTH"] == "3"
    assert seen["HTTP_X_TWO"] == "1,\xe9"
    assert seen["HTTP_COOKIE"] == "a=1;b=2"
    assert "HTTP_X_FORWARDED_FOR" not in seen  # an underscore does not make it that field
    assert seen["SERVER_PROTOCOL"] == "HTTP/1.1"


@pytest.mark.parametrize("octets", [0, 3, 65_536, 65_537, 2 * MEGABYTE])
def test_a_body_arrives_as_it_was_sent_and_leaves_nothing_behind(octets: int) -> None:
    whole = bytes(range(256)) * (octets // 256 + 1)
    chunks = [whole[at : min(at + 40_000, octets)] for at in range(0, octets, 40_000)]
    own = shell(echo, memory_octets=100_000)

    async def run() -> list[Exchange]:
        exchanges = [Exchange(*chunks) for _ in range(3)]
        await asyncio.gather(*(own(one.scope, one.receive, one.send) for one in exchanges))
        return exchanges

    exchanges = asyncio.run(run())

    assert all(one.body == whole[:octets] for one in exchanges)
    assert (own.bodies.held, own.bodies.in_memory) == (0, 0)


def test_the_slowest_makes_room_and_only_for_its_own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relayweb.serving.bodies.YOUNG_SECONDS", 0.5)
    own = shell(echo, bodies_per_address=2, silence_seconds=5)

    async def run() -> list[Exchange]:
        slow = Exchange(b"a", length=100)
        slow.events[0]["more_body"] = True
        steady = Exchange(b"a" * 50, length=100)
        steady.events[0]["more_body"] = True
        running = [asyncio.create_task(own(one.scope, one.receive, one.send)) for one in (slow, steady)]
        early = Exchange(b"abc")
        await asyncio.sleep(0.1)
        await own(early.scope, early.receive, early.send)
        await asyncio.sleep(0.5)
        late, other = Exchange(b"abc"), Exchange(b"abc", address="192.0.2.2")
        await asyncio.gather(*(own(one.scope, one.receive, one.send) for one in (other, late)))
        steady.events.append({"type": "http.request", "body": b"a" * 50})
        running[1].cancel()
        await asyncio.wait(running)
        return [slow, early, late, other]

    slow, early, late, other = asyncio.run(run())

    assert early.status == 429  # nobody had been there for long enough to be called slow
    assert slow.status == 408
    assert (late.status, other.status) == (200, 200)
    assert own.bodies.held == 0


def test_what_all_bodies_hold_together_is_bounded() -> None:
    own = shell(echo, held_octets=MEGABYTE)

    async def run() -> Exchange:
        exchange = Exchange(*[bytes(MEGABYTE // 2)] * 3)
        await own(exchange.scope, exchange.receive, exchange.send)
        return exchange

    assert asyncio.run(run()).status == 503
    assert own.bodies.held == 0


def test_a_reader_who_stops_holds_no_thread_and_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []

    class Pieces:
        def __iter__(self) -> Iterator[bytes]:
            return iter([bytes(100_000)] * 3)

        def close(self) -> None:
            closed.append("closed")

    def handler(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        start_response("200 OK", [])
        return Pieces() if environ["REMOTE_ADDR"] == "192.0.2.9" else [b"short"]

    monkeypatch.setattr("relayweb.serving.shell.SENDING_SECONDS", 0.3)
    own = shell(handler)

    async def run() -> tuple[Exchange, Exchange, Exchange]:
        stuck, other, fast = Exchange(address="192.0.2.9"), Exchange(), Exchange(address="192.0.2.9")
        stuck.is_reading.clear()
        waiting = asyncio.create_task(own(stuck.scope, stuck.receive, stuck.send))
        await asyncio.sleep(0.05)
        async with asyncio.timeout(0.2):
            await own(other.scope, other.receive, other.send)
        await own(fast.scope, fast.receive, fast.send)
        await waiting
        return stuck, other, fast

    stuck, other, fast = asyncio.run(run())

    assert other.body == b"short"
    assert fast.body == bytes(300_000)
    assert stuck.sent == []
    assert closed == ["closed", "closed"]


def test_who_closes_its_side_within_a_body_is_told_and_takes_no_thread() -> None:
    def handler(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        raise AssertionError("no page is made")

    own, exchange = shell(handler), Exchange(b"abc", length=9)
    exchange.events.append({"type": "http.disconnect"})
    exchange.events[0]["more_body"] = True

    asyncio.run(own(exchange.scope, exchange.receive, exchange.send))

    assert exchange.status == 400
    assert (own.bodies.held, exchange.body) == (0, b"")
