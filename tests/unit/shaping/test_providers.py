from __future__ import annotations

import pytest

from delivery.models.provider import GroupKind
from delivery.shaping.providers import default_limits, providers, recognise


@pytest.mark.parametrize(
    ("domain", "hosts", "key"),
    [
        ("gmail.com", ("gmail-smtp-in.l.google.com",), "google"),
        ("customer.example", ("aspmx.l.google.com",), "google"),
        ("customer.example", ("customer-example.mail.protection.outlook.com",), "office365"),
        ("docomo.ne.jp", ("mfsmax.docomo.ne.jp",), "docomo"),
        ("ezweb.ne.jp", ("lsean.ezweb.ne.jp",), "au"),
    ],
)
def test_known_providers_are_recognised(domain: str, hosts: tuple[str, ...], key: str):
    found = recognise(domain, hosts)

    assert (found.key, found.kind) == (key, GroupKind.PROVIDER)


@pytest.mark.parametrize("hosts", [("aspmx.l.google.com", "mx.elsewhere.example"), ("google.com.evil.example",)])
def test_one_foreign_host_makes_it_somebody_else(hosts: tuple[str, ...]):
    assert recognise("customer.example", hosts).kind == GroupKind.SITE


def test_domains_with_the_same_hosts_are_one_site():
    hosts = ("mx1.host.example", "mx2.host.example")

    assert recognise("a.example", hosts) == recognise("b.example", hosts)
    assert recognise("a.example", hosts).title == "mx1.host.example"


def test_the_key_of_a_site_with_many_hosts_fits_its_column():
    hosts = tuple(f"a-rather-long-name-of-a-host-{number}.example.test" for number in range(40))

    first, second = recognise("a.example", hosts), recognise("a.example", hosts[1:])

    assert len(first.key) <= 255
    assert first.key != second.key


def test_keys_of_providers_are_unique_and_their_limits_positive():
    keys = [provider.key for provider in providers()]

    assert len(keys) == len(set(keys))
    assert all(p.limits.connections > 0 and p.limits.messages_per_connection > 0 for p in providers())


def test_an_operators_overrides_count_and_unknown_ones_do_not():
    limits = default_limits("google", GroupKind.PROVIDER).overridden({"connections": 2, "colour": "blue"})

    assert limits.connections == 2
    assert limits.messages_per_connection == default_limits("google", GroupKind.PROVIDER).messages_per_connection


def test_a_smarthost_has_a_shaping_of_its_own():
    assert default_limits("route:1", GroupKind.SMARTHOST).connections == 20
    assert default_limits("site:mx.example", GroupKind.SITE).connections < 20
