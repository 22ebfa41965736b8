from __future__ import annotations

import asyncio
import errno
import socket
from dataclasses import replace

import pytest

from delivery.core.reply import Origin, Phase
from delivery.transport import session as session_module
from delivery.transport.hops import Hop
from delivery.transport.session import FenceLost, SessionFailed
from delivery.transport.transcript import Transcript
from delivery.transport.wire import FailureKind
from tests.support.smtp_client import CONTENT, IMPATIENT, TIMEOUTS, Mark, deliver, open_session, texts, until_unusable
from tests.support.smtp_peer import Call, Close, Raw, Reset, Silence, SmtpPeer, StopReading, Wait

STEP_BY_STEP = ["8BITMIME", "SIZE 1000000"]


async def failure_of(opening) -> SessionFailed:
    with pytest.raises(SessionFailed) as caught:
        await opening
    return caught.value


# Opening a session


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


# A transaction that works


@pytest.mark.parametrize("extensions", [["PIPELINING", "8BITMIME", "SIZE 1000000"], STEP_BY_STEP])
async def test_it_delivers_and_gives_the_reply_to_the_dot(extensions):
    async with SmtpPeer(extensions=extensions, dot=["250 2.0.0 queued as 4711"]) as peer:
        session = await open_session(peer)
        mark = Mark()

        delivery = await deliver(session, mark_dot=mark)

        assert delivery.reply.line == "250 2.0.0 queued as 4711"
        assert (delivery.reply.phase, delivery.reply.origin) == (Phase.EOD, Origin.PEER)
        assert (delivery.dot_sent, delivery.is_ambiguous, delivery.is_stale) == (True, False, False)
        assert mark.calls == 1
        assert peer.connections[0].commands[1:] == [
            b"MAIL FROM:<bounce@relay.test> SIZE=%d" % len(CONTENT),
            b"RCPT TO:<bob@acme.test>",
            b"DATA",
        ]
        assert peer.connections[0].contents == [CONTENT]
        assert session.messages == 1
        session.close()


async def test_the_envelope_goes_out_in_one_piece_where_the_host_pipelines():
    async with SmtpPeer() as peer:
        session = await open_session(peer)

        await deliver(session)

        assert peer.connections[0].segments[1] == (
            b"MAIL FROM:<bounce@relay.test> SIZE=%d\r\nRCPT TO:<bob@acme.test>\r\nDATA\r\n" % len(CONTENT)
        )
        session.close()


async def test_it_waits_for_every_reply_where_the_host_does_not_pipeline():
    async with SmtpPeer(extensions=STEP_BY_STEP) as peer:
        session = await open_session(peer)

        await deliver(session)

        firsts = [segment[:4] for segment in peer.connections[0].segments[1:4]]
        assert firsts == [b"MAIL", b"RCPT", b"DATA"]
        session.close()


async def test_parameters_are_given_only_where_they_are_offered():
    async with SmtpPeer(extensions=[]) as plain, SmtpPeer() as modern:
        old, new = await open_session(plain), await open_session(modern)

        await deliver(old)
        await deliver(new, body="8BITMIME", smtputf8=True, recipient="ボブ@acme.test")

        assert plain.connections[0].commands[1] == b"MAIL FROM:<bounce@relay.test>"
        assert modern.connections[0].commands[1:3] == [
            b"MAIL FROM:<bounce@relay.test> SIZE=%d BODY=8BITMIME SMTPUTF8" % len(CONTENT),
            "RCPT TO:<ボブ@acme.test>".encode(),
        ]
        old.close()
        new.close()


async def test_the_null_reverse_path_is_empty_brackets():
    async with SmtpPeer() as peer:
        session = await open_session(peer)

        await deliver(session, reverse_path="")

        assert peer.connections[0].commands[1].startswith(b"MAIL FROM:<> ")
        session.close()


@pytest.mark.parametrize(
    ("options", "enhanced"),
    [({"body": "8BITMIME"}, "5.6.3"), ({"smtputf8": True}, "5.6.7"), ({"recipient": "ボブ@acme.test"}, "5.6.7")],
)
async def test_what_the_host_cannot_take_is_not_offered(options, enhanced):
    async with SmtpPeer(extensions=["PIPELINING"]) as peer:
        session = await open_session(peer)

        delivery = await deliver(session, **options)

        assert delivery.reply.is_permanent
        assert (delivery.reply.enhanced, delivery.reply.origin) == (enhanced, Origin.OWN)
        assert peer.connections[0].verbs == ["EHLO"]
        assert session.is_usable
        session.close()


@pytest.mark.parametrize("field", ["reverse_path", "recipient"])
async def test_a_line_break_in_a_path_is_never_written(field):
    async with SmtpPeer() as peer:
        session = await open_session(peer)

        delivery = await deliver(session, **{field: "a@b.test>\r\nRCPT TO:<victim@acme.test"})

        assert delivery.reply.origin is Origin.OWN
        assert peer.connections[0].verbs == ["EHLO"]
        session.close()


async def test_it_uses_a_connection_for_one_message_after_another():
    async with SmtpPeer() as peer:
        session = await open_session(peer)

        for number in range(3):
            await deliver(session, b"Subject: %d\r\n\r\n" % number)

        assert len(peer.connections) == 1
        assert peer.connections[0].contents == [b"Subject: %d\r\n\r\n" % number for number in range(3)]
        assert "RSET" not in peer.connections[0].verbs
        assert session.messages == 3
        session.close()


async def test_two_transactions_at_once_are_a_mistake():
    async with SmtpPeer(dot=[Silence]) as peer:
        session = await open_session(peer)
        first = asyncio.create_task(deliver(session))
        await peer.until(lambda: bool(peer.connections[0].contents))

        with pytest.raises(RuntimeError):
            await deliver(session)

        first.cancel()


async def test_it_says_goodbye():
    async with SmtpPeer() as peer:
        session = await open_session(peer)

        await session.quit()

        await peer.connections[0].is_closed.wait()
        assert peer.connections[0].verbs == ["EHLO", "QUIT"]
        assert not session.is_usable


async def test_it_does_not_wait_long_for_an_answer_to_goodbye():
    async with SmtpPeer(quit=[Silence]) as peer:
        session = await open_session(peer, timeouts=IMPATIENT)

        await session.quit()

        assert not session.is_usable


async def test_nothing_is_said_after_the_dot_until_the_caller_wants_it():
    async with SmtpPeer() as peer:
        session = await open_session(peer)

        await deliver(session)
        heard = peer.connections[0].raw
        for _ in range(20):
            await asyncio.sleep(0)

        assert peer.connections[0].raw == heard
        assert heard.endswith(CONTENT + b".\r\n")
        session.close()


# Content on the wire


async def test_dots_are_doubled_and_given_back_byte_for_byte():
    content = b"Subject: dots\r\n\r\n.\r\n..two\r\n.one\r\na.\r\n"
    async with SmtpPeer() as peer:
        session = await open_session(peer)

        await deliver(session, [content[:17], memoryview(content)[17:19], content[19:]])

        assert peer.connections[0].contents == [content.replace(b"\n.", b"\n..")]
        session.close()


async def test_a_missing_final_line_ending_is_added():
    async with SmtpPeer() as peer:
        session = await open_session(peer)

        await deliver(session, b"Subject: x\r\n\r\nno end")

        assert peer.connections[0].contents == [b"Subject: x\r\n\r\nno end\r\n"]
        session.close()


async def test_empty_content_is_a_dot():
    async with SmtpPeer() as peer:
        session = await open_session(peer)

        delivery = await deliver(session, [])

        assert delivery.reply.code == 250
        assert peer.connections[0].contents == [b""]
        session.close()


async def test_large_content_arrives_whole():
    line = b".line of text that begins with a dot and is long enough\r\n"
    content = line * (5_000_000 // len(line))
    async with SmtpPeer() as peer:
        session = await open_session(peer)

        delivery = await deliver(session, [content[:3], memoryview(content)[3:]])

        assert delivery.reply.code == 250
        assert peer.connections[0].contents == [b"." + content.replace(b"\n.", b"\n..")]
        session.close()


@pytest.mark.parametrize("bad", [b"a\nb\r\n", b"a\rb\r\n", b"a\0b\r\n", b"\n.\n", b"\r\n.\r", b"x\r"])
@pytest.mark.parametrize("before", [b"", b"y" * 78 + b"\r\n"])
async def test_unsafe_content_never_reaches_its_final_dot(bad, before):
    async with SmtpPeer() as peer:
        session = await open_session(peer)
        mark = Mark()

        delivery = await deliver(session, [b"Subject: x\r\n\r\n", before * 2000, bad], mark_dot=mark)
        await peer.connections[0].is_closed.wait()

        assert (delivery.reply.code, delivery.reply.origin) == (451, Origin.OWN)
        assert not delivery.dot_sent
        assert mark.calls == 0
        assert peer.connections[0].contents == []
        assert not session.is_usable


# The dot gate


async def test_the_content_is_there_before_the_mark_and_the_dot_only_after_it():
    async with SmtpPeer() as peer:
        session = await open_session(peer)
        seen: list[bytes] = []

        async def meanwhile() -> None:
            await peer.until(lambda: peer.connections[0].unfinished == CONTENT)
            seen.append(peer.connections[0].raw)

        await deliver(session, mark_dot=Mark(meanwhile=meanwhile))

        assert seen[0].endswith(CONTENT)
        assert peer.connections[0].raw == seen[0] + b".\r\n"
        session.close()


async def test_a_refused_mark_drops_the_connection_without_a_dot():
    async with SmtpPeer() as peer:
        session = await open_session(peer)

        with pytest.raises(FenceLost):
            await deliver(session, mark_dot=Mark(False))
        await peer.connections[0].is_closed.wait()

        assert peer.connections[0].contents == []
        assert not peer.connections[0].raw.endswith(b"\r\n.\r\n")
        assert not session.is_usable


async def test_a_mark_that_fails_drops_the_connection_without_a_dot():
    async def failing() -> bool:
        raise OSError("the database is away")

    async with SmtpPeer() as peer:
        session = await open_session(peer)

        with pytest.raises(OSError, match="away"):
            await deliver(session, mark_dot=failing)
        await peer.connections[0].is_closed.wait()

        assert peer.connections[0].contents == []


@pytest.mark.parametrize("step", ["mail", "data", "dot"])
async def test_cancelling_drops_the_connection(step):
    async with SmtpPeer(**{step: [Silence]}) as peer:
        session = await open_session(peer)
        task = asyncio.create_task(deliver(session))
        wanted = (lambda: bool(peer.connections[0].contents)) if step == "dot" else None
        await peer.until(wanted or (lambda: step.upper() in peer.connections[0].verbs))

        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task
        await peer.connections[0].is_closed.wait()
        assert session.dot_is_out is (step == "dot")
        assert not session.is_usable


@pytest.mark.parametrize("turn", [["421 4.3.2 shutting down", Close], ["552 5.3.4 too big"]])
async def test_a_refusal_while_the_mark_is_made_keeps_the_dot_back(turn):
    heard = asyncio.Event()
    async with SmtpPeer(early_data=[*turn[:1], Call(heard.set), *turn[1:]], early_data_after=len(CONTENT)) as peer:
        session = await open_session(peer)

        async def meanwhile() -> None:
            await heard.wait()
            await until_unusable(session)

        delivery = await deliver(session, mark_dot=Mark(meanwhile=meanwhile))

        assert delivery.reply.line == turn[0]
        assert delivery.reply.phase is Phase.DATA
        assert (delivery.dot_sent, delivery.is_ambiguous) == (False, False)
        assert not session.is_usable


async def test_a_connection_lost_while_the_mark_is_made_is_not_ambiguous():
    async with SmtpPeer(early_data=[Close], early_data_after=len(CONTENT)) as peer:
        session = await open_session(peer)

        async def meanwhile() -> None:
            await until_unusable(session)

        delivery = await deliver(session, mark_dot=Mark(meanwhile=meanwhile))

        assert (delivery.reply.code, delivery.reply.phase) == (421, Phase.DATA)
        assert (delivery.dot_sent, delivery.is_ambiguous) == (False, False)


@pytest.mark.parametrize(
    ("turn", "text"),
    [
        (Close, "the host closed the connection"),
        (Reset, "connection reset by peer"),
        (Silence, "no reply within 0.4 seconds"),
        ("Segmentation fault", "the host does not speak SMTP, it said: Segmentation fault"),
        ("354 go on", "unexpected reply to the content: 354 go on"),
        ([Raw(b"250-almost\r\n"), Silence], "no reply within 0.4 seconds"),
    ],
)
async def test_a_loss_after_the_dot_is_ambiguous(turn, text):
    async with SmtpPeer(dot=[turn]) as peer:
        session = await open_session(peer, timeouts=IMPATIENT)

        delivery = await deliver(session)

        assert (delivery.dot_sent, delivery.is_ambiguous) == (True, True)
        assert (delivery.reply.phase, delivery.reply.code, delivery.reply.origin) == (Phase.EOD, 421, Origin.NETWORK)
        assert delivery.reply.text == text
        assert not session.is_usable


@pytest.mark.parametrize("code", [421, 450, 550])
async def test_a_refusal_after_the_dot_is_not_ambiguous(code):
    async with SmtpPeer(dot=[f"{code} no"]) as peer:
        session = await open_session(peer)

        delivery = await deliver(session)

        assert delivery.reply.code == code
        assert (delivery.dot_sent, delivery.is_ambiguous) == (True, False)
        assert session.is_usable is (code != 421)
        session.close()


async def test_a_late_reply_to_the_dot_is_waited_for():
    later = asyncio.Event()
    async with SmtpPeer(dot=[[Wait(later), "250 2.0.0 at last"]]) as peer:
        session = await open_session(peer)
        task = asyncio.create_task(deliver(session))
        await peer.until(lambda: bool(peer.connections[0].contents))
        assert session.dot_is_out

        later.set()

        assert (await task).reply.line == "250 2.0.0 at last"
        session.close()


# Refusals and losses before the dot


@pytest.mark.parametrize("extensions", [["PIPELINING"], []])
@pytest.mark.parametrize(("step", "phase"), [("mail", Phase.MAIL), ("rcpt", Phase.RCPT), ("data", Phase.DATA)])
@pytest.mark.parametrize("code", [450, 550])
async def test_a_refusal_has_its_phase_and_leaves_the_connection_usable(extensions, step, phase, code):
    refused = {"rcpt": {"data": ["503 5.5.1 no valid recipients", "354 go"]}, "mail": {"rcpt": ["503", "250 ok"]}}
    script = {step: [f"{code} no", "250 ok" if step != "data" else "354 go"]}
    if extensions:
        script |= refused.get(step, {})
        if step == "mail":
            script["data"] = ["503 5.5.1 no", "354 go"]
    async with SmtpPeer(extensions=extensions, **script) as peer:
        session = await open_session(peer)
        mark = Mark()

        refusal = await deliver(session, mark_dot=mark)
        success = await deliver(session)

        assert (refusal.reply.phase, refusal.reply.code, refusal.reply.text) == (phase, code, "no")
        assert not refusal.dot_sent
        assert mark.calls == 0
        assert success.reply.code == 250
        assert len(peer.connections) == 1
        # Only a transaction that was begun needs to be ended.
        assert ("RSET" in peer.connections[0].verbs) is (step != "mail")
        session.close()


async def test_the_reset_goes_out_together_with_the_next_mail():
    async with SmtpPeer(rcpt=["550 5.1.1 no such user", "250 ok"], data=["503 5.5.1 no", "354 go"]) as peer:
        session = await open_session(peer)

        await deliver(session)
        assert "RSET" not in peer.connections[0].verbs
        await deliver(session)

        assert peer.connections[0].segments[2].startswith(b"RSET\r\nMAIL FROM:")
        session.close()


@pytest.mark.parametrize("refused", ["mail", "rcpt"])
async def test_data_that_is_allowed_without_a_recipient_gets_a_lone_dot(refused):
    async with SmtpPeer(**{refused: ["550 5.1.1 no", "250 ok"]}, dot=["554 5.5.1 no recipients", "250 ok"]) as peer:
        session = await open_session(peer)
        mark = Mark()

        refusal = await deliver(session, mark_dot=mark)
        success = await deliver(session)

        assert refusal.reply.line == "550 5.1.1 no"
        assert (refusal.dot_sent, refusal.is_ambiguous, mark.calls) == (False, False, 0)
        assert peer.connections[0].contents == [b"", CONTENT]
        assert success.reply.code == 250
        session.close()


async def test_a_lone_dot_without_an_answer_costs_the_connection_only():
    async with SmtpPeer(rcpt=["550 5.1.1 no"], dot=[Close]) as peer:
        session = await open_session(peer)

        delivery = await deliver(session)

        assert delivery.reply.line == "550 5.1.1 no"
        assert not session.is_usable


@pytest.mark.parametrize("extensions", [["PIPELINING"], []])
@pytest.mark.parametrize("step", ["mail", "rcpt", "data"])
@pytest.mark.parametrize("closes", [True, False])
async def test_421_ends_the_use_of_the_connection(extensions, step, closes):
    turn = ["421 4.7.0 slow down", Close] if closes else "421 4.7.0 slow down"
    async with SmtpPeer(extensions=extensions, **{step: [turn]}) as peer:
        session = await open_session(peer)

        delivery = await deliver(session)

        assert delivery.reply.line == "421 4.7.0 slow down"
        assert (delivery.reply.phase, delivery.reply.origin) == (Phase(step), Origin.PEER)
        assert not delivery.is_stale
        assert not session.is_usable
        session.close()


async def test_a_refusal_followed_by_a_hang_up_is_the_refusal():
    async with SmtpPeer(mail=[["550 5.7.1 blocked", Close]]) as peer:
        session = await open_session(peer)

        delivery = await deliver(session)

        assert delivery.reply.line == "550 5.7.1 blocked"
        assert not session.is_usable


@pytest.mark.parametrize("extensions", [["PIPELINING"], []])
@pytest.mark.parametrize("step", ["mail", "rcpt", "data"])
@pytest.mark.parametrize(
    ("turn", "text"),
    [
        (Close, "the host closed the connection"),
        (Silence, "no reply within 0.4 seconds"),
        ("what?", "the host does not speak SMTP, it said: what?"),
    ],
)
async def test_a_loss_before_the_content_is_a_made_up_421(extensions, step, turn, text):
    async with SmtpPeer(extensions=extensions, **{step: [turn]}) as peer:
        session = await open_session(peer, timeouts=IMPATIENT)

        delivery = await deliver(session)

        assert (delivery.reply.code, delivery.reply.phase) == (421, Phase(step))
        assert delivery.reply.text == text
        assert delivery.reply.origin is Origin.NETWORK
        assert (delivery.dot_sent, delivery.is_ambiguous, delivery.is_stale) == (False, False, False)
        assert not session.is_usable


async def test_a_positive_reply_to_data_makes_no_sense_and_no_content_follows():
    async with SmtpPeer(data=["250 sure"]) as peer:
        session = await open_session(peer)

        delivery = await deliver(session)
        await peer.connections[0].is_closed.wait()

        assert (delivery.reply.code, delivery.reply.phase) == (421, Phase.DATA)
        assert peer.connections[0].verbs == ["EHLO", "MAIL", "RCPT", "DATA"]


BIG = b"x" * 998 + b"\r\n"


@pytest.mark.parametrize(("turn", "kinds"), [(Close, ("closed", "reset")), (Reset, ("reset",))])
async def test_a_cut_in_the_middle_of_content_is_not_ambiguous(turn, kinds):
    async with SmtpPeer(early_data=turn, early_data_after=100_000) as peer:
        session = await open_session(peer)
        mark = Mark()

        delivery = await deliver(session, [BIG * 10_000], mark_dot=mark)

        assert (delivery.reply.code, delivery.reply.phase) == (421, Phase.DATA)
        assert any(kind in delivery.reply.text for kind in (*kinds, "broken pipe"))
        assert (delivery.dot_sent, delivery.is_ambiguous, mark.calls) == (False, False, 0)


async def test_a_host_that_stops_taking_content_times_out_before_the_dot():
    async with SmtpPeer(early_data=StopReading, early_data_after=10_000) as peer:
        session = await open_session(peer, timeouts=IMPATIENT)
        mark = Mark()

        delivery = await deliver(session, [BIG * 20_000], mark_dot=mark)

        assert delivery.reply.line == "421 4.4.2 the host took no data for 0.4 seconds"
        assert delivery.reply.phase is Phase.DATA
        assert (delivery.dot_sent, delivery.is_ambiguous, mark.calls) == (False, False, 0)


async def test_a_host_that_takes_content_too_slowly_in_all_is_given_up(monkeypatch):
    monkeypatch.setattr(session_module, "SLOWEST_OCTETS_PER_SECOND", 1e15)
    async with SmtpPeer() as peer:
        session = await open_session(peer, timeouts=replace(TIMEOUTS, data=1e-9))
        mark = Mark()

        delivery = await deliver(session, [BIG * 100], mark_dot=mark)

        assert (delivery.reply.code, delivery.reply.phase) == (421, Phase.DATA)
        assert "the host took" in delivery.reply.text
        assert (delivery.is_ambiguous, mark.calls) == (False, 0)


async def test_a_refusal_in_the_middle_of_content_is_heard():
    async with SmtpPeer(early_data=["552 5.3.4 too big", StopReading], early_data_after=10_000) as peer:
        session = await open_session(peer)
        mark = Mark()

        delivery = await deliver(session, [BIG * 20_000], mark_dot=mark)

        assert delivery.reply.line == "552 5.3.4 too big"
        assert (delivery.reply.phase, mark.calls) == (Phase.DATA, 0)
        assert not session.is_usable


# A connection used again


@pytest.mark.parametrize("turn", [Close, Reset])
async def test_a_used_connection_that_is_gone_at_mail_is_stale(turn):
    async with SmtpPeer(mail=["250 ok", turn]) as peer:
        session = await open_session(peer)
        await deliver(session)

        delivery = await deliver(session)

        assert delivery.is_stale
        assert (delivery.reply.code, delivery.reply.phase) == (421, Phase.MAIL)
        assert not session.is_usable


async def test_an_answer_is_not_stale():
    async with SmtpPeer(mail=["250 ok", ["421 4.7.0 too many messages", Close]]) as peer:
        session = await open_session(peer)
        await deliver(session)

        delivery = await deliver(session)

        assert not delivery.is_stale
        assert delivery.reply.line == "421 4.7.0 too many messages"


async def test_a_silent_used_connection_is_not_stale():
    async with SmtpPeer(mail=["250 ok", Silence]) as peer:
        session = await open_session(peer, timeouts=IMPATIENT)
        await deliver(session)

        delivery = await deliver(session)

        assert not delivery.is_stale


@pytest.mark.parametrize("extensions", [["PIPELINING"], []])
async def test_a_refused_reset_says_nothing_about_the_next_message(extensions):
    async with SmtpPeer(extensions=extensions, rcpt=["550 no"], data=["503 no"], rset=["500 what?"]) as peer:
        session = await open_session(peer)
        await deliver(session)

        delivery = await deliver(session)

        assert delivery.is_stale
        assert delivery.reply.is_transient
        assert not session.is_usable


async def test_a_host_that_hangs_up_between_messages_is_noticed():
    hang_up = asyncio.Event()
    async with SmtpPeer(dot=[["250 ok", Wait(hang_up), Close]]) as peer:
        session = await open_session(peer)
        await deliver(session)
        assert session.is_usable

        hang_up.set()
        await peer.connections[0].is_closed.wait()
        await until_unusable(session)

        assert (await deliver(session)).is_stale


async def test_a_word_that_nobody_asked_for_ends_the_use():
    async with SmtpPeer(dot=[Raw(b"250 ok\r\n421 4.4.2 idle too long\r\n")]) as peer:
        session = await open_session(peer)

        await deliver(session)

        assert not session.is_usable
        session.close()


async def test_reset_ends_a_begun_transaction_at_once():
    async with SmtpPeer(rcpt=["550 no", "250 ok"], data=["503 no", "354 go"]) as peer:
        session = await open_session(peer)
        await deliver(session)

        await session.reset()
        await deliver(session)

        assert peer.connections[0].verbs.count("RSET") == 1
        session.close()


# Hostile peers


async def test_a_long_line_is_cut():
    async with SmtpPeer(mail=["550 5.7.1 " + "x" * 10_000]) as peer:
        session = await open_session(peer)

        delivery = await deliver(session)

        assert delivery.reply.code == 550
        assert len(delivery.reply.text) <= 4096
        assert not delivery.reply.text.strip("x…")
        session.close()


async def test_only_the_first_lines_of_a_long_reply_are_kept_and_its_end_is_found():
    long = "\r\n".join(["550-line"] * 500 + ["550 end"])
    async with SmtpPeer(rcpt=[long, "250 ok"], data=["503 no", "354 go"]) as peer:
        session = await open_session(peer)

        refusal = await deliver(session)
        success = await deliver(session)

        assert refusal.reply.code == 550
        assert refusal.reply.text.count("\n") < 100
        assert success.reply.code == 250
        session.close()


@pytest.mark.parametrize("flood", [b"550-" + b"x" * 1000 + b"\r\n", b"x" * 1000])
async def test_an_endless_reply_is_given_up(flood):
    async with SmtpPeer(mail=[[Raw(b"550-"), *[Raw(flood)] * 1000]]) as peer:
        session = await open_session(peer)

        delivery = await deliver(session)

        assert (delivery.reply.code, delivery.reply.enhanced) == (421, "4.5.0")
        assert delivery.reply.origin is Origin.NETWORK
        await peer.connections[0].is_closed.wait()


async def test_a_flood_of_replies_is_given_up():
    async with SmtpPeer(dot=[["250 ok", Raw(b"250 more\r\n" * 1000)]]) as peer:
        session = await open_session(peer)

        delivery = await deliver(session)
        await peer.connections[0].is_closed.wait()

        assert delivery.reply.code == 250
        assert not session.is_usable


async def test_a_reply_in_single_octets_is_read():
    async with SmtpPeer(rcpt=[Raw(b"250-one\r\n250 two\r\n", in_single_octets=True)]) as peer:
        session = await open_session(peer)

        assert (await deliver(session)).reply.code == 250
        session.close()


async def test_a_reply_that_comes_too_slowly_has_one_deadline():
    stop = asyncio.Event()
    async with SmtpPeer(banner=[[Raw(b"220 slow", in_single_octets=True), Wait(stop)]]) as peer:
        failure = await failure_of(open_session(peer, timeouts=IMPATIENT))

    assert failure.kind is FailureKind.TIMEOUT


async def test_lines_that_end_with_a_bare_lf_are_understood():
    async with SmtpPeer(ehlo=[Raw(b"250-peer\n250-PIPELINING\n250 8BITMIME\n")]) as peer:
        session = await open_session(peer)

        assert session.has_pipelining
        session.close()


# Transcript


async def test_the_transcript_has_the_conversation_without_content():
    async with SmtpPeer(dot=["250 2.0.0 queued"]) as peer:
        transcript = Transcript()
        session = await open_session(peer, transcript=transcript)

        await deliver(session, transcript=transcript)

        assert texts(transcript) == [
            f"* connecting to mx.acme.test[127.0.0.1]:{peer.port}",
            "< 220 peer.test ESMTP",
            "> EHLO relay.test",
            "< 250-peer.test\n250-PIPELINING\n250-8BITMIME\n250-SMTPUTF8\n250-SIZE 35882577\n250 ENHANCEDSTATUSCODES",
            f"> MAIL FROM:<bounce@relay.test> SIZE={len(CONTENT)}",
            "> RCPT TO:<bob@acme.test>",
            "> DATA",
            "< 250 2.1.0 ok",
            "< 250 2.1.5 ok",
            "< 354 go ahead",
            f"> (content, {len(CONTENT)} octets)",
            "> .",
            "< 250 2.0.0 queued",
        ]
        session.close()


async def test_the_transcript_of_a_later_message_says_that_the_connection_was_kept():
    async with SmtpPeer() as peer:
        session = await open_session(peer)
        await deliver(session)
        transcript = Transcript()

        await deliver(session, transcript=transcript)

        assert texts(transcript)[0] == f"* connection to mx.acme.test[127.0.0.1]:{peer.port} kept open, message 2"
        session.close()


async def test_the_transcript_says_why_a_connection_was_lost():
    async with SmtpPeer(rcpt=[Close]) as peer:
        transcript = Transcript()
        session = await open_session(peer)

        await deliver(session, transcript=transcript)

        assert texts(transcript)[-1] == "* the host closed the connection"
