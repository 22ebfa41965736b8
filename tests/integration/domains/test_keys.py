"""DKIM keys of a domain: two of them, sealed, and only one signs: one that verifiers can find."""

from __future__ import annotations

import base64
import time
from datetime import date, timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts import factors, sealing
from accounts.audit import Actor
from accounts.identifiers import uuid7
from accounts.models import AuditEntry, Tenant, User
from accounts.refusals import Refused
from delivery import domain_keys, domain_records, domain_watch, domains, keys
from delivery.core.content import read_header_section
from delivery.core.unsubscribing import make_token
from delivery.core.verp import make_bounce_mailbox, read_bounce_mailbox
from delivery.models import DkimKey, SendingDomain
from delivery.transport.signing import DkimSigner, body_hash, public_record
from delivery.unsubscribes import recipient_of
from tests.support.dns_server import FakeDns


def _states(domain: SendingDomain) -> dict[str, str]:
    return dict(DkimKey.objects.filter(domain=domain).values_list("selector", "state"))


def _publish(name_server: FakeDns, domain: SendingDomain, *selectors: str) -> None:
    """Ownership, and these keys by the CNAME, as a customer would set them."""
    wanted = domain_records.wanted_of(domain)
    name_server.records[wanted.ownership_name] = {"TXT": [f'"{wanted.ownership_value}"']}
    for key in wanted.keys:
        halves = " ".join(f'"{key.public_record[start : start + 200]}"' for start in range(0, 600, 200))
        name_server.records[key.target] = {"TXT": [halves]}
        name_server.records.pop(key.name_at(domain.name), None)
        if key.selector in selectors:
            name_server.records[key.name_at(domain.name)] = {"CNAME": [f"{key.target}."]}


def test_a_domain_has_two_sealed_keys(acme: Tenant, alice: Actor) -> None:
    domain = domains.add_domain(acme, "acme.example", actor=alice)

    found = list(DkimKey.objects.filter(domain=domain).order_by("selector"))
    assert [key.selector for key in found] == ["rw1", "rw2"]
    for key in found:
        sealed = bytes(key.sealed_private_key)
        assert b"PRIVATE KEY" not in sealed
        pem = sealing.unseal(sealed, context=DkimKey.sealing_context(key.id))
        assert public_record(pem) == key.public_record


def test_nothing_signs_before_a_key_is_seen(acme: Tenant, alice: Actor, name_server: FakeDns) -> None:
    domain = domains.add_domain(acme, "acme.example", actor=alice)
    _publish(name_server, domain)

    checked = domain_watch.check_domain(domain)

    assert checked.state == "verified"
    assert _states(domain) == {"rw1": "waiting", "rw2": "waiting"}


def test_a_vouched_domain_signs_with_its_first_key(acme: Tenant, operator: Actor) -> None:
    domain = domains.add_domain(acme, "acme.example", actor=operator, assume_verified=True)

    assert _states(domain) == {"rw1": "signing", "rw2": "waiting"}
    key = DkimKey.objects.get(domain=domain, state="signing")
    pem = sealing.unseal(bytes(key.sealed_private_key), context=DkimKey.sealing_context(key.id))
    fields = read_header_section(b"From: hello@acme.example\r\n\r\nHello\r\n").fields
    signer = DkimSigner(domain.name, key.selector, pem)
    assert signer.sign(fields, body_hash(b"Hello\r\n"), now=domain.created_at).startswith(b"DKIM-Signature:")


def test_the_first_key_that_is_seen_signs_and_stays(acme: Tenant, alice: Actor, name_server: FakeDns) -> None:
    domain = domains.add_domain(acme, "acme.example", actor=alice)
    _publish(name_server, domain, "rw1", "rw2")

    domain_watch.check_domain(domain)
    assert _states(domain) == {"rw1": "signing", "rw2": "waiting"}
    _publish(name_server, domain, "rw2")
    domain_watch.check_domain(domain)
    assert _states(domain) == {"rw1": "waiting", "rw2": "signing"}
    _publish(name_server, domain, "rw1", "rw2")
    domain_watch.check_domain(domain)

    assert _states(domain) == {"rw1": "waiting", "rw2": "signing"}
    assert DkimKey.objects.filter(domain=domain, seen_at=None).count() == 0


def test_a_key_in_use_goes_on_signing_while_no_other_is_seen(acme: Tenant, alice: Actor, name_server: FakeDns) -> None:
    domain = domains.add_domain(acme, "acme.example", actor=alice)
    _publish(name_server, domain, "rw1")
    domain_watch.check_domain(domain)
    _publish(name_server, domain)

    domain_watch.check_domain(domain)

    assert _states(domain) == {"rw1": "signing", "rw2": "waiting"}


def test_a_key_that_was_replaced_a_month_ago_is_erased(acme: Tenant, operator: Actor) -> None:
    domain = domains.add_domain(acme, "acme.example", actor=operator, assume_verified=True)
    domain_keys.renew_key(domain, actor=operator)
    in_a_month = timezone.now() + domain_keys.RETIRED_KEPT

    assert domain_keys.forget_retired(now=in_a_month - timedelta(hours=1)) == 0
    assert domain_keys.forget_retired(now=in_a_month + timedelta(hours=1)) == 1

    assert _states(domain) == {"rw1": "signing", "rw2": "waiting"}


def test_the_records_carry_what_the_last_check_found(acme: Tenant, alice: Actor, name_server: FakeDns) -> None:
    domain = domains.add_domain(acme, "acme.example", actor=alice)
    assert all(record.found is None and not record.ok for record in domain_records.records_of(domain))
    _publish(name_server, domain, "rw1", "rw2")
    name_server.records["acme.example"] = {"TXT": ['"v=spf1 mx -all"'], "MX": ["10 mx.acme.example."]}

    found = {
        (record.purpose, record.type, record.name): record
        for record in domain_records.records_of(domain_watch.check_domain(domain))
    }

    assert found["ownership", "TXT", "_relay.acme.example"].ok
    assert found["dkim", "CNAME", "rw1._domainkey.acme.example"].ok
    assert found["dkim", "TXT", "rw1._domainkey.acme.example"].ok
    assert not found["bounce", "CNAME", "bounce.acme.example"].ok
    spf = found["spf", "TXT", "acme.example"]
    assert (spf.found, spf.value) == ("v=spf1 mx -all", "v=spf1 mx include:bounce.relay.test -all")


def test_the_bounce_host_is_used_once_its_cname_is_seen(acme: Tenant, alice: Actor, name_server: FakeDns) -> None:
    domain = domains.add_domain(acme, "acme.example", actor=alice)
    _publish(name_server, domain)
    assert domain_watch.check_domain(domain).bounce_host == ""
    name_server.records["bounce.acme.example"] = {"CNAME": ["bounce.relay.test."]}

    assert domain_watch.check_domain(domain).bounce_host == "bounce.acme.example"


def test_the_platforms_records_are_where_the_cnames_lead(acme: Tenant, alice: Actor) -> None:
    domain = domains.add_domain(acme, "acme.example", actor=alice)

    published = {name: value for name, _kind, value in domains.platform_records()}

    for record in domain_records.records_of(domain):
        if record.purpose == "dkim" and record.type == "CNAME":
            assert record.value.endswith(".dkim.relay.test")
            assert published[record.value].startswith("v=DKIM1; k=rsa; p=")


def test_sealed_keys_are_carried_over_to_a_new_current_key(acme: Tenant, operator: Actor, settings: Any) -> None:
    domains.add_domain(acme, "acme.example", actor=operator)
    former = dict(settings.ENCRYPTION_KEYS)
    settings.ENCRYPTION_KEYS = {"new": b"n" * 32, **former}

    assert keys.reseal_all(actor=operator).dkim_keys == 2
    assert keys.reseal_all(actor=operator).dkim_keys == 0

    settings.ENCRYPTION_KEYS = {"new": b"n" * 32}
    for key in DkimKey.objects.all():
        assert b"PRIVATE KEY" in sealing.unseal(bytes(key.sealed_private_key), context=DkimKey.sealing_context(key.id))


def test_a_secret_whose_key_is_gone_is_said(acme: Tenant, operator: Actor, settings: Any) -> None:
    domains.add_domain(acme, "acme.example", actor=operator)
    settings.ENCRYPTION_KEYS = {"new": base64.b64decode("bm4=").ljust(32)}

    with pytest.raises(sealing.SealingError):
        keys.reseal_all(actor=operator)


def test_a_new_key_takes_over_once_its_record_is_seen_and_not_before(
    acme: Tenant, alice: Actor, operator: Actor, name_server: FakeDns
) -> None:
    domain = domains.add_domain(acme, "acme.example", actor=alice)
    _publish(name_server, domain, "rw1", "rw2")
    domain_watch.check_domain(domain)
    old = DkimKey.objects.get(domain=domain, selector="rw2")

    made = domain_keys.renew_key(domain, actor=operator)

    assert (made.selector, made.pk != old.pk, made.public_record != old.public_record) == ("rw2", True, True)
    with pytest.raises(Refused, match=r"rw2\._domainkey\.acme\.example"):
        domain_keys.switch_key(domain, actor=operator)
    assert DkimKey.objects.get(domain=domain, state="signing").selector == "rw1"

    _publish(name_server, domain, "rw1", "rw2")
    assert domain_keys.switch_key(domain, actor=operator).pk == made.pk
    domain_watch.check_domain(domain)
    assert DkimKey.objects.get(domain=domain, state="signing").pk == made.pk
    assert list(DkimKey.objects.filter(domain=domain, state="retired")) == [old]
    domain_keys.renew_key(domain, actor=operator)
    assert DkimKey.objects.filter(domain=domain).exclude(state="retired").count() == 2
    actions = (
        AuditEntry.objects.filter(action__startswith="domain.key_").order_by("id").values_list("action", flat=True)
    )
    assert list(actions) == ["domain.key_renew", "domain.key_switch", "domain.key_renew"]


@pytest.fixture
def rotated(acme: Tenant, alice: Actor, settings: Any) -> dict[str, Any]:
    """What was made with the former key, and then a new one put in front of it."""
    person, recipient_id, secret = User.objects.get(email="alice@acme.example"), uuid7(), factors.new_secret()
    factors.set_one_time_password(person, secret, _code(secret, -1), actor=alice)
    mailbox = make_bounce_mailbox(
        recipient_id, "bounce.relay.test", key=sealing.derived_keys("verp")[0], expires_on=date(2030, 1, 1)
    )
    made = {
        "person": person,
        "secret": secret,
        "recovery_code": factors.new_recovery_codes(person, actor=alice)[0],
        "recipient_id": recipient_id,
        "mailbox": mailbox,
        "link": make_token(recipient_id, key=sealing.derived_keys("unsubscribe")[0]),
    }
    settings.ENCRYPTION_KEYS = {"new": b"n" * 32, **settings.ENCRYPTION_KEYS}
    return made


def test_what_a_former_key_has_signed_is_known_while_it_stands_behind_the_new_one(rotated: dict[str, Any]) -> None:
    tag = read_bounce_mailbox(rotated["mailbox"], keys=sealing.derived_keys("verp"))

    assert tag is not None and tag.recipient_id == rotated["recipient_id"]
    assert recipient_of(rotated["link"]) == rotated["recipient_id"]
    assert factors.check_code(rotated["person"], rotated["recovery_code"])


def test_an_authenticator_app_goes_on_when_the_former_key_is_taken_out(
    rotated: dict[str, Any], operator: Actor, settings: Any
) -> None:
    assert keys.used_key_ids() == {"test"}
    assert keys.reseal_all(actor=operator).one_time_passwords == 1
    assert keys.used_key_ids() == {"new"}

    settings.ENCRYPTION_KEYS = {"new": b"n" * 32}

    assert factors.check_code(rotated["person"], _code(rotated["secret"]))
    # These cannot be made anew without their owner (docs/upgrading.md).
    assert not factors.check_code(rotated["person"], rotated["recovery_code"])


def test_an_app_whose_key_is_gone_is_a_wrong_code_and_no_failure(rotated: dict[str, Any], settings: Any) -> None:
    settings.ENCRYPTION_KEYS = {"new": b"n" * 32}

    assert not factors.check_code(rotated["person"], _code(rotated["secret"]))


def _code(secret: str, steps: int = 0) -> str:
    return factors.code_at(secret, int(time.time()) // factors.STEP_SECONDS + steps)
