"""Refusals and losses before the dot, connections used again, and hostile peers."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from delivery.core.reply import Origin, Phase
from delivery.transport import session as session_module
from delivery.transport.session import SessionFailed
from delivery.transport.wire import FailureKind
from tests.support.smtp_client import CONTENT, IMPATIENT, TIMEOUTS, Mark, deliver, open_session, until_unusable
from tests.support.smtp_peer import Close, Raw, Reset, Silence, SmtpPeer, StopReading, Wait

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
        with pytest.raises(SessionFailed) as caught:
            await open_session(peer, timeouts=IMPATIENT)
        failure = caught.value

    assert failure.kind is FailureKind.TIMEOUT


async def test_lines_that_end_with_a_bare_lf_are_understood():
    async with SmtpPeer(ehlo=[Raw(b"250-peer\n250-PIPELINING\n250 8BITMIME\n")]) as peer:
        session = await open_session(peer)

        assert session.has_pipelining
        session.close()
