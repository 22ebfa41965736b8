"""Brakes: a credential that nobody knows is stopped early, held mail waits and goes out in the end, others feel nothing."""

from __future__ import annotations

from typing import Any

from accounts import credentials, notices
from accounts.audit import Actor
from accounts.models import AuditEntry, NoticeKind
from delivery.brakes import pulling
from delivery.models import Brake, ProviderGroup
from delivery.queue import control
from delivery.queue.control import Which
from tests.support.engine_room import HOST, OTHER_HOST, Room, World, in_thread
from tests.support.smtp_peer import SmtpPeer

ALICE, OLIVIA = Actor("alice@acme.example"), Actor("olivia@relay.example", is_operator=True)
UNKNOWN = "550 5.1.1 no such user here"
_OF_ACME = "FROM delivery_recipient WHERE tenant_id = %s"


def _swift(*groups: str) -> None:
    for key in groups:
        limits = {"connections": 20, "messages": [], "new_connections": [], "messages_per_connection": 1000}
        ProviderGroup.objects.update_or_create(key=key, defaults={"kind": "site", "title": key, "limits": limits})


def _credential(world: World) -> Any:
    return credentials.issue_credential(world.cast.acme, kind="smtp", name="shop", actor=ALICE).credential


async def _send(room: Room, number: int, *, principal: Any, domain: str = "far.test", each: int = 100) -> None:
    for begin in range(0, number, each):
        names = [f"r{place}@{domain}" for place in range(begin, min(begin + each, number))]
        await room.send(*names, principal=principal)


async def test_a_stolen_credential_is_stopped_early_and_all_goes_out_once_a_person_lets_go(world: World):
    shop = await in_thread(_credential, world)
    await in_thread(_swift, "site:mx.far.test", "site:mx.farther.test")
    acme = world.cast.acme
    principal = world.principal(credential_id=shop.id)
    # 12 in 100 recipients do not exist.
    replies = [UNKNOWN if place % 25 in (4, 12, 20) else "250 ok" for place in range(1000)] + ["250 ok"]

    async with (
        Room(world) as room,
        SmtpPeer(host=HOST, at_port=room.port, rcpt=replies) as far,
        SmtpPeer(host=OTHER_HOST, at_port=room.port),
        room.engine("worker-1"),
        room.engine("worker-2"),
    ):
        await _send(room, 5000, principal=principal, each=500)
        await room.until("SELECT count(*) FROM delivery_brake WHERE ended_at IS NULL")
        others = await room.send_as_globex("one@farther.test")
        own = await room.send("other@farther.test")
        await room.until(f"SELECT count(*) = 0 {_OF_ACME} AND state = 'queued'", acme.id)

        # What is in hand when the brake is pulled ends; nothing begins any more.
        await room.until("SELECT count(*) = 0 FROM delivery_queue_entry WHERE path_id IS NOT NULL")
        attempted = await room.value("SELECT count(*) FROM delivery_attempt WHERE tenant_id = %s", acme.id)
        asked = sum(connection.verbs.count("RCPT") for connection in far.connections)
        assert 150 <= attempted <= 500 and asked <= 500
        assert await room.value(f"SELECT count(*) {_OF_ACME} AND state = 'held' AND reason = 'brake'", acme.id) > 4500
        assert (await room.until_state(others, "delivered")).state == "delivered"
        assert (await room.until_state(own, "delivered")).state == "delivered"  # of no credential, or another

        brake = await in_thread(lambda: Brake.objects.select_related("tenant").get())
        assert (brake.step, brake.credential_id, brake.credential_name) == ("hold", shop.id, "shop")
        told = brake.evidence
        assert told["bad"] / told["total"] >= 0.08 and told["total"] >= 150
        assert told["classes"][0][0] == "bad_mailbox" and told["samples"][0]["domain"] == "far.test"
        (notice,) = await in_thread(notices.open_notices, acme)
        assert (notice.kind, notice.data["brake_id"]) == (NoticeKind.MAIL_HELD, str(brake.id))

        # New mail is taken, and held as well.
        late = await room.send("late@far.test", principal=principal)
        assert (await room.until_state(late, "held")).reason == "brake"

        # Enough of it to see that it goes on; the rest is withdrawn, which a brake does not keep from anybody.
        sql = "SELECT id FROM delivery_message WHERE credential_id = %s AND recipient_count > 1 ORDER BY id OFFSET 3"
        for row in await room.rows(sql, shop.id):
            await in_thread(control.cancel, Which(message_id=row.id))
        await in_thread(pulling.appeal, brake, "An old list; we have cleaned it.", actor=ALICE)
        await in_thread(pulling.release, brake, answer="Thank you.", actor=OLIVIA)
        await room.until(
            f"SELECT count(*) = 0 {_OF_ACME} AND state NOT IN ('delivered', 'bounced', 'cancelled')",
            acme.id,
            seconds=25,
        )
        assert await room.value(f"SELECT count(*) {_OF_ACME}", acme.id) == 5002
        assert await room.value("SELECT count(*) FROM delivery_queue_entry") == 0

    actions = await in_thread(lambda: list(AuditEntry.objects.order_by("id").values_list("action", flat=True)))
    assert [one for one in actions if one.startswith("brake.")] == ["brake.pull", "brake.appeal", "brake.release"]


async def test_making_more_credentials_does_not_get_more_mail_out(world: World):
    shops = [await in_thread(_credential, world) for _ in range(10)]
    await in_thread(_swift, "site:mx.far.test", "site:mx.farther.test")
    acme = world.cast.acme
    replies = [UNKNOWN if place % 8 == 4 else "250 ok" for place in range(1000)]

    async with (
        Room(world) as room,
        SmtpPeer(host=HOST, at_port=room.port, rcpt=replies),
        SmtpPeer(host=OTHER_HOST, at_port=room.port),
    ):
        for shop in shops:  # each far below what a credential is judged by
            await _send(room, 100, principal=world.principal(credential_id=shop.id))
        async with room.engine("worker-1"), room.engine("worker-2"):
            await room.until("SELECT count(*) FROM delivery_brake WHERE credential_id IS NULL", seconds=20)
            await room.until("SELECT count(*) = 0 FROM delivery_queue_entry WHERE path_id IS NOT NULL")
            other = await room.send_as_globex("one@farther.test")
            assert (await room.until_state(other, "delivered")).state == "delivered"

        attempted = await room.value("SELECT count(*) FROM delivery_attempt WHERE tenant_id = %s", acme.id)
        assert 150 <= attempted <= 600
        assert await room.value(f"SELECT count(*) {_OF_ACME} AND state = 'held' AND reason = 'brake'", acme.id) > 400

    brakes = await in_thread(lambda: list(Brake.objects.filter(tenant=acme).order_by("pulled_at")))
    assert len(brakes) >= 4 and all(brake.step == "hold" for brake in brakes)
    told = brakes[0].evidence
    assert told["credentials"] > 1 and told["total"] >= 150 and told["bad"] / told["total"] >= 0.08
