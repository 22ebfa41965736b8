"""A domain is claimed, proved by its TXT record, watched, and given up; it has one owner at a time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.audit import Actor
from accounts.models import AuditEntry, Tenant
from accounts.refusals import NotFound, Refused
from delivery import domain_records, domain_watch, domains
from delivery.domain_checks import Finding
from delivery.models import DomainState, Message, Recipient, SendingDomain, TenantEvent
from tests.support.dns_server import Behaviour, FakeDns
from tests.support.journeys import Fate, write_message

DAY = timedelta(days=1)


def _publish(name_server: FakeDns, domain: SendingDomain) -> None:
    name_server.records.setdefault(domain.name, {"MX": [f"10 mx.{domain.name}."]})
    entry = name_server.records.setdefault(f"_relay.{domain.name}", {"TXT": []})
    entry["TXT"].append(f'"relay-verify={domain.ownership_token}"')


def _withdraw(name_server: FakeDns, domain: SendingDomain) -> None:
    del name_server.records[f"_relay.{domain.name}"]


def _proved(tenant: Tenant, name_server: FakeDns, actor: Actor, name: str = "acme.example") -> SendingDomain:
    domain = domains.add_domain(tenant, name, actor=actor)
    _publish(name_server, domain)
    return domain_watch.check_domain(domain)


def _waiting_mail(tenant: Tenant, domain: SendingDomain) -> Message:
    message = write_message(tenant, Fate(address="taro@x.example", state="queued", tries=()))
    Message.objects.filter(pk=message.pk).update(domain_id=domain.id)
    return message


def _states(message: Message) -> list[tuple[str, str]]:
    return list(Recipient.objects.filter(message_id=message.pk).values_list("state", "reason"))


# ---------------------------------------------------------------- claiming


def test_a_claim_waits_until_its_record_is_seen(acme: Tenant, alice: Actor, name_server: FakeDns) -> None:
    domain = domains.add_domain(acme, "Acme.Example", actor=alice)

    assert (domain.name, domain.state) == ("acme.example", "pending")
    assert domain_watch.check_domain(domain).state == "pending"

    _publish(name_server, domain)
    checked = domain_watch.check_domain(domain)

    assert checked.state == "verified"
    assert checked.verified_at is not None
    assert AuditEntry.objects.filter(action="domain.verify", object_id=str(domain.id)).exists()


def test_an_international_name_is_kept_as_its_a_label(acme: Tenant, alice: Actor) -> None:
    assert domains.add_domain(acme, "例え.jp", actor=alice).name == "xn--r8jz45g.jp"
    assert domains.find_domain("例え.JP", tenant=acme).name == "xn--r8jz45g.jp"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("co.jp", "domain_is_public_suffix"),
        ("github.io", "domain_is_public_suffix"),
        ("gmail.com", "domain_of_mail_provider"),
        ("docomo.ne.jp", "domain_of_mail_provider"),
        ("printer.local", "domain_reserved"),
        ("x.onion", "domain_reserved"),
        ("acme", "domain_malformed"),
        ("192.0.2.1", "domain_malformed"),
        ("a b.example", "domain_malformed"),
        ("", "domain_malformed"),
    ],
)
def test_a_name_nobody_can_prove_is_refused(acme: Tenant, alice: Actor, name: str, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        domains.add_domain(acme, name, actor=alice)

    assert refused.value.reason == reason


def test_example_names_are_refused_where_mail_goes_to_the_internet(
    acme: Tenant, alice: Actor, operator: Actor, settings: Any
) -> None:
    settings.DEVELOPMENT = settings.TEST_PROFILE = False

    with pytest.raises(Refused):
        domains.add_domain(acme, "acme.example", actor=alice)

    assert domains.add_domain(acme, "acme.example", actor=operator, assume_verified=True).state == "verified"


def test_a_domain_is_added_once_per_tenant(acme: Tenant, alice: Actor) -> None:
    domains.add_domain(acme, "acme.example", actor=alice)

    with pytest.raises(Refused) as refused:
        domains.add_domain(acme, "ACME.example", actor=alice)

    assert refused.value.reason == "domain_added_already"


def test_only_an_operator_can_vouch(acme: Tenant, alice: Actor, operator: Actor) -> None:
    with pytest.raises(Refused):
        domains.add_domain(acme, "acme.example", actor=alice, assume_verified=True)

    domain = domains.add_domain(acme, "acme.example", actor=operator, assume_verified=True)

    assert (domain.state, domain.is_assumed) == ("verified", True)


def test_an_operators_word_stands_whatever_the_dns_says(acme: Tenant, operator: Actor, name_server: FakeDns) -> None:
    domain = domains.add_domain(acme, "acme.example", actor=operator, assume_verified=True)

    for day in range(10):
        domain = domain_watch.check_domain(domain, now=timezone.now() + day * DAY)

    assert (domain.state, domain.is_assumed, domain.failing_since) == ("verified", True, None)


def test_an_operators_word_becomes_proof_once_the_record_is_seen(
    acme: Tenant, operator: Actor, name_server: FakeDns
) -> None:
    domain = domains.add_domain(acme, "acme.example", actor=operator, assume_verified=True)
    _publish(name_server, domain)

    checked = domain_watch.check_domain(domain)

    assert (checked.state, checked.is_assumed) == ("verified", False)
    assert checked.next_check_at is not None


# ---------------------------------------------------------------- one owner


def test_a_claim_tells_nobody_that_the_domain_is_taken(
    acme: Tenant, globex: Tenant, alice: Actor, name_server: FakeDns
) -> None:
    _proved(acme, name_server, alice)

    claim = domain_watch.check_domain(domains.add_domain(globex, "acme.example", actor=alice))

    assert claim.state == "pending"
    assert Finding.CLAIMED_BY_ANOTHER not in {fault.finding for fault in domain_records.findings_of(claim)}


def test_another_tenants_token_proves_nothing(acme: Tenant, globex: Tenant, alice: Actor, name_server: FakeDns) -> None:
    mine = domains.add_domain(acme, "acme.example", actor=alice)
    theirs = domains.add_domain(globex, "acme.example", actor=alice)
    _publish(name_server, mine)

    assert domain_watch.check_domain(theirs).state == "pending"
    assert domain_watch.check_domain(mine).state == "verified"


def test_a_proved_claim_waits_while_the_owner_is_the_owner(
    acme: Tenant, globex: Tenant, alice: Actor, name_server: FakeDns
) -> None:
    owned = _proved(acme, name_server, alice)
    claim = domains.add_domain(globex, "acme.example", actor=alice)
    _publish(name_server, claim)

    checked = domain_watch.check_domain(claim)

    assert checked.state == "pending"
    assert domain_records.findings_of(checked)[0].finding == Finding.CLAIMED_BY_ANOTHER
    owned.refresh_from_db()
    assert owned.state == "verified"


def test_a_proved_claim_takes_over_from_an_owner_whose_proof_lapsed(
    acme: Tenant, globex: Tenant, alice: Actor, name_server: FakeDns
) -> None:
    owned = _proved(acme, name_server, alice)
    SendingDomain.objects.filter(pk=owned.pk).update(state=DomainState.LAPSED)
    claim = domains.add_domain(globex, "acme.example", actor=alice)
    _withdraw(name_server, owned)
    _publish(name_server, claim)

    assert domain_watch.check_domain(claim).state == "verified"

    owned.refresh_from_db()
    assert owned.state == "pending"
    assert domain_watch.check_domain(owned).state == "pending"
    assert AuditEntry.objects.filter(tenant=acme, action="domain.lose").exists()


def test_a_removed_domain_is_free_and_its_former_owner_must_prove_it_anew(
    acme: Tenant, globex: Tenant, alice: Actor, name_server: FakeDns
) -> None:
    owned = _proved(acme, name_server, alice)
    domains.remove_domain(owned, actor=alice)
    claim = domains.add_domain(globex, "acme.example", actor=alice)
    _publish(name_server, claim)  # beside acme's old token, which still stands there
    assert domain_watch.check_domain(claim).state == "verified"

    restored = domains.restore_domain(owned, actor=alice)

    assert restored.state == "pending"
    assert domain_watch.check_domain(restored).state == "pending"


def test_an_old_token_does_not_prove_a_new_claim(acme: Tenant, alice: Actor, name_server: FakeDns) -> None:
    owned = _proved(acme, name_server, alice)
    domains.remove_domain(owned, actor=alice)

    again = domain_watch.check_domain(domains.add_domain(acme, "acme.example", actor=alice))

    assert again.state == "pending"


def test_another_tenants_domain_is_not_found(acme: Tenant, globex: Tenant, alice: Actor, name_server: FakeDns) -> None:
    _proved(acme, name_server, alice)

    with pytest.raises(NotFound):
        domains.find_domain("acme.example", tenant=globex)


def test_without_a_tenant_the_owner_is_found_among_claims(
    acme: Tenant, globex: Tenant, alice: Actor, name_server: FakeDns
) -> None:
    domains.add_domain(globex, "acme.example", actor=alice)
    with_owner = _proved(acme, name_server, alice)

    assert domains.find_domain("acme.example") == with_owner


def test_without_an_owner_several_claims_are_ambiguous(acme: Tenant, globex: Tenant, alice: Actor) -> None:
    domains.add_domain(acme, "acme.example", actor=alice)
    domains.add_domain(globex, "acme.example", actor=alice)

    with pytest.raises(Refused) as refused:
        domains.find_domain("acme.example")

    assert refused.value.reason == "domain_ambiguous"


# ---------------------------------------------------------------- lapsing


def test_a_record_that_stays_away_for_72_hours_ends_the_verification_and_holds_open_mail(
    acme: Tenant, alice: Actor, name_server: FakeDns
) -> None:
    domain = _proved(acme, name_server, alice)
    message = _waiting_mail(acme, domain)
    _withdraw(name_server, domain)
    start = timezone.now()

    for hours in (0, 24, 48):
        domain = domain_watch.check_domain(domain, now=start + timedelta(hours=hours))
    assert (domain.state, domain.failing_since) == ("verified", start)
    assert _states(message) == [("queued", "")]

    domain = domain_watch.check_domain(domain, now=start + timedelta(hours=72))

    assert domain.state == "lapsed"
    assert _states(message) == [("held", "domain_lapsed")]
    assert AuditEntry.objects.filter(action="domain.lapse").exists()


def test_two_looks_are_not_enough_however_far_apart(acme: Tenant, alice: Actor, name_server: FakeDns) -> None:
    domain = _proved(acme, name_server, alice)
    _withdraw(name_server, domain)
    start = timezone.now()

    domain_watch.check_domain(domain, now=start)
    domain = domain_watch.check_domain(domain, now=start + 30 * DAY)

    assert domain.state == "verified"


@pytest.mark.parametrize("behaviour", [Behaviour.SERVFAIL, Behaviour.REFUSED, Behaviour.GARBAGE])
def test_a_name_server_that_fails_costs_nobody_a_domain(
    acme: Tenant, alice: Actor, name_server: FakeDns, behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(domain_records, "_DNS_TIMEOUT_S", 0.2)
    domain = _proved(acme, name_server, alice)
    name_server.behaviours["_relay.acme.example"] = behaviour

    for day in range(10):
        domain = domain_watch.check_domain(domain, now=timezone.now() + day * DAY)

    assert (domain.state, domain.failing_since) == ("verified", None)
    ownership = next(record for record in domain_records.records_of(domain) if record.purpose == "ownership")
    assert ownership.ok  # what was seen last still counts
    assert ownership.finding == Finding.DNS_NOT_ANSWERING


def test_a_record_that_comes_back_ends_the_countdown(acme: Tenant, alice: Actor, name_server: FakeDns) -> None:
    domain = _proved(acme, name_server, alice)
    _withdraw(name_server, domain)
    start = timezone.now()
    domain_watch.check_domain(domain, now=start)
    domain_watch.check_domain(domain, now=start + 2 * DAY)
    _publish(name_server, domain)
    domain = domain_watch.check_domain(domain, now=start + 2.5 * DAY)
    assert domain.failing_since is None
    _withdraw(name_server, domain)

    domain = domain_watch.check_domain(domain, now=start + 3 * DAY)

    assert (domain.state, domain.failing_since) == ("verified", start + 3 * DAY)


def test_held_mail_goes_on_when_the_domain_verifies_again(acme: Tenant, alice: Actor, name_server: FakeDns) -> None:
    domain = _proved(acme, name_server, alice)
    message = _waiting_mail(acme, domain)
    _withdraw(name_server, domain)
    for day in range(4):
        domain = domain_watch.check_domain(domain, now=timezone.now() + day * DAY)
    assert _states(message) == [("held", "domain_lapsed")]
    _publish(name_server, domain)

    domain = domain_watch.check_domain(domain)

    assert domain.state == "verified"
    assert _states(message) == [("queued", "")]


def test_what_a_person_holds_stays_held_when_the_domain_verifies_again(
    acme: Tenant, alice: Actor, name_server: FakeDns
) -> None:
    from delivery.queue import control

    domain = _proved(acme, name_server, alice)
    message = _waiting_mail(acme, domain)
    control.hold(control.Which(message_id=message.pk), reason="operator")

    domain_watch.check_domain(domain)

    assert _states(message) == [("held", "operator")]


# ---------------------------------------------------------------- removing and changing


def test_removing_holds_open_mail_and_restoring_lets_it_go_on(acme: Tenant, alice: Actor, name_server: FakeDns) -> None:
    domain = _proved(acme, name_server, alice)
    message = _waiting_mail(acme, domain)

    removed = domains.remove_domain(domain, actor=alice)
    assert removed.state == "removed"
    assert _states(message) == [("held", "domain_removed")]
    with pytest.raises(NotFound):
        domains.find_domain("acme.example", tenant=acme)

    restored = domains.restore_domain(domains.find_domain("acme.example", tenant=acme, is_removed=True), actor=alice)

    assert restored.state == "verified"
    assert _states(message) == [("queued", "")]


def test_a_removal_cannot_be_undone_after_a_week(acme: Tenant, alice: Actor, name_server: FakeDns) -> None:
    domain = domains.remove_domain(_proved(acme, name_server, alice), actor=alice)
    SendingDomain.objects.filter(pk=domain.pk).update(removed_at=timezone.now() - timedelta(days=8))

    with pytest.raises(Refused) as refused:
        domains.restore_domain(domain, actor=alice)

    assert refused.value.reason == "undo_too_late"


def test_a_removed_domain_is_not_checked(acme: Tenant, alice: Actor, name_server: FakeDns) -> None:
    domain = domains.remove_domain(_proved(acme, name_server, alice), actor=alice)

    with pytest.raises(Refused):
        domain_watch.check_domain(domain)


def test_a_change_is_written_down_with_what_it_was_before(acme: Tenant, alice: Actor) -> None:
    domain = domains.add_domain(acme, "acme.example", actor=alice)

    changed = domains.update_domain(domain, actor=alice, signs=False)

    assert not changed.signs
    entry = AuditEntry.objects.get(action="domain.update")
    assert (entry.before, entry.after) == ({"signs": True}, {"signs": False})


# ---------------------------------------------------------------- looking again by itself


def test_due_domains_are_checked_once(acme: Tenant, alice: Actor, name_server: FakeDns) -> None:
    domain = domains.add_domain(acme, "acme.example", actor=alice)
    domains.add_domain(acme, "other.example", actor=alice)
    _publish(name_server, domain)

    assert domain_watch.check_due_domains() == 2
    assert domain_watch.check_due_domains() == 0

    domain.refresh_from_db()
    assert domain.state == "verified"


def test_a_verified_domain_is_due_again_after_the_recheck_period(
    acme: Tenant, alice: Actor, name_server: FakeDns, settings: Any
) -> None:
    settings.DOMAIN_RECHECK_SECONDS = 3600

    domain = _proved(acme, name_server, alice)

    assert domain.checked_at is not None
    assert domain.next_check_at == domain.checked_at + timedelta(hours=1)


def test_a_claim_is_looked_at_often_while_somebody_waits_for_it(
    acme: Tenant, alice: Actor, name_server: FakeDns
) -> None:
    domain = domains.add_domain(acme, "acme.example", actor=alice)
    pauses = []
    for age in (timedelta(minutes=5), timedelta(hours=3), timedelta(days=2), timedelta(days=20)):
        domain = domain_watch.check_domain(domain, now=domain.created_at + age)
        assert domain.checked_at is not None
        assert domain.next_check_at is not None
        pauses.append(domain.next_check_at - domain.checked_at)

    assert pauses == [timedelta(minutes=1), timedelta(minutes=10), timedelta(hours=1), timedelta(days=1)]


def test_the_services_own_domains_belong_to_the_system_tenant(db: None, operator: Actor, settings: Any) -> None:
    settings.MAIL_FROM = "relayweb <no-reply@system.relay.test>"
    settings.ONBOARDING_DOMAIN = "onboarding.relay.test"

    domains.ensure_own_domains(actor=operator)
    domains.ensure_own_domains(actor=operator)

    own = domains.list_domains(Tenant.objects.get(is_system=True))
    assert [(domain.name, domain.state) for domain in own] == [
        ("onboarding.relay.test", "verified"),
        ("system.relay.test", "verified"),
    ]


def test_the_domain_that_signs_for_feedback_loops_has_to_be_proved(db: None, operator: Actor, settings: Any) -> None:
    settings.MAIL_FROM = "relayweb <no-reply@system.relay.test>"
    settings.FEEDBACK_DOMAIN = "feedback.relay-of-ours.com"

    domains.ensure_own_domains(actor=operator)

    domain = domains.feedback_domain()
    assert domain is not None
    assert (domain.tenant.is_system, domain.state) == (True, "pending")
    assert not domain.dkim_keys.filter(state="signing").exists()


def test_a_domain_that_the_service_writes_from_may_sign_for_feedback_loops_at_once(
    db: None, operator: Actor, settings: Any
) -> None:
    settings.MAIL_FROM = "relayweb <no-reply@system.relay.test>"
    settings.FEEDBACK_DOMAIN = "system.relay.test"

    domains.ensure_own_domains(actor=operator)

    domain = domains.feedback_domain()
    assert domain is not None and domain.dkim_keys.filter(state="signing").count() == 1


def test_turning_unsubscribing_off_is_recorded(acme: Tenant, alice: Actor) -> None:
    domain = domains.add_domain(acme, "acme.example", actor=alice)

    domains.update_domain(domain, actor=alice, adds_unsubscribe=False)

    entry = AuditEntry.objects.filter(action="domain.update").get()
    assert (entry.before, entry.after) == ({"adds_unsubscribe": True}, {"adds_unsubscribe": False})


def test_a_proof_that_goes_missing_is_told_at_once_and_once(acme: Tenant, alice: Actor, name_server: FakeDns) -> None:
    domain = _proved(acme, name_server, alice)
    _withdraw(name_server, domain)
    now = timezone.now()

    for hours in (0, 1):
        domain_watch.check_domain(domain, now=now + timedelta(hours=hours))

    event = TenantEvent.objects.of(acme).get(kind="domain.failing")
    assert event.subject_id == domain.id
    assert event.data["name"] == "acme.example"
    assert event.data["failing_since"] == now.isoformat()
