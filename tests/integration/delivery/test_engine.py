"""From an accepted message to its end, over real SMTP to scripted hosts."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import dkim
from django.conf import settings

from accounts import sealing
from accounts.identifiers import uuid7
from delivery.models import DkimKey, DkimKeyState, SendingDomain
from delivery.transport import signing
from tests.support.dns_server import Behaviour
from tests.support.engine_room import HOST, OTHER_HOST, Room, World, in_thread, mail
from tests.support.smtp_peer import Close, SmtpPeer, Wait


async def test_a_message_is_delivered_and_its_journey_is_told(world: World):
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port) as peer, room.engine():
        message_id = await room.send("someone@far.test", content=mail(body="first\r\n.dot\r\n"))

        recipient = await room.until_state(message_id, "delivered")

        assert (recipient.reply, recipient.phase, recipient.attempts) == ("250 2.0.0 queued", "eod", 1)
        assert peer.connections[0].contents[0].endswith(b"\r\n\r\nfirst\r\n..dot\r\n")
        (attempt,) = await room.attempts(message_id)
        assert (attempt.host, str(attempt.host_address), attempt.port) == ("mx.far.test", HOST, room.port)
        assert (attempt.reply_code, attempt.is_ambiguous, attempt.number) == (250, False, 1)
        said = [text for _, direction, text in json.loads(attempt.transcript) if direction == ">"]
        assert said[-1] == "." and "RCPT TO:<someone@far.test>" in said
        assert await room.events(message_id) == ["accepted", "delivered"]
        assert await room.value("SELECT count(*) FROM delivery_queue_entry") == 0


async def test_a_transient_reply_defers_and_the_next_attempt_delivers(world: World):
    script = {"rcpt": ["451 4.3.0 not now", "250 ok"]}
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, **script), room.engine():
        message_id = await room.send("someone@far.test")
        deferred = await room.until_state(message_id, "deferred")
        recipient = await room.until_state(message_id, "delivered")

        first, second = await room.attempts(message_id)
        waited = second.started_at - first.ended_at
        assert timedelta(seconds=0.85) < waited < timedelta(seconds=30)
        assert deferred.next_attempt_at is not None and recipient.next_attempt_at is None
        assert (first.number, second.number, recipient.attempts) == (1, 2, 2)
        assert await room.events(message_id) == ["accepted", "deferred", "delivered"]


async def test_an_unknown_mailbox_bounces_at_once(world: World):
    script = {"rcpt": ["550 5.1.1 no such user"]}
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, **script) as peer, room.engine():
        message_id = await room.send("nobody@far.test")

        recipient = await room.until_state(message_id, "bounced")

        assert (recipient.reply_class, recipient.reply) == ("bad_mailbox", "550 5.1.1 no such user")
        assert not any(peer.connections[0].contents)
        assert await room.events(message_id) == ["accepted", "bounced"]


async def test_what_is_deferred_until_its_lifetime_ends_expires_on_a_last_attempt(world: World, settings: Any):
    settings.QUEUE_LIFETIME_SECONDS = 2
    script = {"rcpt": ["451 4.3.0 not now"]}
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, **script), room.engine():
        message_id = await room.send("someone@far.test")

        recipient = await room.until_state(message_id, "expired")

        attempts = await room.attempts(message_id)
        assert recipient.reply_class == "expired"
        assert attempts[-1].started_at - attempts[0].started_at >= timedelta(seconds=1.5)
        assert (await room.events(message_id))[-1] == "expired"


async def test_a_connection_lost_after_the_dot_is_ambiguous_and_waits_for_the_next_step(world: World):
    script = {"dot": [Close, "250 2.0.0 queued"]}
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, **script), room.engine():
        message_id = await room.send("someone@far.test")
        recipient = await room.until_state(message_id, "delivered")

        first, second = await room.attempts(message_id)
        assert (first.is_ambiguous, second.is_ambiguous) == (True, False)
        assert second.started_at - first.ended_at >= timedelta(seconds=0.85)
        assert recipient.has_ambiguous_attempt


async def test_two_recipients_of_a_message_have_different_ends(world: World):
    async with (
        Room(world) as room,
        SmtpPeer(host=HOST, at_port=room.port) as good,
        SmtpPeer(host=OTHER_HOST, at_port=room.port, rcpt=["550 5.1.1 no such user"]),
        room.engine(),
    ):
        message_id = await room.send("a@far.test", "b@farther.test", "A@FAR.test", "a@far.test")

        await room.until_state(message_id, "delivered", "bounced")

        states = {row.address: row.state for row in await room.recipients(message_id)}
        assert states == {"a@far.test": "delivered", "A@far.test": "delivered", "b@farther.test": "bounced"}
        assert sum(len(connection.contents) for connection in good.connections) == 2


async def test_a_hundred_recipients_of_one_message_get_it_once_each_over_few_connections(world: World):
    addresses = [f"r{number}@far.test" for number in range(100)]
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port) as peer, room.engine():
        message_id = await room.send(*addresses)

        await room.until_state(message_id, "delivered")

        rcpts = [c.decode() for connection in peer.connections for c in connection.commands if c.startswith(b"RCPT")]
        assert sorted(rcpts) == sorted(f"RCPT TO:<{address}>" for address in addresses)
        assert len(peer.connections) <= 10
        assert len(await room.attempts(message_id)) == 100


async def test_a_connection_is_kept_for_the_next_message(world: World):
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port) as peer, room.engine():
        for number in range(3):
            await room.until_state(await room.send(f"r{number}@far.test"), "delivered")

        assert [len(connection.contents) for connection in peer.connections] == [3]


async def test_the_signed_reverse_path_stays_the_same_over_attempts(world: World):
    script = {"rcpt": ["451 4.3.0 not now", "250 ok"]}
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, **script) as peer, room.engine():
        await room.until_state(await room.send("someone@far.test"), "delivered")

        paths = {c for connection in peer.connections for c in connection.commands if c.startswith(b"MAIL")}
        froms = {command.split(b" ")[1] for command in paths}
        assert len(froms) == 1
        assert froms.pop().endswith(f"@{settings.BOUNCE_DOMAIN}>".encode())


async def test_what_leaves_carries_a_signature_that_verifies(world: World):
    private_key, key_id = signing.generate_key(), uuid7()
    record = signing.public_record(private_key).encode()
    await in_thread(
        lambda: DkimKey.objects.create(
            id=key_id,
            domain=SendingDomain.objects.get(name="acme.example"),
            selector="s1",
            state=DkimKeyState.SIGNING,
            sealed_private_key=sealing.seal(private_key, context=DkimKey.sealing_context(key_id)),
        )
    )
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port) as peer, room.engine():
        await room.until_state(await room.send("someone@far.test", content=mail(body="  a \r\n\r\n\r\n")), "delivered")

        received = peer.connections[0].contents[0]
        assert received.startswith(b"DKIM-Signature:")
        assert dkim.verify(received, dnsfunc=lambda name, timeout=5: record)
        assert not dkim.verify(received.replace(b"  a", b"  b"), dnsfunc=lambda name, timeout=5: record)


async def test_a_message_to_a_new_domain_does_not_wait_for_another_ones_name_server(world: World):
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port), room.engine():
        room.dns.behaviours["silent.test"] = Behaviour.SILENT
        await room.send("someone@silent.test")
        await room.dns.until_asked(1)

        message_id = await room.send("someone@far.test")

        await room.until_state(message_id, "delivered", seconds=3)


async def test_content_that_cannot_be_read_defers_its_message_and_no_other(world: World):
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port):
        broken = await room.send("a@far.test")
        await room.rows("UPDATE delivery_content SET compressed = 'rubbish' WHERE message_id = %s", broken)
        good = await room.send("b@far.test")

        async with room.engine():
            await room.until_state(good, "delivered", seconds=5)
            recipient = await room.until_state(broken, "deferred")

        assert recipient.reply == "451 4.3.0 a fault of ours kept this attempt from being made"


async def test_large_messages_in_flight_stay_within_the_budget_of_memory(world: World):
    from delivery.engine import contents

    budget = 3 * 1024 * 1024
    finish = asyncio.Event()
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, dot=[[Wait(finish), "250 ok"]]) as peer:
        body = ("x" * 900 + "\r\n") * 1100
        for number in range(6):
            await room.send(f"r{number}@far.test", content=mail(body=body))
        async with room.engine() as running:
            shelf = running.engine._services.contents = contents.ContentShelf(
                running.engine._pool, budget_octets=budget
            )
            await peer.until(lambda: sum(len(connection.contents) for connection in peer.connections) == 3)
            octets = shelf.octets
            finish.set()
            await room.until("SELECT count(*) = 6 FROM delivery_recipient WHERE state = 'delivered'")

        assert 0 < octets <= budget


async def test_a_copy_converted_for_a_host_counts_too(world: World):
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, extensions=["SIZE"]) as peer:
        body = ("おはようございます。" * 20 + "\r\n") * 100
        content = mail("MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8", body=body)
        message_id = await room.send("someone@far.test", content=content)
        async with room.engine() as running:
            await room.until_state(message_id, "delivered")
            shelf = running.engine._services.contents

            await peer.until(lambda: shelf.octets > len(content))

        (sent,) = peer.connections[0].contents
        assert sent.isascii() and shelf.octets > len(content) + len(sent) * 0.9
