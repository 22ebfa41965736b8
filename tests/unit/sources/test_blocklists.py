"""Blocklists are asked by their conventions, and only documented codes are listings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from delivery import spf_result
from delivery.dns import Resolver
from delivery.source_checks import blocklists
from delivery.source_checks.blocklists import Answer, Severity
from tests.support.dns_server import Behaviour, FakeDns

ZEN = blocklists.blocklists()["spamhaus_zen"]
T = TypeVar("T")
TESTS = {"2.0.0.127.zen.spamhaus.org": {"A": ["127.0.0.2", "127.0.0.4", "127.0.0.10"]}}


def _with_dns(ask: Callable[[Resolver], Awaitable[T]], records: Any, **more: Any) -> T:
    async def run() -> T:
        async with FakeDns(records, **more) as dns:
            return await ask(Resolver(dns.address, 0.2))

    return asyncio.run(run())


def test_names_are_reversed_octets_and_nibbles() -> None:
    assert blocklists.name_below("z.test", "192.0.2.10") == "10.2.0.192.z.test"
    assert blocklists.name_below("z.test", "2001:db8::1") == "1" + ".0" * 23 + ".8.b.d.0.1.0.0.2.z.test"


@pytest.mark.parametrize(
    ("answered", "answer", "severity"),
    [
        ([], Answer.CLEAR, None),
        (["127.0.0.2", "127.0.0.9"], Answer.LISTED, Severity.SEVERE),
        (["127.0.0.11"], Answer.LISTED, Severity.BAD),
        (["127.255.255.254"], Answer.FAILED, None),
        (["127.255.255.252", "127.0.0.2"], Answer.FAILED, None),
        (["127.0.0.200"], Answer.FAILED, None),
        (["192.0.2.1"], Answer.FAILED, None),
    ],
)
def test_only_documented_codes_are_listings(answered: list[str], answer: Answer, severity: Severity | None) -> None:
    found = blocklists.read(ZEN, answered)

    assert (found.answer, found.severity) == (answer, severity)
    assert bool(found.why) == (answer is Answer.FAILED)


def test_a_list_works_when_its_test_address_is_listed_and_the_other_is_not() -> None:
    def test(records: Any, **more: Any) -> str:
        return _with_dns(lambda resolver: blocklists.test(ZEN, 4, resolver), records, **more)

    other = {"1.0.0.127.zen.spamhaus.org": {"A": ["127.0.0.2"]}}
    refused = {"2.0.0.127.zen.spamhaus.org": {"A": ["127.255.255.254"]}}
    assert test(TESTS) == ""
    assert "not listed" in test({})
    assert "everything" in test(TESTS | other)
    assert "127.255.255.254" in test(refused)
    assert "timeout" in test(TESTS, behaviours={"2.0.0.127.zen.spamhaus.org": Behaviour.SILENT})


def test_a_query_key_is_asked_below_its_own_zone_and_not_told() -> None:
    async def ask(resolver: Resolver) -> Any:
        return await blocklists.ask(ZEN, "192.0.2.10", resolver, query_key="secretkey")

    name = "10.2.0.192.secretkey.zen.dq.spamhaus.net"
    listed = _with_dns(ask, {name: {"A": ["127.0.0.3"]}})
    silent = _with_dns(ask, {}, behaviours={name: Behaviour.SERVFAIL})

    assert listed.answer is Answer.LISTED
    assert silent.answer is Answer.FAILED
    assert "secretkey" not in silent.why


@pytest.mark.parametrize(
    ("record", "result"),
    [
        ("v=spf1 ip4:192.0.2.0/24 -all", "pass"),
        ("v=spf1 ip4:198.51.100.0/24 -all", "fail"),
        ("v=spf1 a:hosts.test/28 ~all", "pass"),
        ("v=spf1 mx ~all", "softfail"),
        ("v=spf1 mx:far.test ?all", "pass"),
        ("v=spf1 include:good.test -all", "pass"),
        ("v=spf1 include:bad.test ?all", "neutral"),
        ("v=spf1 redirect=good.test", "pass"),
        ("v=spf1 ip6:2001:db8::/32", "neutral"),
        ("v=spf1 include:missing.test -all", "permerror"),
        ("v=spf1 include:loop.test -all", "permerror"),
        ("v=spf1 a:silent.test -all", "temperror"),
        ("v=spf1 exists:hosts.test -all", "pass"),
        ("not a record", "none"),
    ],
)
def test_an_spf_record_is_evaluated_as_receivers_do(record: str, result: str) -> None:
    records = {
        "own.test": {"TXT": [f'"{record}"']},
        "hosts.test": {"A": ["192.0.2.1"]},
        "far.test": {"MX": ["10 mx.far.test."]},
        "mx.far.test": {"A": ["192.0.2.10"]},
        "good.test": {"TXT": ['"v=spf1 ip4:192.0.2.10 -all"']},
        "bad.test": {"TXT": ['"v=spf1 -all"']},
        "loop.test": {"TXT": ['"v=spf1 include:loop.test -all"']},
    }

    async def ask(resolver: Resolver) -> tuple[str, str]:
        return await spf_result.check_host("192.0.2.10", "own.test", resolver)

    assert _with_dns(ask, records, behaviours={"silent.test": Behaviour.SERVFAIL})[0] == result
