from __future__ import annotations

import asyncio
from typing import Any

import pytest

from delivery.core.reply import Origin, Phase
from delivery.transport.hops import Hop
from delivery.transport.pool import ConnectionPool
from delivery.transport.session import SessionFailed
from delivery.transport.tls_policy import BrokenTls, TlsMode, TlsPolicy
from delivery.transport.transcript import Transcript
from delivery.transport.wire import FailureKind
from tests.support.smtp_client import TIMEOUTS, deliver, hop_to, texts, until_unusable
from tests.support.smtp_peer import Close, Silence, SmtpPeer, Wait

PLAIN = TlsPolicy(TlsMode.NONE)


def pool_with(**options: Any) -> ConnectionPool:
    settings: dict[str, Any] = {
        "source_address": None,
        "ehlo_name": "relay.test",
        "timeouts": TIMEOUTS,
        "broken_tls": BrokenTls(),
    }
    return ConnectionPool(**(settings | options))


async def acquire(pool: ConnectionPool, *hops: Hop, **options: Any):
    settings: dict[str, Any] = {"tls": PLAIN, "transcript": Transcript()}
    return await pool.acquire(hops, **(settings | options))


async def nobody() -> Hop:
    """A hop where nothing listens."""
    async with SmtpPeer() as peer:
        return hop_to(peer)


# Keeping connections


async def test_a_released_connection_carries_the_next_message():
    async with SmtpPeer() as peer:
        pool = pool_with()

        for _ in range(3):
            session = await acquire(pool, hop_to(peer))
            await deliver(session)
            pool.release(session)

        assert len(peer.connections) == 1
        assert len(peer.connections[0].contents) == 3
        assert (pool.connections, pool.idle) == (1, 1)
        await pool.close_all()


async def test_a_connection_has_one_user():
    async with SmtpPeer() as peer:
        pool = pool_with()

        first, second = await acquire(pool, hop_to(peer)), await acquire(pool, hop_to(peer))

        assert first is not second
        assert (pool.connections, pool.idle) == (2, 0)
        pool.release(first)
        pool.release(second)
        await pool.close_all()


async def test_the_connection_used_last_is_taken_first():
    async with SmtpPeer() as peer:
        pool = pool_with()
        first, second = await acquire(pool, hop_to(peer)), await acquire(pool, hop_to(peer))
        pool.release(second)
        pool.release(first)

        assert await acquire(pool, hop_to(peer)) is first
        assert await acquire(pool, hop_to(peer)) is second
        pool.release(first)
        pool.release(second)
        await pool.close_all()


async def test_a_kept_connection_is_used_for_any_of_the_hops_best_first():
    async with SmtpPeer() as best, SmtpPeer() as other:
        pool = pool_with()
        to_other = await acquire(pool, hop_to(other))
        to_best = await acquire(pool, hop_to(best))
        pool.release(to_best)
        pool.release(to_other)

        assert await acquire(pool, hop_to(best), hop_to(other)) is to_best
        assert await acquire(pool, hop_to(best), hop_to(other)) is to_other
        pool.release(to_best)
        pool.release(to_other)
        await pool.close_all()


@pytest.mark.parametrize("tls", [TlsPolicy(TlsMode.OPPORTUNISTIC), TlsPolicy(TlsMode.NONE, "ca.pem")])
async def test_a_connection_is_not_shared_between_policies(tls):
    async with SmtpPeer() as peer:
        pool = pool_with()
        session = await acquire(pool, hop_to(peer))
        pool.release(session)

        other = await acquire(pool, hop_to(peer), tls=tls)

        assert other is not session
        pool.release(other)
        await pool.close_all()


async def test_a_connection_is_closed_politely_after_its_last_message():
    async with SmtpPeer() as peer:
        pool = pool_with(max_messages=2)

        for _ in range(3):
            session = await acquire(pool, hop_to(peer))
            await deliver(session)
            pool.release(session)
        await peer.connections[0].is_closed.wait()

        assert [len(connection.contents) for connection in peer.connections] == [2, 1]
        assert peer.connections[0].verbs[-1] == "QUIT"
        await pool.close_all()


async def test_the_number_of_messages_can_be_changed_at_any_time():
    async with SmtpPeer() as peer:
        pool = pool_with(max_messages=100)
        session = await acquire(pool, hop_to(peer))
        await deliver(session)

        pool.max_messages = 1
        pool.release(session)
        await peer.connections[0].is_closed.wait()

        assert pool.idle == 0


async def test_an_idle_connection_is_closed_politely_after_a_while():
    async with SmtpPeer() as peer:
        pool = pool_with(idle_seconds=0.01)
        pool.release(await acquire(pool, hop_to(peer)))

        await peer.connections[0].is_closed.wait()

        assert peer.connections[0].verbs == ["EHLO", "QUIT"]
        assert pool.idle == 0


async def test_a_connection_in_use_is_never_idle():
    finish = asyncio.Event()
    async with SmtpPeer(dot=[[Wait(finish), "250 ok"]]) as peer:
        pool = pool_with(idle_seconds=0.01)
        pool.release(await acquire(pool, hop_to(peer)))
        session = await acquire(pool, hop_to(peer))
        delivering = asyncio.create_task(deliver(session))
        await peer.until(lambda: bool(peer.connections[0].contents))
        await asyncio.sleep(0.03)  # longer than idle connections are kept

        finish.set()

        assert (await delivering).reply.code == 250
        pool.release(session)
        await pool.close_all()


async def test_a_connection_that_the_peer_closed_is_not_handed_out():
    hang_up = asyncio.Event()
    async with SmtpPeer(dot=[["250 ok", Wait(hang_up), Close], "250 ok"]) as peer:
        pool = pool_with()
        session = await acquire(pool, hop_to(peer))
        await deliver(session)
        pool.release(session)

        hang_up.set()
        await until_unusable(session)
        fresh = await acquire(pool, hop_to(peer))

        assert fresh is not session
        assert (await deliver(fresh)).reply.code == 250
        pool.release(fresh)
        await pool.close_all()
        assert pool.connections == 0


async def test_a_stale_connection_is_followed_by_a_fresh_one():
    async with SmtpPeer(mail=["250 ok", "250 ok", Close, "250 ok"]) as peer:
        pool = pool_with()
        hop = hop_to(peer)
        first, second = await acquire(pool, hop), await acquire(pool, hop)
        for session in (first, second):
            await deliver(session)
            pool.release(session)
        session = await acquire(pool, hop)
        assert (await deliver(session)).is_stale
        pool.release(session)

        fresh = await acquire(pool, hop, is_fresh=True)

        assert fresh not in (first, second)
        assert (await deliver(fresh)).reply.code == 250
        pool.release(fresh)
        await pool.close_all()


async def test_closing_says_goodbye_to_idle_ones_and_takes_the_others_when_they_come_back():
    async with SmtpPeer() as peer:
        pool = pool_with()
        idle, used = await acquire(pool, hop_to(peer)), await acquire(pool, hop_to(peer))
        pool.release(idle)

        await pool.close_all()
        await peer.connections[0].is_closed.wait()
        assert peer.open_connections == 1
        pool.release(used)
        await peer.connections[1].is_closed.wait()

        assert [connection.verbs[-1] for connection in peer.connections] == ["QUIT", "QUIT"]
        await pool.close_all()
        assert pool.connections == 0


# How many


async def test_idle_connections_make_room_before_another_is_opened():
    async with SmtpPeer() as one, SmtpPeer() as two:
        pool = pool_with(max_connections=2)
        pool.release(await acquire(pool, hop_to(one)))
        busy = await acquire(pool, hop_to(two))

        other = await acquire(pool, hop_to(two))

        # The goodbye was answered before the new connection was opened.
        assert one.connections[0].verbs[-1] == "QUIT"
        assert one.connections[0].is_closed.is_set()
        assert pool.connections == 2
        pool.release(busy)
        pool.release(other)
        await pool.close_all()


async def test_a_peer_never_sees_more_connections_than_allowed():
    most = 0
    async with SmtpPeer() as peer:
        pool = pool_with(max_connections=3, max_messages=2)
        permits = asyncio.Semaphore(3)

        async def send_one() -> None:
            nonlocal most
            async with permits:
                session = await acquire(pool, hop_to(peer))
                most = max(most, peer.open_connections)
                await deliver(session)
                pool.release(session)

        await asyncio.gather(*(send_one() for _ in range(40)))

        assert most <= 3
        assert sum(len(connection.contents) for connection in peer.connections) == 40
        assert max(len(connection.contents) for connection in peer.connections) == 2
        await pool.close_all()


async def test_waiting_for_room_can_be_cancelled():
    async with SmtpPeer(quit=[Silence]) as peer:
        pool = pool_with(max_connections=1, max_messages=0)
        pool.release(await acquire(pool, hop_to(peer)))
        waiting = asyncio.create_task(acquire(pool, hop_to(peer)))
        await peer.until(lambda: peer.connections[0].verbs[-1] == "QUIT")

        waiting.cancel()

        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert pool.connections == 1  # the one that is leaving


# The next address


async def test_the_next_hop_is_taken_where_nobody_listens():
    async with SmtpPeer() as peer:
        pool = pool_with()
        transcript = Transcript()
        dead = await nobody()

        session = await acquire(pool, dead, hop_to(peer), transcript=transcript)

        assert session.hop == hop_to(peer)
        assert texts(transcript)[:3] == [
            f"* connecting to {dead}",
            "* connection refused",
            f"* connecting to {hop_to(peer)}",
        ]
        pool.release(session)
        await pool.close_all()


@pytest.mark.parametrize(
    "script",
    [
        {"banner": ["421 4.3.2 busy"]},
        {"banner": ["554 5.7.1 blocked"]},
        {"ehlo": ["421 4.3.2 busy"]},
        {"ehlo": ["554 5.7.1 blocked"], "helo": ["554 5.7.1 blocked"]},
        {"banner": [Close]},
        {"banner": ["hello"]},
    ],
)
async def test_the_next_hop_is_taken_where_a_host_does_not_want_us(script):
    async with SmtpPeer(**script) as unwilling, SmtpPeer() as willing:
        pool = pool_with()

        session = await acquire(pool, hop_to(unwilling), hop_to(willing))

        assert session.hop == hop_to(willing)
        pool.release(session)
        await pool.close_all()


async def test_at_most_five_addresses_are_dialled():
    async with SmtpPeer(banner=["421 busy"]) as busy:
        hops = [Hop(f"mx{number}.test", busy.port, "127.0.0.1", "mx.test") for number in range(8)]
        pool = pool_with()

        with pytest.raises(SessionFailed) as caught:
            await acquire(pool, *hops)

        assert len(busy.connections) == 5
    assert [failure.hop for failure in caught.value.failures] == hops[:5]
    assert pool.connections == 0


@pytest.mark.parametrize(
    ("banners", "line"),
    [
        (["554 5.7.1 blocked", "421 4.3.2 busy"], "421 4.3.2 busy"),
        (["421 4.3.2 busy", "450 4.7.1 later"], "421 4.3.2 busy"),
        ([None, "421 4.3.2 busy"], "421 4.3.2 busy"),
        (["554 5.7.1 blocked", None], "421 4.4.1 connection refused"),
        (["554 5.7.1 blocked", "550 5.7.1 listed"], "554 5.7.1 blocked"),
    ],
)
async def test_the_reply_is_permanent_only_where_every_host_says_so(banners, line):
    async with SmtpPeer(banner=[banners[0] or ""]) as one, SmtpPeer(banner=[banners[1] or ""]) as two:
        dead = await nobody()
        hops = [hop_to(peer) if banner else dead for peer, banner in zip((one, two), banners, strict=True)]

        with pytest.raises(SessionFailed) as caught:
            await acquire(pool_with(), *hops)

    assert caught.value.reply.line == line
    assert len(caught.value.failures) == 2


async def test_a_source_address_that_cannot_be_bound_is_not_tried_at_the_next_hop():
    async with SmtpPeer() as one, SmtpPeer() as two:
        pool = pool_with(source_address="198.51.100.7")

        with pytest.raises(SessionFailed) as caught:
            await acquire(pool, hop_to(one), hop_to(two))

    assert caught.value.kind is FailureKind.CANNOT_BIND
    assert len(caught.value.failures) == 1


# Broken TLS


async def test_broken_tls_is_followed_by_plain_text_once_and_remembered(authority):
    async with SmtpPeer(tls=authority.server_context("mx.acme.test"), starttls=[["220 go", Close]]) as peer:
        broken = BrokenTls()
        pool = pool_with(broken_tls=broken)
        first, second = Transcript(), Transcript()

        session = await acquire(pool, hop_to(peer), tls=TlsPolicy(), transcript=first)
        delivery = await deliver(session, transcript=first)
        another = await acquire(pool, hop_to(peer), tls=TlsPolicy(), transcript=second)

        assert delivery.reply.code == 250
        assert [connection.verbs[:2] for connection in peer.connections] == [
            ["EHLO", "STARTTLS"],
            ["EHLO", "MAIL"],
            ["EHLO"],
        ]
        assert "* connecting again without TLS" in texts(first)
        assert "was found broken before" in texts(second)[0]
        assert broken.contains(f"127.0.0.1:{peer.port}")
        pool.release(session)
        pool.release(another)
        assert await acquire(pool, hop_to(peer), tls=TlsPolicy()) is another
        pool.release(another)
        await pool.close_all()


async def test_a_policy_that_demands_tls_does_not_care_what_was_broken(authority):
    async with SmtpPeer(tls=authority.server_context("mx.acme.test"), starttls=["454 no"]) as peer:
        broken = BrokenTls()
        broken.remember(f"127.0.0.1:{peer.port}")
        pool = pool_with(broken_tls=broken)

        with pytest.raises(SessionFailed) as caught:
            await acquire(pool, hop_to(peer), tls=TlsPolicy(TlsMode.REQUIRED))

        assert peer.connections[0].verbs[:2] == ["EHLO", "STARTTLS"]
    assert caught.value.kind is FailureKind.TLS
    assert (caught.value.reply.phase, caught.value.reply.origin) == (Phase.STARTTLS, Origin.TLS)


async def test_a_cancelled_opening_does_not_count_as_in_use():
    async with SmtpPeer(banner=[Silence]) as peer:
        pool = pool_with()
        opening = asyncio.create_task(acquire(pool, hop_to(peer)))
        await peer.until(lambda: bool(peer.connections))

        opening.cancel()

        with pytest.raises(asyncio.CancelledError):
            await opening
        assert pool.connections == 0
