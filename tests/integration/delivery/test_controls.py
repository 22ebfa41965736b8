"""What a program may say about its mail: happen once, later, in a stream, not for too long, under tags."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from delivery.acceptance import once
from delivery.acceptance.accept import accept_with_receipt
from delivery.acceptance.once import AlreadyAccepted
from delivery.acceptance.submission import Controls, Once, Peer, Submission
from delivery.core import replies
from delivery.core.envelope import Envelope, EnvelopeRecipient
from delivery.core.mailbox import parse_mailbox
from delivery.core.replies import Rejection
from tests.support.engine_room import Room, World, in_thread, mail


def _submission(world: World, *, to: str = "someone@far.test", **controls: Any) -> Submission:
    envelope = Envelope(parse_mailbox("shop@acme.example"), (EnvelopeRecipient(parse_mailbox(to)),))
    return Submission(world.principal(), envelope, mail(), Peer("192.0.2.7", "app", "API"), Controls(**controls))


def _key(key: str = "order-1", *, position: int = 0) -> Once:
    return Once(key, b"d" * 32, position)


async def _messages(room: Room) -> int:
    return int(await room.value("SELECT count(*) FROM delivery_message"))


async def test_a_key_lets_a_message_in_once(world: World):
    async with Room(world) as room:
        receipt = await accept_with_receipt(_submission(world, once=_key()), store=room.store)

        with pytest.raises(AlreadyAccepted):
            await accept_with_receipt(_submission(world, once=_key()), store=room.store)

        assert await _messages(room) == 1
        earlier = await once.known(room.store.pool, world.cast.acme.id, _key())
        assert earlier == {0: once.Known(b"d" * 32, receipt)}
        assert await once.known(room.store.pool, world.cast.globex.id, _key()) == {}


async def test_of_many_at_once_one_has_the_key_and_the_others_are_not_held_up(world: World):
    async with Room(world) as room:
        sending = [_submission(world, once=_key()) for _ in range(6)]
        sending += [_submission(world, once=_key(position=place)) for place in (1, 2)] + [_submission(world)]

        outcomes = await asyncio.gather(
            *(accept_with_receipt(one, store=room.store) for one in sending), return_exceptions=True
        )

        assert sum(isinstance(one, AlreadyAccepted) for one in outcomes) == 5
        assert not any(isinstance(one, BaseException) for one in outcomes[6:])
        assert await _messages(room) == 4


async def test_a_refused_message_leaves_its_key_free(world: World):
    async with Room(world) as room:
        with pytest.raises(Rejection):
            await accept_with_receipt(_submission(world, once=_key(), stream="nobodys"), store=room.store)

        await accept_with_receipt(_submission(world, once=_key()), store=room.store)


async def test_a_key_is_forgotten_after_a_day(world: World):
    async with Room(world) as room:
        await accept_with_receipt(_submission(world, once=_key()), store=room.store)
        await room.rows("UPDATE delivery_idempotency_key SET created_at = now() - interval '24 hours 1 second'")
        assert await once.known(room.store.pool, world.cast.acme.id, _key()) == {}

        receipt = await accept_with_receipt(_submission(world, once=_key()), store=room.store)

        assert (await once.known(room.store.pool, world.cast.acme.id, _key()))[0].receipt == receipt
        assert await in_thread(once.forget_old) == 0
        await room.rows("UPDATE delivery_idempotency_key SET created_at = now() - interval '25 hours'")
        assert await in_thread(once.forget_old) == 1


async def _entry(room: Room, message_id: UUID) -> Any:
    (entry,) = await room.rows(
        """SELECT entry.*, message.expires_at, message.tags, message.metadata, recipient.next_attempt_at AS shown_at
           FROM delivery_queue_entry entry JOIN delivery_message message ON message.id = entry.message_id
           JOIN delivery_recipient recipient ON recipient.id = entry.recipient_id WHERE message.id = %s""",
        message_id,
    )
    return entry


async def test_a_scheduled_message_waits_and_its_lifetime_begins_then(world: World):
    later = datetime.now(tz=UTC) + timedelta(hours=6)
    async with Room(world) as room:
        receipt = await accept_with_receipt(_submission(world, send_at=later), store=room.store)

        entry = await _entry(room, receipt.message_id)
        assert entry.next_attempt_at == entry.shown_at == entry.accepted_at == later
        assert entry.expires_at > later


async def test_a_lifetime_ends_the_tries_early(world: World):
    async with Room(world) as room:
        receipt = await accept_with_receipt(_submission(world, lifetime=timedelta(seconds=90)), store=room.store)

        entry = await _entry(room, receipt.message_id)
        stream = await room.store.stream(world.principal().stream_id)
        # The engine judges by the beginning and the stream's lifetime.
        assert entry.expires_at - entry.accepted_at == timedelta(seconds=stream.lifetime_s)
        assert abs(entry.expires_at - datetime.now(tz=UTC) - timedelta(seconds=90)) < timedelta(seconds=20)


async def test_tags_metadata_and_stream_are_kept(world: World):
    async with Room(world) as room:
        submission = _submission(world, tags=("order", "ja"), metadata={"order": "1234"}, stream="bulk")

        receipt = await accept_with_receipt(submission, store=room.store)

        entry = await _entry(room, receipt.message_id)
        assert (entry.tags, entry.metadata) == (["order", "ja"], {"order": "1234"})
        kind = "SELECT s.kind FROM delivery_stream s JOIN delivery_lane l ON l.stream_id = s.id WHERE l.id = %s"
        assert await room.value(kind, entry.lane_id) == "bulk"


async def test_another_tenants_stream_is_unknown(world: World):
    await in_thread(_give_globex_a_stream, world)
    async with Room(world) as room:
        with pytest.raises(Rejection) as refused:
            await accept_with_receipt(_submission(world, stream="theirs"), store=room.store)

        assert refused.value.reply == replies.STREAM_UNKNOWN
        assert await _messages(room) == 0


def _give_globex_a_stream(world: World) -> None:
    from delivery.models import Stream

    Stream.objects.create(tenant=world.cast.globex, name="theirs")
