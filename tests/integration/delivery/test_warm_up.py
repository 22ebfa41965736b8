"""An address that is warmed up sends no more than its stage allows, the pool's others the rest; stages follow what it met."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from django.utils import timezone

from accounts.audit import Actor
from accounts.models import AuditEntry
from delivery.models import Path, PathHour, ProviderGroup, SourceAddress, WarmUp, WarmUpStep
from delivery.warmup import advancing, encountered, plans, schedules
from tests.support.engine_room import HOST, Room, World, in_thread
from tests.support.smtp_peer import SmtpPeer

GROUP = "site:mx.far.test"
OLIVIA = Actor("olivia@relay.example", is_operator=True)


def _small_stages(monkeypatch: Any, *stages: int) -> None:
    """The data, small enough for a test."""
    own = {"default": "tiny"}
    tiny = {**schedules._data()["schedule"][0], "key": "tiny", "stages": list(stages)}
    monkeypatch.setattr(schedules, "_data", lambda: {"schedule": [tiny], "assigned": own})
    monkeypatch.setattr(schedules, "schedules", schedules.schedules.__wrapped__)


async def _from(room: Room, address: str) -> int:
    return await room.value(
        "SELECT count(*) FROM delivery_attempt WHERE host(source_address) = %s AND reply_code = 250", address
    )


def _named(world: World, address: str) -> SourceAddress:
    return SourceAddress.objects.create(
        address=address, ehlo_name="out.relay.test", pool=world.source.pool, node=world.source.node
    )


async def test_a_new_address_sends_what_its_stage_allows_and_a_warm_one_of_the_pool_the_rest(
    world: World, monkeypatch: Any
):
    _small_stages(monkeypatch, 3, 6)
    young = await in_thread(_named, world, "127.64.9.1")
    warm = await in_thread(_named, world, "127.64.9.2")
    world.source.state = "paused"
    await in_thread(world.source.save)
    await in_thread(plans.start, young, actor=OLIVIA)

    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port):
        async with room.engine("worker-1"):
            await asyncio.gather(*(room.send(f"r{number}@far.test") for number in range(12)))
            await room.until("SELECT count(*) = 12 FROM delivery_recipient WHERE state = 'delivered'")
        # A new owner of the path does not begin again.
        async with room.engine("worker-2"):
            await asyncio.gather(*(room.send(f"s{number}@far.test") for number in range(4)))
            await room.until("SELECT count(*) = 16 FROM delivery_recipient WHERE state = 'delivered'")

        assert await _from(room, young.address) == 3
        assert await _from(room, warm.address) == 13


async def test_without_another_address_the_rest_waits_until_somebody_raises_the_stage(world: World, monkeypatch: Any):
    _small_stages(monkeypatch, 2, 4)
    await in_thread(plans.start, world.source, actor=OLIVIA)

    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port), room.engine():
        for number in range(5):
            await room.send(f"r{number}@far.test")
        await room.until("SELECT count(*) = 2 FROM delivery_recipient WHERE state = 'delivered'")
        await room.until("SELECT coalesce(sum(accepted), 0) = 2 FROM delivery_path_hour")
        assert await room.value("SELECT count(*) FROM delivery_recipient WHERE state = 'delivered'") == 2

        await in_thread(advancing.look)
        await in_thread(plans.set_stage, world.source, GROUP, stage=2, actor=OLIVIA)
        await room.until("SELECT count(*) = 4 FROM delivery_recipient WHERE state = 'delivered'")

        await in_thread(plans.stop, world.source, actor=OLIVIA)
        await room.until("SELECT count(*) = 5 FROM delivery_recipient WHERE state = 'delivered'")


async def test_what_is_pinned_to_an_address_that_has_used_up_its_day_leaves_from_another(
    world: World, monkeypatch: Any
):
    _small_stages(monkeypatch, 1, 4)
    young = await in_thread(_named, world, "127.64.9.1")
    world.source.state = "paused"
    await in_thread(world.source.save)
    await in_thread(plans.start, young, actor=OLIVIA)
    script = {"rcpt": ["450 4.7.1 greylisted, please try again later", "250 ok"]}

    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, **script), room.engine():
        message = await room.send("someone@far.test")
        await room.until_state(message, "deferred")
        warm = await in_thread(_named, world, "127.64.9.2")

        await room.until_state(message, "delivered")

        assert await _from(room, warm.address) == 1


def _warm_up(world: World, *, stage: int = 0, hours: int = 24, **counts: int) -> WarmUp:
    """A warm-up that has been at a stage for a while, and what it met with an hour ago."""
    group = ProviderGroup.objects.create(key="google", kind="provider", title="Google")
    plans.start(world.source, actor=OLIVIA, group_keys=["google"])
    now = timezone.now()
    WarmUp.objects.update(stage=stage, stage_since=now - timedelta(hours=hours), counted_before={})
    path = Path.objects.create(source=world.source, group=group)
    hour = (now - timedelta(hours=1)).replace(minute=0, second=0, microsecond=0)
    PathHour.objects.create(path_id=path.pk, hour=hour, **counts)
    return WarmUp.objects.get()


def test_a_look_advances_writes_the_step_down_and_a_second_one_changes_nothing(world: World):
    warm_up = _warm_up(world, accepted=195)

    first, second = advancing.look(), advancing.look()

    warm_up.refresh_from_db()
    assert (first.advanced, second.changes) == (1, 0)
    assert (warm_up.stage, warm_up.state) == (1, "running")
    step = WarmUpStep.objects.latest("at")
    assert (step.from_stage, step.to_stage, step.figures["accepted"]) == (0, 1, 195)
    assert "used and clean" in AuditEntry.objects.get(action="warmup.step").reason


def test_a_block_takes_it_back_once(world: World):
    warm_up = _warm_up(world, stage=3, hours=2, accepted=100, blocked=3)

    looked = [advancing.look() for _ in range(3)]

    warm_up.refresh_from_db()
    assert [one.stepped_back for one in looked] == [1, 0, 0]
    assert warm_up.stage == 2
    assert "blocked" in warm_up.steps.latest("at").why


def test_what_was_finished_begins_anew_after_a_month_of_rest(world: World):
    warm_up = _warm_up(world, accepted=5)
    WarmUp.objects.update(state="finished", stage=28, stage_since=timezone.now() - timedelta(days=40))
    assert advancing.look().changes == 0

    looked = advancing.look(now=timezone.now() + timedelta(days=31))

    warm_up.refresh_from_db()
    assert looked.begun_anew == 1
    assert (warm_up.stage, warm_up.state) == (0, "running")


def test_what_was_met_before_a_stage_does_not_count_for_it(world: World):
    _warm_up(world, accepted=195)
    now = timezone.now()
    PathHour.objects.create(
        path_id=PathHour.objects.get().path_id,
        hour=now.replace(minute=0, second=0, microsecond=0),
        accepted=5,
        blocked=1,
    )
    plans.set_stage(world.source, "google", stage=2, actor=OLIVIA)

    (line,) = plans.list_warm_ups()

    assert line.figures.attempts == 0


def test_hours_of_sites_are_forgotten_sooner(world: World):
    _warm_up(world, accepted=5)
    site = ProviderGroup.objects.create(key="site:mx.small.test", kind="site", title="small")
    path = Path.objects.create(source=world.source, group=site)
    PathHour.objects.create(path_id=path.pk, hour=timezone.now() - timedelta(hours=1), accepted=1)

    assert encountered.forget_old(now=timezone.now() + timedelta(days=30)) == 0
    assert encountered.forget_old(now=timezone.now() + timedelta(days=32)) == 1
    assert encountered.forget_old(now=timezone.now() + timedelta(days=101)) == 1
