"""Behind a load balancer: the address that it tells counts, and nobody else is believed."""

from __future__ import annotations

import asyncio
import ipaddress
import shutil
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpgate.proxy_protocol import ProxyHeaderError, read_source
from tests.support.desk import Desk
from tests.support.waiting import until
from tests.support.wire import CLIENT_TLS, Closed, Wire

PROXY = "127.0.0.2"
PROXIES = [ipaddress.ip_network(PROXY)]
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def binary(source: str, *, kind: int = 0x21, more: bytes = b"") -> bytes:
    address = ipaddress.ip_address(source)
    family = 0x11 if address.version == 4 else 0x21
    rest = address.packed * 2 + struct.pack("!2H", 4711, 587) + more
    return SIGNATURE + struct.pack("!2BH", kind, family, len(rest)) + rest


def read(octets: bytes) -> tuple[str | None, bytes]:
    """What is told, and what was left unread."""
    left = bytearray(octets)

    async def receive(most: int) -> bytes:
        piece = bytes(left[: min(most, 3)])  # in small pieces, as a network may
        del left[: len(piece)]
        return piece

    return asyncio.run(read_source(receive)), bytes(left)


@pytest.mark.parametrize(
    ("header", "source"),
    [
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 587\r\n", "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 587\r\n", "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN 2001:db8::7 2001:db8::1 4711 587\r\n", None),
        (binary("192.0.2.7"), "192.0.2.7"),
        (binary("2001:db8::7"), "2001:db8::7"),
        (binary("192.0.2.7", more=b"\x03\x00\x04\x01\x02\x03\x04"), "192.0.2.7"),  # a checksum behind the addresses
        (binary("192.0.2.7", kind=0x20), None),  # a health check
        (SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216), None),  # a unix socket
    ],
)
def test_a_header_tells_the_peer_and_takes_nothing_else(header: bytes, source: str | None) -> None:
    assert read(header + b"EHLO client.test\r\n") == (source, b"EHLO client.test\r\n")


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"EHLO client.test\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 587\n",
        b"PROXY TCP4 192.0.2.7\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 4711 587\r\n",
        b"PROXY TCP6 192.0.2.7 198.51.100.1 4711 587\r\n",
        b"PROXY TCP4 mail.test 198.51.100.1 4711 587\r\n",
        b"PROXY TCP4 192.0.2.7" + b" " * 200 + b"\r\n",
        b"PROXY UDP4 192.0.2.7 198.51.100.1 4711 587\r\n",
        binary("192.0.2.7", kind=0x11),
        binary("192.0.2.7", kind=0x22),
        binary("192.0.2.7")[:-1],
        SIGNATURE + b"\x21\x11\x00\x04" + bytes(4),
        SIGNATURE + b"\x21\x11\xff\xff" + bytes(0xFFFF),
    ],
)
def test_anything_else_is_no_header(octets: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        read(octets)


@given(st.binary(max_size=60), st.sampled_from([b"", b"PROXY ", SIGNATURE, SIGNATURE + b"\x21\x11", b"PROXY TCP4 "]))
def test_no_octets_do_harm(octets: bytes, before: bytes) -> None:
    try:
        source, _ = read(before + octets)
    except ProxyHeaderError:
        return
    assert source is None or ipaddress.ip_address(source)


@pytest.mark.parametrize("header", [b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 587\r\n", binary("192.0.2.7")])
@pytest.mark.parametrize("is_implicit_tls", [False, True])
def test_the_address_that_the_proxy_tells_counts(
    open_desk: Callable[..., Desk], header: bytes, is_implicit_tls: bool
) -> None:
    desk = open_desk(proxies=PROXIES)
    with Wire(desk.implicit_address if is_implicit_tls else desk.address, source=PROXY) as wire:
        wire.send(header)
        if is_implicit_tls:
            wire.start_tls(CLIENT_TLS)
        wire.greet()
        wire.envelope(b"alice@acme.test", b"bob@example.com")
        assert wire.content(b"x\r\n").code == 250

    assert [taken.peer for taken in desk.taken] == ["192.0.2.7"]


def test_each_peer_behind_a_proxy_has_places_of_its_own(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(proxies=PROXIES, connections_per_address=2)
    with ExitStack() as crowd:

        def come(address: str) -> int:
            wire = crowd.enter_context(Wire(desk.address, source=PROXY))
            wire.send(f"PROXY TCP4 {address} 127.0.0.1 4711 587\r\n".encode())
            return wire.reply().code

        assert [come("192.0.2.7") for _ in range(3)] == [220, 220, 421]
        assert come("192.0.2.8") == 220
    until(lambda: desk.boundary.session_count == 0, what="the crowd leaving")


def test_a_proxy_that_does_not_say_whose_connection_it_is_gets_no_word(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(proxies=PROXIES)
    with Wire(desk.address, source=PROXY) as wire:
        wire.send(b"EHLO client.test\r\n")

        with pytest.raises((Closed, ConnectionError)):
            wire.reply()


def test_a_proxys_own_health_check_is_greeted(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(proxies=PROXIES)
    with Wire(desk.address, source=PROXY) as wire:
        wire.send(binary("192.0.2.7", kind=0x20))

        assert wire.reply().code == 220


def test_nobody_else_can_name_an_address(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(proxies=PROXIES)
    with Wire(desk.address, source="127.0.0.3") as wire:
        assert wire.reply().code == 220
        assert wire.say(b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 587").code == 500
        assert wire.say(b"EHLO client.test").code == 250
        wire.envelope(b"alice@acme.test", b"bob@example.com")
        assert wire.content(b"x\r\n").code == 250

    assert [taken.peer for taken in desk.taken] == ["127.0.0.3"]


# ---------------------------------------------------------------- the real program


@contextmanager
def haproxy(folder: Path, gate: tuple[str, int], word: str) -> Iterator[int]:
    program = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if program is None:
        pytest.skip("haproxy is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "haproxy.cfg").write_text(
        f"""
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen smtp
    bind 127.0.0.1:{port}
    server gate {gate[0]}:{gate[1]} source {PROXY} {word}
"""
    )
    process = subprocess.Popen([program, "-q", "-f", str(folder / "haproxy.cfg")], stderr=subprocess.DEVNULL)
    try:
        until(lambda: _answers(port), what="haproxy")
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("word", ["send-proxy", "send-proxy-v2"])
def test_mail_through_haproxy_shows_its_peer(open_desk: Callable[..., Desk], tmp_path: Path, word: str) -> None:
    desk = open_desk(proxies=PROXIES)
    with (
        haproxy(tmp_path, desk.address, word) as port,
        Wire(("127.0.0.1", port), source="127.0.0.9") as wire,
    ):
        wire.greet()
        assert wire.say(b"STARTTLS").code == 220
        wire.start_tls(CLIENT_TLS)
        wire.say(b"EHLO client.test")
        wire.envelope(b"alice@acme.test", b"bob@example.com")
        assert wire.content(b"x\r\n").code == 250

    assert [taken.peer for taken in desk.taken] == ["127.0.0.9"]
