"""Where mail goes: MX hosts, absences, failures, refused destinations, smarthosts, and ways that change meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from delivery import dns
from delivery.models import ProviderGroup
from delivery.routing.routes import remove_route, set_route
from tests.support.dns_server import Behaviour
from tests.support.engine_room import HOST, OTHER_HOST, Room, World, in_thread
from tests.support.smtp_peer import SmtpPeer


async def test_a_domain_that_does_not_exist_bounces(world: World):
    async with Room(world) as room, room.engine():
        recipient = await room.until_state(await room.send("someone@nosuch.test"), "bounced")

        assert (recipient.phase, recipient.reply_class) == ("routing", "bad_domain")


async def test_a_null_mx_bounces(world: World):
    async with Room(world) as room, room.engine():
        room.dns.records["null.test"] = {"MX": ["0 ."]}

        recipient = await room.until_state(await room.send("someone@null.test"), "bounced")

        assert recipient.reply.startswith("556 5.1.10")


async def test_a_failing_name_server_defers_until_it_is_healed(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dns, "FAILURE_TTL_SECONDS", 0.5)
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port), room.engine():
        room.dns.behaviours["far.test"] = Behaviour.SERVFAIL
        message_id = await room.send("someone@far.test")
        recipient = await room.until_state(message_id, "deferred")
        assert recipient.phase == "routing"
        assert "4.4.3" in recipient.reply

        del room.dns.behaviours["far.test"]

        await room.until_state(message_id, "delivered")


async def test_a_private_destination_is_refused_without_a_connection(world: World, settings: Any):
    settings.ALLOW_DESTINATIONS = []
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port) as canary, room.engine():
        recipient = await room.until_state(await room.send("someone@far.test"), "bounced")

        assert "5.4.4" in recipient.reply
        assert canary.connections == []


async def test_a_smarthost_takes_over_what_waits_and_gives_it_back_when_it_is_removed(world: World, settings: Any):
    settings.RETRY_SCHEDULE = "1"
    script = {"rcpt": ["451 4.3.0 not now"]}
    async with (
        Room(world) as room,
        SmtpPeer(host=HOST, at_port=room.port, **script),
        SmtpPeer(rcpt=["451 4.3.0 not here either", "451 4.3.0 nor now", "250 ok"]) as smarthost,
    ):
        message_id = await room.send("someone@far.test")
        async with room.engine():
            await room.until_state(message_id, "deferred")

            await in_thread(set_route, domain="far.test", host="127.0.0.1", port=smarthost.port)
            await smarthost.until(lambda: bool(smarthost.connections) and "RCPT" in smarthost.connections[0].verbs)
            group = await room.until(
                """SELECT grp.key FROM delivery_queue_entry AS e JOIN delivery_lane AS l ON l.id = e.lane_id
                   JOIN delivery_providergroup AS grp ON grp.id = l.group_id WHERE e.message_id = %s""",
                message_id,
            )
            assert group.startswith("route:")

            await in_thread(remove_route, domain="far.test")
            before = sum(connection.verbs.count("RCPT") for connection in smarthost.connections)
            await room.until("SELECT max(number) >= 4 FROM delivery_attempt WHERE message_id = %s", message_id)
            attempts = await room.attempts(message_id)

        assert attempts[-1].host == "mx.far.test"
        assert sum(connection.verbs.count("RCPT") for connection in smarthost.connections) - before <= 1


async def test_a_tenants_own_route_comes_before_everybodys(world: World):
    async with Room(world) as room, SmtpPeer() as ours, SmtpPeer() as theirs, room.engine():
        await in_thread(set_route, domain="*", host="127.0.0.1", port=theirs.port)
        await in_thread(set_route, domain="far.test", host="127.0.0.1", port=ours.port, tenant=world.cast.acme)

        await room.until_state(await room.send("a@far.test"), "delivered")
        await room.until_state(await room.send_as_globex("b@far.test"), "delivered")

        assert [len(peer.connections) for peer in (ours, theirs)] == [1, 1]


async def test_mail_follows_a_domain_that_moves_to_other_hosts(world: World):
    script = {"rcpt": ["451 4.3.0 not now"]}
    async with (
        Room(world) as room,
        SmtpPeer(host=HOST, at_port=room.port, **script),
        SmtpPeer(host=OTHER_HOST, at_port=room.port) as new_host,
        room.engine(),
    ):
        message_id = await room.send("someone@far.test")
        await room.until_state(message_id, "deferred")

        room.dns.records["far.test"] = {"MX": ["10 mx.farther.test."]}
        await room.until_state(message_id, "delivered")

        assert len(new_host.connections) == 1
        key = await room.value(
            """SELECT grp.key FROM delivery_domainroute AS r JOIN delivery_providergroup AS grp ON grp.id = r.group_id
               WHERE r.domain = 'far.test'"""
        )
        assert key == "site:mx.farther.test"


async def test_a_domain_whose_hosts_change_at_every_look_still_gets_its_mail(world: World):
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port) as peer:
        room.dns.ttl = 0
        for number in range(200):
            room.dns.records[f"mx{number}.far.test"] = {"A": [HOST]}
        turns = iter(range(200))
        records = room.dns.records["far.test"]

        class Rotating(dict[str, list[str]]):
            def __getitem__(self, kind: str) -> list[str]:
                return [f"10 mx{next(turns)}.far.test."] if kind == "MX" else super().__getitem__(kind)

        room.dns.records["far.test"] = Rotating(records)
        async with room.engine():
            message_id = await room.send("someone@far.test")
            await room.until_state(message_id, "delivered", seconds=5)

        assert sum(len(connection.contents) for connection in peer.connections) == 1


async def test_domains_with_the_same_hosts_share_a_provider_group(world: World):
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port) as peer, room.engine():
        room.dns.records["near.test"] = room.dns.records["far.test"]
        first, second = await room.send("a@far.test"), await room.send("b@near.test")
        for message_id in (first, second):
            await room.until_state(message_id, "delivered")

        assert await in_thread(ProviderGroup.objects.filter(kind="site").count) == 1
        assert len(peer.connections) <= 2
