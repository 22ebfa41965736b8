"""A session that works: transactions, the content on the wire, the gate before the dot, the transcript."""

from __future__ import annotations

import asyncio

import pytest

from delivery.core.reply import Origin, Phase
from delivery.transport.session import FenceLost
from delivery.transport.transcript import Transcript
from tests.support.smtp_client import CONTENT, IMPATIENT, Mark, deliver, open_session, texts, until_unusable
from tests.support.smtp_peer import Call, Close, Raw, Reset, Silence, SmtpPeer, Wait

STEP_BY_STEP = ["8BITMIME", "SIZE 1000000"]


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
