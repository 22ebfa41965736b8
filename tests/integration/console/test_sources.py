"""The operator's pages of source addresses and pools."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.utils import timezone

from accounts.credentials import issue_credential
from accounts.identifiers import uuid7
from accounts.models import AuditEntry
from delivery import pools, sources
from delivery.models import Node, SourceAddress, SourcePool, SourceState, Stream, Worker
from tests.integration.console.conftest import SignedIn
from tests.support.journeys import Cast, Fate, write_message

SOURCES, POOLS = "/operator/sources/", "/operator/pools/"


@pytest.fixture
def olivia(cast: Cast, signed_in: SignedIn) -> Client:
    return signed_in(cast.olivia)


@pytest.fixture
def address(db: None) -> SourceAddress:
    node, _is_new = Node.objects.get_or_create(name="a")
    Worker.objects.create(
        slot="a/worker-1",
        incarnation=uuid7(),
        node=node,
        part="worker",
        pid=1,
        version="1",
        heartbeat_at=timezone.now(),
    )
    return SourceAddress.objects.create(
        address="192.0.2.10", ehlo_name="mx.relay.example", node=node, pool=pools.find_pool("default")
    )


def state_of(source: SourceAddress) -> str:
    source.refresh_from_db()
    return source.state


def test_a_range_is_added_with_names_of_their_own(cast: Cast, olivia: Client) -> None:
    given = {"address": "192.0.2.10-192.0.2.12", "ehlo": "mx-{ip}.relay.example", "pool": "default", "node": "a"}

    page = olivia.post(f"{SOURCES}add/", given, follow=True).content.decode()

    assert "3 addresses are in use from now on." in page
    names = SourceAddress.objects.filter(node_id="a").order_by("address").values_list("address", "ehlo_name")
    assert list(names) == [(f"192.0.2.{n}", f"mx-192-0-2-{n}.relay.example") for n in (10, 11, 12)]
    assert AuditEntry.objects.filter(action="source.add", actor=cast.olivia).count() == 3


@pytest.mark.parametrize(
    ("address", "number"),
    [("192.0.2.8/29", 6), ("2001:db8::10-2001:db8::1f", 16), ("192.0.2.7/32", 1), (" 2001:DB8::1 ", 1)],
)
def test_what_a_network_and_a_range_hold(address: str, number: int) -> None:
    assert len(sources.addresses_in(address)) == number


@pytest.mark.parametrize(
    ("given", "ehlo"),
    [
        ("192.0.2.10-192.0.2.1", "mx-{ip}.relay.example"), ("192.0.2.1-2001:db8::1", "mx-{ip}.relay.example"),
        ("10.0.0.0/8", "mx-{ip}.relay.example"), ("2001:db8::/64", "mx-{ip}.relay.example"), ("nonsense", ""),
        ("192.0.2.8/29", "mx.relay.example"), ("192.0.2.9-192.0.2.11", "mx-{ip}.relay.example"), ("224.0.0.1", ""),
    ],
)  # fmt: skip
def test_a_bad_range_adds_nothing(olivia: Client, address: SourceAddress, given: str, ehlo: str) -> None:
    before = SourceAddress.objects.count()

    page = olivia.post(f"{SOURCES}add/", {"address": given, "ehlo": ehlo, "pool": "default", "node": "a"})

    assert page.status_code == 200 and b"_error" in page.content
    assert SourceAddress.objects.count() == before


def test_an_address_is_paused_and_used_again(olivia: Client, address: SourceAddress) -> None:
    asked = olivia.get(f"{SOURCES}{address.id}/pause/").content.decode()
    assert "It has no other usable address and no stand-by." in asked

    page = olivia.post(f"{SOURCES}{address.id}/pause/", {"reason": "moving house"}, follow=True).content.decode()
    assert state_of(address) == SourceState.PAUSED and "moving house" in page
    olivia.post(f"{SOURCES}{address.id}/resume/")
    assert state_of(address) == SourceState.ACTIVE


def test_the_last_address_retires_and_its_queue_goes_to_another_pool(
    cast: Cast, olivia: Client, address: SourceAddress
) -> None:
    SourcePool.objects.create(name="spare")
    write_message(cast.acme, Fate(address="a@far.test", state="queued"))
    path = f"{SOURCES}{address.id}/retire/"
    assert "1 recipient waits in the pool “default”." in olivia.get(path).content.decode()

    assert "is retired." in olivia.post(path, {"reason": "sold", "queue_to": "spare"}, follow=True).content.decode()

    assert state_of(address) == SourceState.RETIRED
    assert address.pool.standby is not None and address.pool.standby.name == "spare"
    assert address.address not in olivia.get(SOURCES).content.decode()
    assert address.address in olivia.get(f"{SOURCES}?state=retired").content.decode()
    assert set(AuditEntry.objects.values_list("action", flat=True)) == {"pool.standby", "source.remove"}


def test_an_address_moves_and_gets_another_name(olivia: Client, address: SourceAddress) -> None:
    SourcePool.objects.create(name="spare")
    given = {"ehlo": "MX9.relay.example", "pool": "spare", "weight": "3", "note": "rack 3"}

    page = olivia.post(f"{SOURCES}{address.id}/edit/", given, follow=True).content.decode()

    address.refresh_from_db()
    assert (address.ehlo_name, address.pool.name) == ("mx9.relay.example", "spare")
    assert (address.weight, address.note) == (3, "rack 3")
    assert "to another pool" in page and "default → spare" in page
    olivia.post(f"{SOURCES}{address.id}/edit/", given)
    assert AuditEntry.objects.count() == 2
    assert b"id_ehlo_error" in olivia.post(f"{SOURCES}{address.id}/edit/", given | {"ehlo": "no name"}).content
    assert b"id_weight_error" in olivia.post(f"{SOURCES}{address.id}/edit/", given | {"weight": "0"}).content


def test_an_address_that_cannot_be_used_says_why(olivia: Client, address: SourceAddress) -> None:
    SourceAddress.objects.filter(pk=address.pk).update(state="unusable", state_reason="cannot bind <b>192.0.2.10")

    page = olivia.get(SOURCES).content.decode()

    assert "1 address cannot be used." in page and "cannot bind &lt;b&gt;192.0.2.10" in page


def test_a_long_list_comes_in_pages_with_few_queries(
    olivia: Client, address: SourceAddress, django_assert_max_num_queries
) -> None:  # type: ignore[no-untyped-def]
    sources.add_sources(
        "198.51.100.0-198.51.100.119", actor=_actor(), ehlo_name="mx-{ip}.relay.example", node="a", pool="default"
    )
    seen: list[str] = []
    path = SOURCES
    while path:
        with django_assert_max_num_queries(15):
            page = olivia.get(path).content.decode()
        seen += [part.split("<")[0] for part in page.split('<span translate="no">')[1:] if part.startswith(("1",))]
        older = re.search(r'href="\?[^"]*before=([0-9a-f-]+)"', page)
        path = f"{SOURCES}?before={older[1]}" if older else ""
    assert len([one for one in seen if one.startswith("198.")]) == 120
    assert len(set(seen)) == len(seen)
    with django_assert_max_num_queries(15):
        olivia.get(f"{SOURCES}{address.id}/")
    assert "120 addresses fit." in olivia.get(f"{SOURCES}?q=198.51").content.decode()


def test_a_pool_is_made_for_a_tenant_given_its_streams_and_removed(cast: Cast, olivia: Client) -> None:
    page = olivia.post(f"{POOLS}add/", {"name": "acme-1", "kind": "dedicated", "tenant": "acme"}, follow=True)
    assert "Dedicated to one tenant" in page.content.decode()
    path = f"{POOLS}acme-1/"

    assigned = olivia.post(f"{path}assign/", {"tenant": "acme", "stream": ""}, follow=True)
    assert "its mail waits" in assigned.content.decode(), "it has no address yet"
    assert set(Stream.objects.of(cast.acme).values_list("pool__name", flat=True)) == {"acme-1"}
    assert b"belongs to another tenant" in olivia.post(f"{path}assign/", {"tenant": "globex"}).content
    assert not Stream.objects.of(cast.globex).exclude(pool=None).exists()
    assert b"id_tenant_error" in olivia.post(f"{path}assign/", {"tenant": "nobody"}).content
    assert b"is in use" in olivia.post(f"{path}remove/", follow=True).content

    for stream in Stream.objects.of(cast.acme):
        olivia.post(f"{path}unassign/", {"stream": str(stream.pk)})
    olivia.post(f"{path}remove/")
    assert not SourcePool.objects.filter(name="acme-1").exists()


def test_a_standby_is_set_and_taken_back(olivia: Client, address: SourceAddress) -> None:
    SourcePool.objects.create(name="spare")
    olivia.post(f"{POOLS}default/standby/", {"standby": "spare"})
    assert pools.find_pool("default").standby == pools.find_pool("spare")
    assert b"id_standby_error" in olivia.post(f"{POOLS}spare/standby/", {"standby": "default"}).content
    olivia.post(f"{POOLS}default/standby/", {"standby": ""})
    assert pools.find_pool("default").standby is None


def test_a_pool_whose_mail_is_stuck_is_named(cast: Cast, olivia: Client, django_assert_max_num_queries) -> None:  # type: ignore[no-untyped-def]
    write_message(cast.acme, Fate(address="a@far.test", state="queued"))

    with django_assert_max_num_queries(15):
        page = olivia.get(POOLS).content.decode()

    assert "no usable address and no stand-by:" in page
    with django_assert_max_num_queries(15):
        assert "its mail waits" in olivia.get(f"{POOLS}default/").content.decode()


def _actor():  # type: ignore[no-untyped-def]
    from accounts.audit import Actor

    return Actor.system("test")


def test_an_address_is_drained_and_says_what_is_left(olivia: Client, address: SourceAddress) -> None:
    page = olivia.post(f"{SOURCES}{address.id}/drain/", {"reason": "moving house"}, follow=True).content.decode()

    assert state_of(address) == "draining" and "moving house" in page
    assert "Nothing is left on it" in page and f"{SOURCES}{address.id}/pause/" in page
    assert "already" in olivia.post(f"{SOURCES}{address.id}/drain/", {"reason": ""}, follow=True).content.decode()
    olivia.post(f"{SOURCES}{address.id}/resume/")
    assert state_of(address) == "active"
    sources.pause_source(address, actor=_actor())
    assert b"Only a source in use" in olivia.post(f"{SOURCES}{address.id}/drain/", {"reason": ""}, follow=True).content
    assert AuditEntry.objects.filter(action="source.drain").count() == 1


def test_a_credential_gets_a_pool_and_loses_it(
    cast: Cast, olivia: Client, signed_in: SignedIn, django_assert_max_num_queries
) -> None:  # type: ignore[no-untyped-def]
    login = issue_credential(cast.acme, kind="smtp", name="shop", actor=_actor()).credential
    for name, owner in (("quick", None), ("globex-own", cast.globex)):
        pools.add_pool(name, kind="dedicated" if owner else "shared", tenant=owner, actor=_actor())
    listed, path = "/operator/tenants/acme/credentials/", f"/operator/tenants/acme/credentials/{login.pk}/pool/"
    shown = f"/t/acme/credentials/{login.pk}/"
    alice = signed_in(cast.alice)

    asked = olivia.get(path).content.decode()
    refused = olivia.post(path, {"pool": "globex-own"}).content
    page = olivia.post(path, {"pool": "quick"}, follow=True).content.decode()

    assert "quick (Shared)" in asked and "globex-own" not in asked
    assert b"id_pool_error" in refused
    assert "leaves from “quick” from now on." in page and "/operator/pools/quick/" in page
    assert "/operator/pools/quick/" in olivia.get("/operator/tenants/acme/").content.decode()
    assert path in olivia.get(f"{POOLS}quick/").content.decode()
    assert "the pool “quick”, chosen by the operator" in alice.get(shown).content.decode()
    assert b"is in use" in olivia.post(f"{POOLS}quick/remove/", follow=True).content
    with django_assert_max_num_queries(15):
        olivia.get(listed)
    assert olivia.get(f"/operator/tenants/globex/credentials/{login.pk}/pool/").status_code == 404

    olivia.post(path, {"pool": ""})
    assert "chosen by the operator" not in alice.get(shown).content.decode()
    assert "/operator/pools/quick/" not in olivia.get(listed).content.decode()
    recorded = AuditEntry.objects.filter(action="credential.pool").order_by("id")
    assert [(one.before, one.after) for one in recorded] == [
        ({"pool": None}, {"pool": "quick"}),
        ({"pool": "quick"}, {"pool": None}),
    ]
    assert "Chose the pool that mail of the credential shop leaves from" in alice.get("/t/acme/audit/").content.decode()
