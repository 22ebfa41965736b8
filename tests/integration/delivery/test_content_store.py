"""Content in an object store, and sealed: durable before the 250, read where it is needed, gone when its row is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import zstandard

from accounts.audit import Actor
from accounts.models import AuditEntry, Tenant
from delivery import closing, content_keys, content_store, content_sweep, history
from delivery.core.replies import Rejection
from delivery.models import Content, ContentKey, Message
from tests.support.engine_room import HOST, Room, World, in_thread, mail
from tests.support.object_store import ObjectStore
from tests.support.smtp_peer import SmtpPeer

OPERATOR = Actor("olivia@relay.example", is_operator=True)
LATER = timedelta(hours=2)


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    server = ObjectStore()
    yield server
    server.stop()


@pytest.fixture
def objects(server: ObjectStore, settings: Any) -> Iterator[ObjectStore]:
    server.use(settings)
    yield server
    server.empty()


def rows() -> dict[UUID, bytes]:
    return {key: bytes(row) for key, row in Content.objects.values_list("message_id", "compressed")}


def content_of(message_id: UUID) -> bytes | None:
    return history.content_of(Message.objects.get(pk=message_id))


async def test_a_mail_stands_in_the_object_store_and_is_delivered_from_there(
    world: World, objects: ObjectStore, settings: Any
) -> None:
    settings.OBJECT_STORE_FROM_BYTES = 2_000
    large = mail(body="".join(f"{number * 7919 % 100_003:06} line\r\n" for number in range(2_000)))
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port) as peer:
        small_id = await room.send("bob@far.test")
        large_id = await room.send("bob@far.test", content=large)
        stored = await in_thread(rows)
        names = await in_thread(objects.names)
        async with room.engine():
            await room.until_state(small_id, "delivered")
            await room.until_state(large_id, "delivered")
        shown = await in_thread(content_of, large_id)

    assert [name.rpartition("/")[2] for name in names] == [str(large_id)]
    assert len(stored[large_id]) < 100 and zstandard.frame_content_size(stored[small_id]) > 0
    assert shown is not None and shown.endswith(large.partition(b"\r\n\r\n")[2])
    assert large.partition(b"\r\n\r\n")[2] in b"".join(connection.raw for connection in peer.connections)


async def test_trouble_with_the_object_store_is_a_451_and_puts_attempts_off(
    world: World, objects: ObjectStore, settings: Any
) -> None:
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port):
        accepted = await room.send("bob@far.test")
        with objects.away():
            with pytest.raises(content_store.StoreTrouble):
                await room.send("bob@far.test")
            with pytest.raises(content_store.StoreTrouble):
                await in_thread(content_of, accepted)
            async with room.engine():
                await room.until("SELECT next_attempt_at > now() FROM delivery_queue_entry")
        attempts = await room.value("SELECT attempts FROM delivery_queue_entry WHERE message_id = %s", accepted)
        messages = await room.value("SELECT count(*) FROM delivery_message")
        await room.rows("UPDATE delivery_queue_entry SET next_attempt_at = now() RETURNING 1")
        await room.rows("UPDATE delivery_lane SET next_due_at = now() RETURNING 1")
        async with room.engine():
            await room.until_state(accepted, "delivered")

    assert (messages, attempts) == (1, 0)


async def test_what_was_refused_leaves_nothing_and_what_a_failed_commit_left_is_swept(
    world: World, objects: ObjectStore
) -> None:
    async with Room(world) as room:
        kept = await room.send("a@far.test", principal=world.principal(hourly_limit=1))
        with pytest.raises(Rejection):
            await room.send("b@far.test", principal=world.principal(hourly_limit=1))
        after_refusal = await in_thread(objects.names)
    orphan = content_store.Place(UUID(int=kept.int ^ 1), 7).name

    def sweeping() -> tuple[list[str], list[str]]:
        objects.put(orphan, b"left behind")
        content_sweep.sweep(all_days=True)
        too_young = objects.names()
        content_sweep.sweep(now=datetime.now(tz=UTC) + LATER, all_days=False)
        return too_young, objects.names()

    too_young, swept = await in_thread(sweeping)

    assert [name.rpartition("/")[2] for name in after_refusal] == [str(kept)]
    assert orphan in too_young
    assert [name.rpartition("/")[2] for name in swept] == [str(kept)]


async def test_content_is_moved_out_and_back_and_goes_with_its_tenant(world: World, objects: ObjectStore) -> None:
    async with Room(world) as room:
        message_id = await room.send("bob@far.test")
        globex = await room.send_as_globex("bob@far.test")
    acme = world.cast.acme

    def moving() -> dict[str, Any]:
        seen: dict[str, Any] = {"away": sum(content_sweep.move_to_object_store())}
        before = rows()
        seen["back"] = sum(content_sweep.move_to_database())
        seen["read"] = content_of(message_id)
        seen["pointers"] = [row[:4] for row in before.values()]
        seen["again"] = sum(content_sweep.move_to_object_store())
        closing.close(acme, is_cancelled=True, actor=OPERATOR)
        Tenant.objects.filter(pk=acme.pk).update(closed_at=datetime.now(tz=UTC) - 2 * closing.ERASED_AFTER)
        seen["erased"] = closing.erase_due()
        seen["left"] = [name.rpartition("/")[2] for name in objects.names()]
        return seen

    def already_there() -> int:
        return sum(content_sweep.move_to_database())

    back_first = await in_thread(already_there)
    seen = await in_thread(moving)

    assert (back_first, seen["away"], seen["back"], seen["again"]) == (2, 2, 2, 2)
    assert seen["pointers"] == [b"rwc1"] * 2 and b"Good morning." in seen["read"]
    assert seen["left"] == [str(globex)]


async def test_sealed_content_is_read_with_the_tenants_key_and_with_no_other(
    world: World, objects: ObjectStore
) -> None:
    acme = world.cast.acme
    await in_thread(content_keys.set_sealing, acme, True, actor=OPERATOR)
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port) as peer, room.engine():
        message_id = await room.send("bob@far.test")
        await room.until_state(message_id, "delivered")

    def looking() -> dict[str, Any]:
        [name] = objects.names()
        octets = objects.octets(name)
        shown = content_of(message_id)
        content_keys.set_sealing(acme, False, actor=OPERATOR)
        still = content_of(message_id)
        objects.put(name, octets[:-1] + bytes([octets[-1] ^ 1]))
        altered = content_of(message_id)
        objects.put(name, octets)
        ContentKey.objects.of(acme).delete()
        return {"octets": octets, "shown": shown, "still": still, "altered": altered, "keyless": content_of(message_id)}

    seen = await in_thread(looking)

    assert not seen["octets"].startswith(zstandard.FRAME_HEADER)
    assert b"Good morning." in seen["shown"] and seen["still"] == seen["shown"]
    assert seen["altered"] is None and seen["keyless"] is None
    assert b"Good morning." in b"".join(connection.raw for connection in peer.connections)
    audited = await in_thread(
        lambda: list(AuditEntry.objects.filter(action="tenant.seal_content").values_list("after"))
    )
    assert [after["seals_content"] for (after,) in audited] == [True, False]
