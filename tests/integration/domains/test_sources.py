"""Source addresses and pools."""

from __future__ import annotations

import pytest

from accounts.audit import Actor
from accounts.models import AuditEntry, Tenant
from accounts.refusals import NotFound, Refused
from delivery import pools, sources
from delivery.models import SourceAddress, Stream


def test_a_node_without_a_source_gets_the_systems_choice(db: None, operator: Actor) -> None:
    made = sources.ensure_default_source(actor=operator)

    assert made is not None
    assert (made.address, made.node_id, made.pool.name, made.state) == (None, "node1", "default", "active")
    assert sources.ensure_default_source(actor=operator) is None


def test_a_named_address_takes_the_place_of_the_systems_choice(db: None, operator: Actor) -> None:
    made = sources.ensure_default_source(actor=operator)
    assert made is not None

    source = sources.add_source("192.0.2.10", ehlo_name="MX1.relay.example", actor=operator)

    assert (source.ehlo_name, source.state) == ("mx1.relay.example", "active")
    assert [found.address for found in sources.list_sources()] == ["192.0.2.10"]
    assert sources.ensure_default_source(actor=operator) is None


def test_the_systems_choice_comes_back_when_every_named_address_is_gone(db: None, operator: Actor) -> None:
    sources.ensure_default_source(actor=operator)
    source = sources.add_source("192.0.2.10", actor=operator)
    sources.remove_source(source, actor=operator)

    made = sources.ensure_default_source(actor=operator)

    assert made is not None
    assert made.state == "active"
    assert SourceAddress.objects.filter(address=None).count() == 1


def test_an_address_in_another_pool_leaves_the_systems_choice_alone(db: None, operator: Actor) -> None:
    sources.ensure_default_source(actor=operator)
    pools.add_pool("fast", actor=operator)

    sources.add_source("192.0.2.10", pool="fast", actor=operator)

    assert len(sources.list_sources()) == 2


def test_an_address_is_paused_resumed_and_retired_and_comes_back(db: None, operator: Actor) -> None:
    source = sources.add_source("2001:DB8::10", actor=operator)
    assert source.address == "2001:db8::10"

    assert sources.pause_source(source, actor=operator, reason="blocklisted").state_reason == "blocklisted"
    with pytest.raises(Refused):
        sources.pause_source(source, actor=operator)
    assert sources.resume_source(source, actor=operator).state == "active"
    assert sources.remove_source(source, actor=operator).state == "retired"
    again = sources.add_source("2001:db8:0::10", actor=operator)

    assert (again.id, again.state) == (source.id, "active")
    assert AuditEntry.objects.filter(action__startswith="source.").count() == 5


def test_an_address_is_added_once(db: None, operator: Actor) -> None:
    sources.add_source("192.0.2.10", actor=operator)

    with pytest.raises(Refused):
        sources.add_source("192.0.2.10", actor=operator)


@pytest.mark.parametrize(
    "words",
    [
        {"address": "nonsense"},
        {"address": "224.0.0.1"},
        {"address": "0.0.0.0"},
        {"address": "192.0.2.10", "ehlo_name": "no host"},
        {"address": "192.0.2.10", "node": "a b"},
        {"address": "192.0.2.10", "pool": "nosuch"},
    ],
)
def test_what_cannot_be_a_source_is_refused(db: None, operator: Actor, words: dict[str, str]) -> None:
    with pytest.raises(Refused):
        sources.add_source(actor=operator, **words)  # type: ignore[arg-type]

    assert not SourceAddress.objects.exists()


def test_a_source_is_found_by_address_and_id(db: None, operator: Actor) -> None:
    source = sources.add_source("192.0.2.10", actor=operator)

    assert sources.find_source("192.0.2.10") == source
    assert sources.find_source(str(source.id)) == source
    for key in ("192.0.2.11", "nonsense"):
        with pytest.raises(NotFound):
            sources.find_source(key)


def test_a_dedicated_pool_serves_its_tenant_only(acme: Tenant, globex: Tenant, operator: Actor) -> None:
    pool = pools.add_pool("acme-own", kind="dedicated", tenant=acme, actor=operator)
    mine, theirs = Stream.objects.of(acme).get(name="bulk"), Stream.objects.of(globex).get(name="bulk")

    assert pools.assign_pool(mine, pool, actor=operator).pool == pool
    with pytest.raises(Refused):
        pools.assign_pool(theirs, pool, actor=operator)
    with pytest.raises(Refused):
        pools.add_pool("shared-own", tenant=acme, actor=operator)
    with pytest.raises(Refused):
        pools.remove_pool(pool, actor=operator)


def test_an_unused_pool_can_be_removed_and_the_default_stays(db: None, operator: Actor) -> None:
    pools.remove_pool(pools.add_pool("fast", actor=operator), actor=operator)

    with pytest.raises(NotFound):
        pools.find_pool("fast")
    with pytest.raises(Refused):
        pools.remove_pool(pools.find_pool("default"), actor=operator)
