"""Day partitions: made ahead, used, and missed aloud."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from accounts.identifiers import uuid7
from delivery import partitions
from delivery.models import DeliveryEvent
from tests.support.engine_room import HOST, Room, World
from tests.support.smtp_peer import SmtpPeer

EACH = ("delivery_message", "delivery_recipient", "delivery_attempt", "delivery_event", "delivery_content_r7")


async def test_the_rows_of_a_mail_lie_in_the_partitions_of_its_day(world: World):
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port), room.engine():
        message_id = await room.send("someone@far.test")
        await room.until_state(message_id, "delivered")

        day = (await room.value("SELECT accepted_at FROM delivery_message")).astimezone(UTC)
        for table in EACH:
            parent = table.replace("_r7", "")
            (row,) = await room.rows(f"SELECT DISTINCT tableoid::regclass::text AS name FROM {parent}")
            assert row.name == f"{table}_p{day:%Y%m%d}"


@pytest.mark.django_db
def test_partitions_are_made_once():
    assert partitions.ensure_ahead() == []

    later = datetime.now(tz=UTC) + timedelta(days=3)
    made = partitions.ensure_ahead(now=later)

    tables = len(partitions.RANGED) + len((partitions.UNTIL_DELIVERED, *partitions.RETENTION_DAYS))
    assert len(made) == 3 * tables
    assert partitions.ensure_ahead(now=later) == []


@pytest.mark.django_db
def test_rows_without_a_day_are_kept_and_counted(world: World):
    assert set(partitions.strays().values()) == {0}
    far_off = uuid7(datetime.now(tz=UTC) + timedelta(days=400))

    DeliveryEvent.objects.create(
        id=uuid7(),
        message_id=far_off,
        recipient_id=uuid7(),
        tenant=world.cast.acme,
        kind="accepted",
        occurred_at=datetime.now(tz=UTC),
    )

    assert partitions.strays()["delivery_event"] == 1


@pytest.mark.django_db
def test_a_look_up_by_key_touches_one_day():
    key = uuid7()
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN SELECT * FROM delivery_message WHERE id = %s", [key])
        plan = "\n".join(row[0] for row in cursor.fetchall())

    assert plan.count("Scan") == 1
