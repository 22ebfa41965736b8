"""SPF look-ups are counted as a receiver counts them, against a name server of our own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from delivery import spf
from delivery.dns import Resolver
from tests.support.dns_server import Behaviour, FakeDns


def _tree(record: str, texts: Mapping[str, str], *, addresses: tuple[str, ...] = (), **more: Behaviour) -> spf.Tree:
    async def look() -> spf.Tree | None:
        records = {name: {"TXT": [f'"{text}"']} for name, text in texts.items()}
        records |= {name: {"A": ["192.0.2.1"], "MX": [f"10 {name}."]} for name in addresses}
        behaviours = {name.replace("_", "."): behaviour for name, behaviour in more.items()}
        async with FakeDns(records, behaviours=behaviours) as server:
            return await spf.evaluate("acme.example", record, Resolver(server.address, 0.3))

    tree = asyncio.run(look())
    assert tree is not None
    return tree


def test_networks_and_all_cost_nothing() -> None:
    assert _tree("v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all", {}).lookups == 0


def test_every_include_below_an_include_counts() -> None:
    tree = _tree(
        "v=spf1 include:one.example a mx ~all",
        {"one.example": "v=spf1 include:two.example ~all", "two.example": "v=spf1 ip4:192.0.2.1 ~all"},
        addresses=("acme.example",),
    )

    assert tree.lookups == 4
    assert [(branch.term, branch.lookups) for branch in tree.branches] == [
        ("include:one.example", 2),
        ("a", 1),
        ("mx", 1),
    ]
    assert tree.is_complete


def test_a_redirect_counts_only_without_all() -> None:
    texts = {"one.example": "v=spf1 ip4:192.0.2.1 -all"}

    assert _tree("v=spf1 redirect=one.example", texts).lookups == 1
    assert _tree("v=spf1 redirect=one.example -all", texts).lookups == 0


def test_an_include_without_a_record_breaks_all_of_it() -> None:
    tree = _tree("v=spf1 include:gone.example include:empty.example ~all", {"empty.example": "no spf here"})

    assert set(tree.broken) == {"gone.example", "empty.example"}
    assert tree.voids == ("gone.example",)


def test_names_that_do_not_exist_are_told() -> None:
    assert _tree("v=spf1 a:old.example mx:older.example ~all", {}).voids == ("old.example", "older.example")


def test_a_circle_ends() -> None:
    tree = _tree(
        "v=spf1 include:one.example ~all",
        {"one.example": "v=spf1 include:two.example ~all", "two.example": "v=spf1 include:one.example ~all"},
    )

    assert tree.broken == ("one.example",)
    assert tree.lookups == 3


def test_a_silent_server_leaves_the_count_open_and_blames_nobody() -> None:
    tree = _tree("v=spf1 include:slow.example ~all", {}, slow_example=Behaviour.SERVFAIL)

    assert not tree.is_complete
    assert tree.broken == tree.voids == ()


def test_a_record_without_end_is_not_followed_without_end() -> None:
    texts = {
        f"n{number}.example": "v=spf1 " + " ".join(f"include:n{number * 4 + child}.example" for child in range(1, 5))
        for number in range(200)
    }

    tree = _tree("v=spf1 include:n0.example", texts)

    assert not tree.is_complete
    assert tree.lookups > spf.MOST_LOOKUPS


@pytest.mark.parametrize(
    ("record", "token", "fixed"),
    [
        ("v=spf1 include=_spf.example ~all", "include=_spf.example", "include:_spf.example"),
        ("v=spf1 ipv4:192.0.2.1 ~all", "ipv4:192.0.2.1", "ip4:192.0.2.1"),
        ("v=spf1 ip4:192.0.2.300 ~all", "ip4:192.0.2.300", ""),
        ("v=spf1 include: ~all", "include:", ""),
        ("v=spf1 nonsense ~all", "nonsense", ""),
    ],
)
def test_a_term_that_is_not_valid_is_named_and_mended_where_possible(record: str, token: str, fixed: str) -> None:
    with pytest.raises(spf.Malformed) as fault:
        spf.read_terms(record)

    assert (fault.value.token, fault.value.fixed) == (token, fixed)
