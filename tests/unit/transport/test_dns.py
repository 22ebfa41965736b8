from __future__ import annotations

import asyncio

import pytest

from delivery.dns import DnsFailure, DnsFailureKind, MxRecord, Resolver
from tests.support.dns_server import Behaviour, FakeDns

ACME = {
    "acme.test": {"MX": ["20 Backup.Acme.test.", "10 mx.acme.test."], "TXT": ['"v=spf1 " "-all"', '"second"']},
    "mx.acme.test": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
    "www.acme.test": {"CNAME": ["mx.acme.test."]},
    "1.2.0.192.in-addr.arpa": {"PTR": ["mx.acme.test."]},
}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def failure_of(lookup) -> DnsFailure:
    with pytest.raises(DnsFailure) as caught:
        await lookup
    return caught.value


async def test_it_gives_mail_exchangers_in_order_of_preference():
    async with FakeDns(ACME) as dns:
        records = await Resolver(dns.address).mx("acme.test")

    assert records == [MxRecord(10, "mx.acme.test"), MxRecord(20, "backup.acme.test")]


async def test_a_null_mx_is_a_host_without_a_name():
    async with FakeDns({"nomail.test": {"MX": ["0 ."]}}) as dns:
        records = await Resolver(dns.address).mx("nomail.test")

    assert records == [MxRecord(0, "")]


async def test_it_reads_addresses_of_both_families_in_the_order_asked_for():
    async with FakeDns(ACME) as dns:
        resolver = Resolver(dns.address)

        both = await resolver.addresses("mx.acme.test")
        six_first = await resolver.addresses("mx.acme.test", families=(6, 4))
        only_four = await resolver.addresses("mx.acme.test", families=(4,))

    assert both == ["192.0.2.1", "2001:db8::1"]
    assert six_first == ["2001:db8::1", "192.0.2.1"]
    assert only_four == ["192.0.2.1"]


async def test_it_puts_the_strings_of_a_txt_record_together():
    async with FakeDns(ACME) as dns:
        texts = await Resolver(dns.address).txt("acme.test")

    assert sorted(texts) == ["second", "v=spf1 -all"]


async def test_it_reads_aliases_and_reverse_names():
    async with FakeDns(ACME) as dns:
        resolver = Resolver(dns.address)

        assert await resolver.cname("www.acme.test") == "mx.acme.test"
        assert await resolver.cname("mx.acme.test") is None
        assert await resolver.ptr("192.0.2.1") == ["mx.acme.test"]


async def test_an_existing_name_without_the_type_is_an_empty_answer():
    async with FakeDns(ACME) as dns:
        assert await Resolver(dns.address).mx("mx.acme.test") == []


@pytest.mark.parametrize(
    ("behaviour", "kind", "is_transient"),
    [
        (Behaviour.NXDOMAIN, DnsFailureKind.NXDOMAIN, False),
        (Behaviour.SERVFAIL, DnsFailureKind.SERVFAIL, True),
        (Behaviour.REFUSED, DnsFailureKind.REFUSED, True),
        (Behaviour.SILENT, DnsFailureKind.TIMEOUT, True),
        (Behaviour.GARBAGE, DnsFailureKind.TIMEOUT, True),
        (Behaviour.TRUNCATED_AND_SILENT, DnsFailureKind.SERVFAIL, True),
    ],
)
async def test_it_tells_apart_what_goes_wrong(behaviour, kind, is_transient):
    async with FakeDns(ACME, behaviours={"acme.test": behaviour}) as dns:
        timeout = 0.1 if kind is DnsFailureKind.TIMEOUT else 5
        failure = await failure_of(Resolver(dns.address, timeout).mx("acme.test"))

    assert failure.kind is kind
    assert failure.is_transient is is_transient


@pytest.mark.parametrize("name", ["", ".", "@", "a..b", "x" * 64 + ".test", ".".join(["x" * 60] * 5)])
async def test_what_is_no_name_is_not_asked_for(name):
    async with FakeDns(ACME) as dns:
        failure = await failure_of(Resolver(dns.address).mx(name))

        assert dns.questions == []
    assert failure.kind is DnsFailureKind.BAD_NAME
    assert not failure.is_transient


async def test_it_asks_again_over_tcp_when_the_answer_was_cut():
    async with FakeDns(ACME, behaviours={"acme.test": Behaviour.TRUNCATED}) as dns:
        records = await Resolver(dns.address).mx("acme.test")

        assert [protocol for _, _, protocol in dns.questions] == ["udp", "tcp"]
    assert len(records) == 2


async def test_it_follows_an_alias_that_came_without_its_target():
    async with FakeDns(ACME, behaviours={"www.acme.test": Behaviour.ALIAS_ONLY}) as dns:
        addresses = await Resolver(dns.address).a("www.acme.test")

    assert addresses == ["192.0.2.1"]


async def test_an_endless_chain_of_aliases_ends():
    names = {f"a{number}.test": {"CNAME": [f"a{number + 1}.test."]} for number in range(30)}
    behaviours = dict.fromkeys(names, Behaviour.ALIAS_ONLY)
    async with FakeDns(names, behaviours=behaviours) as dns:
        failure = await failure_of(Resolver(dns.address).a("a0.test"))

        assert len(dns.questions) <= 8
    assert failure.kind is DnsFailureKind.SERVFAIL


async def test_one_family_that_fails_does_not_hide_the_other():
    class HalfBroken(FakeDns):
        def _fill(self, response, name, kind, behaviour):
            if kind == 28:
                response.set_rcode(2)
            else:
                super()._fill(response, name, kind, behaviour)

    async with HalfBroken({**ACME, "six.test": {}}) as dns:
        resolver = Resolver(dns.address)

        assert await resolver.addresses("mx.acme.test") == ["192.0.2.1"]
        failure = await failure_of(resolver.addresses("six.test"))
    assert failure.kind is DnsFailureKind.SERVFAIL


async def test_it_keeps_an_answer_as_long_as_its_ttl_says():
    clock = Clock()
    async with FakeDns(ACME, ttl=300) as dns:
        resolver = Resolver(dns.address, clock=clock)

        await resolver.mx("acme.test")
        clock.now += 299
        await resolver.mx("ACME.test.")
        assert dns.count("acme.test") == 1
        clock.now += 2
        await resolver.mx("acme.test")
        assert dns.count("acme.test") == 2


@pytest.mark.parametrize("name", ["missing.test", "mx.acme.test"])
async def test_it_keeps_an_absence_as_long_as_the_zone_says(name):
    clock = Clock()
    async with FakeDns(ACME, ttl=300, negative_ttl=60) as dns:
        resolver = Resolver(dns.address, clock=clock)

        async def ask() -> None:
            try:
                assert await resolver.mx(name) == []
            except DnsFailure as failure:
                assert failure.kind is DnsFailureKind.NXDOMAIN

        await ask()
        clock.now += 59
        await ask()
        assert dns.count(name) == 1
        clock.now += 2
        await ask()
        assert dns.count(name) == 2


async def test_it_keeps_an_absence_an_hour_at_most():
    clock = Clock()
    async with FakeDns(ttl=86_400, negative_ttl=86_400) as dns:
        resolver = Resolver(dns.address, clock=clock)

        await failure_of(resolver.mx("missing.test"))
        clock.now += 3_601
        await failure_of(resolver.mx("missing.test"))

        assert dns.count("missing.test") == 2


async def test_it_forgets_a_failure_after_seconds():
    clock = Clock()
    async with FakeDns(ACME, behaviours={"acme.test": Behaviour.SERVFAIL}) as dns:
        resolver = Resolver(dns.address, clock=clock)

        await failure_of(resolver.mx("acme.test"))
        await failure_of(resolver.mx("acme.test"))
        assert dns.count("acme.test") == 2  # the two tries of one look-up
        dns.behaviours.clear()
        clock.now += 6
        assert len(await resolver.mx("acme.test")) == 2


async def test_the_cache_is_bounded_and_drops_the_oldest():
    async with FakeDns(ACME) as dns:
        resolver = Resolver(dns.address, max_cached=2)

        for name in ("acme.test", "mx.acme.test", "www.acme.test", "mx.acme.test", "acme.test"):
            await resolver.mx(name)

        assert dns.count("mx.acme.test") == 1
        assert dns.count("acme.test") == 2


async def test_equal_questions_at_the_same_time_share_one_look_up():
    async with FakeDns(ACME) as dns:
        resolver = Resolver(dns.address)
        dns.hold()

        askers = [asyncio.create_task(resolver.mx("acme.test")) for _ in range(50)]
        await dns.until_asked(1)
        askers[0].cancel()  # whoever gives up takes nothing from the others
        dns.go_on()
        answers = await asyncio.gather(*askers, return_exceptions=True)

        assert dns.count("acme.test") == 1
    assert isinstance(answers[0], asyncio.CancelledError)
    assert all(len(answer) == 2 for answer in answers[1:])


async def test_no_more_than_the_limit_are_asked_at_once():
    names = {f"n{number}.test": {"A": ["192.0.2.9"]} for number in range(6)}
    async with FakeDns(names) as dns:
        resolver = Resolver(dns.address, max_at_once=2)
        dns.hold()

        askers = [asyncio.create_task(resolver.a(name)) for name in names]
        await dns.until_asked(2)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(dns.questions) == 2
        dns.go_on()
        await asyncio.gather(*askers)

        assert len(dns.questions) == 6
