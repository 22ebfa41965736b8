"""How a session opens: greeting, EHLO or HELO, STARTTLS, and what becomes of hosts that do it badly."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest

from delivery.core.reply import Origin, Phase
from delivery.transport.hops import Hop
from delivery.transport.session import SessionFailed
from delivery.transport.transcript import Transcript
from delivery.transport.wire import FailureKind
from tests.support.smtp_client import IMPATIENT, deliver, open_session, texts
from tests.support.smtp_peer import Close, Raw, Reset, Silence, SmtpPeer


async def failure_of(opening) -> SessionFailed:
    with pytest.raises(SessionFailed) as caught:
        await opening
    return caught.value


async def test_it_greets_with_its_name_and_reads_what_the_host_offers():
    async with SmtpPeer(extensions=["SIZE 1000", "8BITMIME", "PIPELINING"]) as peer:
        session = await open_session(peer)

        assert peer.connections[0].commands == [b"EHLO relay.test"]
        assert (session.has_8bitmime, session.has_pipelining, session.has_smtputf8) == (True, True, False)
        assert session.size_limit == 1000
        assert session.is_usable
        assert session.tls_version is None
        session.close()


@pytest.mark.parametrize("offered", ["SIZE", "SIZE 0", "SIZE many", "SIZE " + "9" * 30])
async def test_a_size_that_is_no_limit_is_none(offered):
    async with SmtpPeer(extensions=[offered]) as peer:
        session = await open_session(peer)

        assert session.size_limit is None
        session.close()


async def test_it_falls_back_to_helo_where_ehlo_is_not_known():
    async with SmtpPeer(ehlo=["502 5.5.1 not implemented"]) as peer:
        session = await open_session(peer)

        assert peer.connections[0].commands == [b"EHLO relay.test", b"HELO relay.test"]
        assert not session.has_pipelining
        delivery = await deliver(session)
        assert delivery.reply.code == 250
        session.close()


async def test_it_reads_a_banner_of_many_lines():
    async with SmtpPeer(banner=["220-peer.test\r\n220-be nice\r\n220 ESMTP"]) as peer:
        transcript = Transcript()

        session = await open_session(peer, transcript=transcript)

        assert "< 220-peer.test\n220-be nice\n220 ESMTP" in texts(transcript)
        session.close()


@pytest.mark.parametrize(
    ("script", "phase", "code"),
    [
        ({"banner": ["421 4.3.2 too busy"]}, Phase.CONNECT, 421),
        ({"banner": ["554 5.7.1 go away"]}, Phase.CONNECT, 554),
        ({"ehlo": ["421 4.3.2 too busy"]}, Phase.HELO, 421),
        ({"ehlo": ["554 5.7.1 go away"], "helo": ["554 5.7.1 go away"]}, Phase.HELO, 554),
        ({"ehlo": [["554 5.7.1 go away", Close]]}, Phase.HELO, 554),
    ],
)
async def test_a_refusal_before_mail_is_the_peers_own_reply(script, phase, code):
    async with SmtpPeer(**script) as peer:
        failure = await failure_of(open_session(peer))
        await peer.connections[0].is_closed.wait()

    assert (failure.reply.phase, failure.reply.code, failure.reply.origin) == (phase, code, Origin.PEER)
    assert failure.kind is FailureKind.ANSWERED


@pytest.mark.parametrize(
    ("script", "phase", "kind"),
    [
        ({"banner": [Close]}, Phase.CONNECT, FailureKind.CLOSED),
        ({"banner": [Reset]}, Phase.CONNECT, FailureKind.RESET),
        ({"banner": [Silence]}, Phase.CONNECT, FailureKind.TIMEOUT),
        ({"banner": [[Raw(b"220-still thinking\r\n"), Close]]}, Phase.CONNECT, FailureKind.CLOSED),
        ({"banner": [[Raw(b"220-still thinking\r\n"), Silence]]}, Phase.CONNECT, FailureKind.TIMEOUT),
        ({"banner": ["HTTP/1.1 400 Bad Request"]}, Phase.CONNECT, FailureKind.NOT_SMTP),
        ({"banner": ["999 what is this"]}, Phase.CONNECT, FailureKind.NOT_SMTP),
        ({"banner": ["\x16\x03\x01"]}, Phase.CONNECT, FailureKind.NOT_SMTP),
        ({"ehlo": [Close]}, Phase.HELO, FailureKind.CLOSED),
        ({"ehlo": [Silence]}, Phase.HELO, FailureKind.TIMEOUT),
    ],
)
async def test_a_connection_that_dies_is_a_made_up_421(script, phase, kind):
    async with SmtpPeer(**script) as peer:
        failure = await failure_of(open_session(peer, timeouts=IMPATIENT))

    assert failure.kind is kind
    assert (failure.reply.phase, failure.reply.code, failure.reply.origin) == (phase, 421, Origin.NETWORK)


async def test_a_refused_connection_says_so():
    async with SmtpPeer() as peer:
        hop = Hop("mx.acme.test", peer.port, "127.0.0.1", "mx.acme.test")

    failure = await failure_of(open_session(hop))

    assert failure.kind is FailureKind.REFUSED
    assert failure.reply.line == "421 4.4.1 connection refused"
    assert failure.hop == hop


async def test_an_unreachable_address_says_so():
    # Bound to loopback, the kernel cannot route to another network.
    hop = Hop("mx.acme.test", 25, "198.41.0.4", "mx.acme.test")

    failure = await failure_of(open_session(hop, source_address="127.0.0.1", timeouts=IMPATIENT))

    assert failure.kind in (FailureKind.UNREACHABLE, FailureKind.TIMEOUT)
    assert (failure.reply.phase, failure.reply.code) == (Phase.CONNECT, 421)


async def test_a_connection_that_is_never_made_times_out():
    with socket.socket() as listener:
        # A full backlog lets the kernel drop further attempts without a word.
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            assert filler.connect_ex(("127.0.0.1", port)) in (0, errno.EINPROGRESS)
            fillers.append(filler)

        failure = await failure_of(open_session(Hop("mx.test", port, "127.0.0.1", "mx.test"), timeouts=IMPATIENT))

        for filler in fillers:
            filler.close()
    assert failure.kind is FailureKind.TIMEOUT
    assert failure.reply.line == "421 4.4.1 no connection within 0.4 seconds"


async def test_it_connects_from_the_source_address():
    async with SmtpPeer() as peer:
        session = await open_session(peer, source_address="127.0.0.77")

        assert peer.connections[0].peer_address == "127.0.0.77"
        assert session.local_address == "127.0.0.77"
        session.close()


async def test_it_speaks_ipv6():
    async with SmtpPeer(host="::1") as peer:
        session = await open_session(peer, source_address="::1")

        assert peer.connections[0].peer_address == "::1"
        session.close()


async def test_a_source_address_that_is_not_ours_is_told_apart():
    async with SmtpPeer() as peer:
        failure = await failure_of(open_session(peer, source_address="198.51.100.7"))

        assert peer.connections == []
    assert failure.kind is FailureKind.CANNOT_BIND
    assert failure.reply.is_transient
    assert failure.reply.origin is Origin.NETWORK
    assert "cannot bind the source address 198.51.100.7" in failure.reply.text


async def test_a_source_address_of_the_other_family_cannot_be_bound():
    async with SmtpPeer() as peer:
        failure = await failure_of(open_session(peer, source_address="::1"))

    assert failure.kind is FailureKind.CANNOT_BIND


async def test_a_cancelled_opening_leaves_no_connection():
    async with SmtpPeer(banner=[Silence]) as peer:
        opening = asyncio.create_task(open_session(peer))
        await peer.until(lambda: bool(peer.connections))

        opening.cancel()

        with pytest.raises(asyncio.CancelledError):
            await opening
        await peer.connections[0].is_closed.wait()
