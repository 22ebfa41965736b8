"""The pages of sending domains: added, proved, explained, handed on, removed and brought back."""

from __future__ import annotations

import pytest
from django.test import Client

from accounts.audit import Actor
from accounts.models import AuditEntry, Membership, Role
from delivery import domain_records, domain_watch, domains
from delivery.models import DomainState, SendingDomain
from tests.integration.console.conftest import SignedIn
from tests.support.dns_server import FakeDns
from tests.support.journeys import Cast

PAGE = "/t/acme/domains/acme.example/"


@pytest.fixture
def acmes(cast: Cast) -> SendingDomain:
    return domains.add_domain(cast.acme, "acme.example", actor=Actor.system("test"))


def _publish(domain: SendingDomain, server: FakeDns, *, without: tuple[str, ...] = ()) -> None:
    for record in domain_records.records_of(domain):
        if record.purpose not in without and (record.purpose, record.type) != ("dkim", "TXT"):
            value = f"{record.value}." if record.type == "CNAME" else f'"{record.value}"'
            server.records.setdefault(record.name, {}).setdefault(record.type, []).append(value)
    for name, kind, value in domains.platform_records([domain]):
        server.records[name] = {kind: [" ".join(f'"{value[at : at + 200]}"' for at in range(0, len(value), 200))]}
    server.records.setdefault("acme.example", {})["MX"] = ["10 mx.acme.example."]
    server.records["bounce.relay.test"] = {"TXT": ['"v=spf1 ip4:192.0.2.0/24 ~all"']}


def test_an_empty_list_teaches(cast: Cast, alice: Client) -> None:
    answer = alice.get("/t/acme/domains/")

    assert b"No sending domain yet" in answer.content
    assert b"/t/acme/domains/add/" in answer.content


def test_a_domain_is_added_and_its_records_are_shown(cast: Cast, alice: Client) -> None:
    answer = alice.post("/t/acme/domains/add/", {"name": "Acme.Example"})

    assert answer["Location"] == PAGE
    page = alice.get(PAGE).content.decode()
    domain = SendingDomain.objects.of(cast.acme).get()
    for expected in (domain.ownership_token, "rw1._domainkey.acme.example", "bounce.acme.example", "v=DMARC1; p=none"):
        assert expected in page
    entry = AuditEntry.objects.get(action="domain.add")
    assert (entry.actor, entry.peer_address) == (cast.alice, "127.0.0.1")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("co.jp", "is a suffix under which others register"),
        ("gmail.com", "belongs to a mail provider"),
        ("not a name", "is no domain name"),
        ("", "This field is required"),
    ],
)
def test_a_refused_name_says_why_at_the_field(name: str, sentence: str, cast: Cast, alice: Client) -> None:
    page = alice.post("/t/acme/domains/add/", {"name": name}).content.decode()

    assert sentence in page
    assert 'aria-describedby="id_name_helptext id_name_error"' in page
    assert not SendingDomain.objects.of(cast.acme).exists()


def test_check_now_finds_what_was_published(
    cast: Cast, alice: Client, acmes: SendingDomain, name_server: FakeDns
) -> None:
    _publish(acmes, name_server)

    page = alice.post(f"{PAGE}check/", follow=True).content.decode()

    acmes.refresh_from_db()
    assert acmes.state == DomainState.VERIFIED
    assert "is proved" in page
    assert "DMARC only watches" in page
    assert "1 of 10" in page


def test_findings_say_what_to_do(cast: Cast, alice: Client, acmes: SendingDomain, name_server: FakeDns) -> None:
    _publish(acmes, name_server, without=("spf", "bounce"))
    name_server.records["acme.example"]["TXT"] = ['"v=spf1 include:gone.example <b> ~all"']

    page = alice.post(f"{PAGE}check/", follow=True).content.decode()

    assert "“&lt;b&gt;” is not valid, so the whole SPF record is" in page
    assert "The bounce CNAME “bounce.acme.example” is missing" in page
    assert "<b> ~all" not in page


def test_the_part_that_refreshes_is_silent_until_a_check_was_made(
    cast: Cast, alice: Client, acmes: SendingDomain, name_server: FakeDns
) -> None:
    seen = "pending-0"
    assert alice.get(f"{PAGE}live/?seen={seen}").status_code == 204

    domain_watch.check_domain(acmes)

    answer = alice.get(f"{PAGE}live/?seen={seen}")
    assert answer.status_code == 200
    assert b"The ownership TXT record was not found" in answer.content or b"does not exist" in answer.content


def test_the_records_are_handed_on_as_text_and_zone_file(cast: Cast, alice: Client, acmes: SendingDomain) -> None:
    page = alice.get(f"{PAGE}hand-on/").content.decode()
    zone = alice.get(f"{PAGE}zone/")

    assert "mailto:?subject=" in page
    assert zone["Content-Disposition"] == 'attachment; filename="acme.example.zone"'
    assert f'_relay.acme.example. 3600 IN TXT "relay-verify={acmes.ownership_token}"\n' in zone.content.decode()
    assert "rw1._domainkey.acme.example. 3600 IN CNAME rw1." in zone.content.decode()


def test_switches_are_kept_and_recorded(cast: Cast, alice: Client, acmes: SendingDomain) -> None:
    alice.post(f"{PAGE}switch/", {"signs": "off"})

    acmes.refresh_from_db()
    assert (acmes.signs, acmes.covers_subdomains) == (False, True)
    assert AuditEntry.objects.get(action="domain.update").after == {"signs": False}


def test_a_domain_is_removed_after_a_question_and_comes_back(cast: Cast, alice: Client, acmes: SendingDomain) -> None:
    question = alice.get(f"{PAGE}remove/").content.decode()
    assert "You can restore it until" in question
    assert SendingDomain.objects.of(cast.acme).get().state == DomainState.PENDING

    page = alice.post(f"{PAGE}remove/", follow=True).content.decode()
    assert "can be restored" in page
    assert alice.get(PAGE).status_code == 404

    alice.post(f"/t/acme/domains/removed/{acmes.id}/restore/")
    assert alice.get(PAGE).status_code == 200
    assert [entry.action for entry in AuditEntry.objects.order_by("id")][-2:] == ["domain.remove", "domain.restore"]


def test_an_analyst_reads_and_changes_nothing(cast: Cast, acmes: SendingDomain, signed_in: SignedIn) -> None:
    Membership.objects.filter(user=cast.bob).update(role=Role.ANALYST)
    bob = signed_in(cast.bob)

    page = bob.get(PAGE)
    refused = [bob.post(f"{PAGE}{action}/").status_code for action in ("check", "switch", "remove")]

    assert page.status_code == 200
    assert b"Remove this domain" not in page.content
    assert refused == [403, 403, 403]
    assert bob.post("/t/acme/domains/add/", {"name": "b.example"}).status_code == 403


def test_an_operator_among_the_members_vouches_for_nothing_here(cast: Cast, alice: Client) -> None:
    cast.alice.is_operator = True
    cast.alice.save()

    alice.post("/t/acme/domains/add/", {"name": "acme.example"})

    assert SendingDomain.objects.of(cast.acme).get().state == DomainState.PENDING


def test_a_page_asks_the_database_little(
    cast: Cast, alice: Client, acmes: SendingDomain, django_assert_max_num_queries
) -> None:  # type: ignore[no-untyped-def]
    for number in range(8):
        domains.add_domain(cast.acme, f"d{number}.example", actor=Actor.system("test"))

    with django_assert_max_num_queries(15):
        alice.get(PAGE)
    with django_assert_max_num_queries(15):
        alice.get("/t/acme/domains/")
