from __future__ import annotations

import random
from ipaddress import ip_address, ip_network

import pytest

from delivery.core.reply import Origin, Phase, Reply
from delivery.dns import Resolver
from delivery.transport.guard import DestinationGuard
from delivery.transport.hops import Hop, MxHosts, Smarthost, find_hops, find_mx_hosts
from delivery.transport.tls_policy import TlsMode
from tests.support.dns_server import Behaviour, FakeDns

# Public addresses: nothing is sent to them, only the fake name server is asked.
ONE, TWO, THREE, SIX = "198.41.0.4", "192.33.4.12", "199.7.91.13", "2001:500:2::c"


async def hops_of(records, domain="acme.test", *, behaviours=None, guard=None, **options):
    async with FakeDns(records, behaviours=behaviours) as dns:
        resolver = Resolver(dns.address, timeout=0.1 if Behaviour.SILENT in dns.behaviours.values() else 5)
        hosts = await find_mx_hosts(domain, resolver)
        if isinstance(hosts, Reply):
            return hosts
        return await find_hops(hosts, resolver, port=25, guard=guard or DestinationGuard(), **options)


def addresses(hops) -> list[str]:
    assert isinstance(hops, list), hops
    return [hop.address for hop in hops]


def assert_routing(reply, code: int, enhanced: str) -> None:
    assert isinstance(reply, Reply), reply
    assert (reply.code, reply.enhanced, reply.phase, reply.origin) == (code, enhanced, Phase.ROUTING, Origin.DNS)


async def test_hops_come_in_order_of_preference():
    hops = await hops_of(
        {
            "acme.test": {"MX": ["20 b.test.", "10 a.test."]},
            "a.test": {"A": [ONE]},
            "b.test": {"A": [TWO]},
        }
    )

    assert hops == [Hop("a.test", 25, ONE, "a.test"), Hop("b.test", 25, TWO, "b.test")]


async def test_hosts_of_equal_preference_are_shuffled():
    records = {f"mx{number}.test": {"A": [f"198.41.0.{number}"]} for number in range(1, 5)}
    records["acme.test"] = {"MX": [f"10 {name}." for name in records]}

    firsts = {addresses(await hops_of(records, rng=random.Random(seed)))[0] for seed in range(20)}

    assert len(firsts) == 4


async def test_a_domain_without_mx_is_its_own_host():
    hops = await hops_of({"acme.test": {"A": [ONE]}})

    assert hops == [Hop("acme.test", 25, ONE, "acme.test")]


async def test_the_best_hosts_name_the_site():
    async with FakeDns({"acme.test": {"MX": ["20 z.test.", "10 c.test.", "10 b.test."]}}) as dns:
        hosts = await find_mx_hosts("acme.test", Resolver(dns.address))

    assert isinstance(hosts, MxHosts)
    assert hosts.names == ("b.test", "c.test", "z.test")
    assert hosts.best_names == ("b.test", "c.test")
    assert not hosts.is_implicit


async def test_a_host_that_is_an_alias_works():
    hops = await hops_of(
        {"acme.test": {"MX": ["10 a.test."]}, "a.test": {"CNAME": ["b.test."]}, "b.test": {"A": [ONE]}}
    )

    assert addresses(hops) == [ONE]


async def test_a_domain_that_does_not_exist_is_permanent():
    assert_routing(await hops_of({}), 550, "5.1.2")


async def test_a_null_mx_is_permanent():
    assert_routing(await hops_of({"acme.test": {"MX": ["0 ."], "A": [ONE]}}), 556, "5.1.10")


async def test_neither_mx_nor_address_is_permanent():
    assert_routing(await hops_of({"acme.test": {"TXT": ['"x"']}}), 550, "5.1.2")


@pytest.mark.parametrize(
    "behaviour",
    [Behaviour.SERVFAIL, Behaviour.SILENT, Behaviour.REFUSED, Behaviour.TRUNCATED_AND_SILENT],
)
@pytest.mark.parametrize("broken", ["acme.test", "a.test"])
async def test_a_name_server_that_cannot_answer_is_transient(behaviour, broken):
    records = {"acme.test": {"MX": ["10 a.test."]}, "a.test": {"A": [ONE]}}

    assert_routing(await hops_of(records, behaviours={broken: behaviour}), 451, "4.4.3")


async def test_the_next_host_is_taken_when_one_has_no_address():
    hops = await hops_of({"acme.test": {"MX": ["10 gone.test.", "20 b.test."]}, "b.test": {"A": [TWO]}})

    assert addresses(hops) == [TWO]


async def test_no_host_with_an_address_is_permanent():
    assert_routing(await hops_of({"acme.test": {"MX": ["10 gone.test.", "20 away.test."]}}), 550, "5.4.4")


async def test_it_is_transient_when_one_of_the_hosts_could_not_be_looked_up():
    records = {"acme.test": {"MX": ["10 gone.test.", "20 b.test."]}, "b.test": {"A": [TWO]}}

    assert_routing(await hops_of(records, behaviours={"b.test": Behaviour.SERVFAIL}), 451, "4.4.3")


async def test_at_most_five_of_fifty_hosts_are_tried_and_few_are_looked_up():
    records = {f"mx{number:02}.test": {"A": [f"198.41.0.{number}"]} for number in range(1, 51)}
    records["acme.test"] = {"MX": [f"{name[2:4]} {name}." for name in records]}
    async with FakeDns(records) as dns:
        resolver = Resolver(dns.address)
        hosts = await find_mx_hosts("acme.test", resolver)
        assert isinstance(hosts, MxHosts)

        hops = await find_hops(hosts, resolver, port=25, guard=DestinationGuard())

        assert addresses(hops) == [f"198.41.0.{number}" for number in range(1, 6)]
        assert len({name for name, _, _ in dns.questions if name.startswith("mx")}) <= 10


async def test_every_host_gets_its_turn_before_any_gets_a_second():
    hops = await hops_of(
        {
            "acme.test": {"MX": ["10 a.test.", "20 b.test."]},
            "a.test": {"A": [f"198.41.0.{number}" for number in range(1, 9)]},
            "b.test": {"A": [TWO]},
        }
    )

    assert len(hops) == 5
    assert [hop.host for hop in hops] == ["a.test"] * 4 + ["b.test"]


async def test_the_preferred_family_comes_first_and_others_are_left_out():
    records = {"acme.test": {"MX": ["10 a.test."]}, "a.test": {"A": [ONE], "AAAA": [SIX]}}

    assert addresses(await hops_of(records, families=(6, 4))) == [SIX, ONE]
    assert addresses(await hops_of(records, families=(4,))) == [ONE]


async def test_a_host_of_the_other_family_only_is_transient():
    records = {"acme.test": {"MX": ["10 a.test."]}, "a.test": {"AAAA": [SIX]}}

    assert_routing(await hops_of(records, families=(4,)), 451, "4.4.4")


@pytest.mark.parametrize(
    "records",
    [
        {"acme.test": {"MX": ["10 a.test."]}, "a.test": {"A": ["127.0.0.1"]}},
        {"acme.test": {"MX": ["10 a.test."]}, "a.test": {"A": ["10.1.2.3"], "AAAA": ["::1"]}},
        {"acme.test": {"MX": ["10 a.test."]}, "a.test": {"AAAA": ["::ffff:127.0.0.1"]}},
        {"acme.test": {"MX": ["10 a.test."]}, "a.test": {"A": ["169.254.169.254"]}},
        {"acme.test": {"A": ["192.168.1.1"]}},
        {"acme.test": {"MX": ["10 0.0.0.0."]}, "0.0.0.0": {"A": [ONE]}},
        {"acme.test": {"MX": ["10 127.0.0.1."]}},
        {"acme.test": {"MX": ["10 localhost."]}, "localhost": {"A": [ONE]}},
        {"acme.test": {"MX": ["10 gone.test.", "20 a.test."]}, "a.test": {"A": ["127.0.0.1"]}},
    ],
)
async def test_forbidden_destinations_are_permanent(records):
    reply = await hops_of(records)

    assert_routing(reply, 550, "5.4.4")
    assert "127" not in reply.text


async def test_our_own_address_is_refused():
    guard = DestinationGuard(own=[ip_address(ONE)])

    assert_routing(await hops_of({"acme.test": {"A": [ONE]}}, guard=guard), 550, "5.4.4")


async def test_forbidden_addresses_are_left_out_where_others_remain():
    records = {"acme.test": {"MX": ["10 a.test."]}, "a.test": {"A": ["10.0.0.1", ONE]}}

    assert addresses(await hops_of(records)) == [ONE]


async def test_allow_listed_networks_are_dialled():
    guard = DestinationGuard([ip_network("127.64.0.0/16")])
    records = {"acme.test": {"MX": ["10 a.test."]}, "a.test": {"A": ["127.64.3.4"]}}

    assert addresses(await hops_of(records, guard=guard)) == ["127.64.3.4"]


async def test_a_smarthost_has_its_own_port_and_may_be_an_address():
    async with FakeDns({"relay.test": {"A": ["10.0.0.9"]}}) as dns:
        resolver = Resolver(dns.address)

        by_name = await find_hops(Smarthost("relay.test", 587), resolver, port=25, guard=None)
        by_address = await find_hops(Smarthost("[::1]", 2525), resolver, port=25, guard=None)
        implicit = await find_hops(Smarthost("10.0.0.9", 465, TlsMode.REQUIRED), resolver, port=25, guard=None)

    assert by_name == [Hop("relay.test", 587, "10.0.0.9", "relay.test")]
    assert by_address == [Hop("::1", 2525, "::1", "::1")]
    assert implicit == [Hop("10.0.0.9", 465, "10.0.0.9", "10.0.0.9", has_implicit_tls=True)]


async def test_a_smarthost_of_a_tenant_is_guarded():
    async with FakeDns({"relay.test": {"A": ["10.0.0.9"]}}) as dns:
        resolver = Resolver(dns.address)

        for host in ("relay.test", "10.0.0.9", "localhost"):
            reply = await find_hops(Smarthost(host, 587), resolver, port=25, guard=DestinationGuard())
            assert_routing(reply, 550, "5.4.4")


async def test_a_smarthost_that_is_not_found_is_transient():
    async with FakeDns() as dns:
        reply = await find_hops(Smarthost("gone.test", 587), Resolver(dns.address), port=25, guard=None)

    assert_routing(reply, 451, "4.4.4")
