"""A tenant's quiet hours: its bulk mail to carriers rests, everything else goes on, and it is said why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from accounts.audit import Actor
from accounts.models import AuditEntry, Tenant
from accounts.refusals import Refused
from delivery import quiet_hours
from delivery.models import Stream
from tests.support.engine_room import HOST, Room, World, in_thread
from tests.support.journeys import make_cast
from tests.support.smtp_peer import SmtpPeer

ACTOR = Actor.command_line()


def _silence(tenant: Tenant, *, streams: str = "bulk") -> None:
    """Around this moment, whatever the hour."""
    now = datetime.now(tz=UTC)
    tenant.time_zone = "UTC"
    tenant.save()
    begins, ends = (now - timedelta(hours=1)).time(), (now + timedelta(hours=2)).time()
    quiet_hours.set_quiet_hours(tenant, begins=begins, ends=ends, streams=streams, actor=ACTOR)


async def test_bulk_mail_to_a_carrier_rests_and_goes_on_when_the_silence_is_over(world: World):
    acme = world.cast.acme
    bulk = world.principal(stream_id=(await in_thread(Stream.objects.get, tenant=acme, kind="bulk")).id)
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port):
        room.dns.records["docomo.ne.jp"] = {"MX": ["10 mx.far.test."]}
        await in_thread(_silence, acme)
        async with room.engine():
            newsletter = await room.send("reader@docomo.ne.jp", principal=bulk)
            for other in (
                await room.send("reset@docomo.ne.jp"),
                await room.send("reader@far.test", principal=bulk),
                await room.send_as_globex("reader@docomo.ne.jp"),
            ):
                await room.until_state(other, "delivered")
            lane = (await room.rows("SELECT * FROM delivery_lane WHERE suspended_reason = 'quiet_hours'"))[0]
            resting = await room.recipient(newsletter)

            await in_thread(quiet_hours.set_quiet_hours, acme, begins=None, ends=None, actor=ACTOR)
            delivered = await room.until_state(newsletter, "delivered")

        assert (resting.state, resting.attempts) == ("queued", 0)
        assert timedelta(hours=1, minutes=59) < lane.suspended_until - datetime.now(tz=UTC) <= timedelta(hours=2)
        assert delivered.attempts == 1


async def test_silence_for_all_streams_holds_transactional_mail_too(world: World):
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port):
        room.dns.records["ezweb.ne.jp"] = {"MX": ["10 mx.far.test."]}
        await in_thread(_silence, world.cast.acme, streams="all")
        async with room.engine():
            message_id = await room.send("someone@ezweb.ne.jp")
            await room.until("SELECT count(*) FROM delivery_lane WHERE suspended_reason = 'quiet_hours'")

            assert (await room.recipient(message_id)).state == "queued"


@pytest.mark.django_db
def test_half_a_window_or_an_empty_one_is_refused_and_every_change_is_on_record() -> None:
    cast = make_cast()
    hour = datetime(2026, 1, 1, 21).time()
    for begins, ends in ((hour, None), (None, hour), (hour, hour)):
        with pytest.raises(Refused):
            quiet_hours.set_quiet_hours(cast.acme, begins=begins, ends=ends, actor=ACTOR)
    with pytest.raises(Refused):
        quiet_hours.set_quiet_hours(cast.acme, begins=hour, ends=hour.replace(hour=8), streams="some", actor=ACTOR)
    assert Tenant.objects.get(pk=cast.acme.pk).quiet_from is None

    quiet_hours.set_quiet_hours(cast.acme, begins=hour, ends=hour.replace(hour=8), actor=ACTOR)

    entry = AuditEntry.objects.get(action="tenant.quiet_hours")
    assert (entry.before["from"], entry.after) == (None, {"from": "21:00", "until": "08:00", "streams": "bulk"})
