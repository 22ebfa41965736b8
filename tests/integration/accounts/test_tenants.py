"""Tenants: opened with owner and streams, named, suspended, resumed, closed."""

from __future__ import annotations

import pytest

from accounts import quotas, tenants
from accounts.audit import Actor
from accounts.models import AuditEntry, Membership, RateBucket, Role, Tenant, User
from accounts.refusals import NotFound, Refused
from delivery.models import Stream
from delivery.tenants import find_stream, open_tenant


def test_a_tenant_is_opened_with_its_owner_and_streams(db: None, operator: Actor) -> None:
    tenant, owner = open_tenant("Acme", owner_email="alice@acme.example", actor=operator)

    assert tenant.slug == "acme"
    assert Membership.objects.get(tenant=tenant, user=owner).role == Role.OWNER
    assert not owner.has_usable_password()
    assert set(Stream.objects.of(tenant).values_list("name", flat=True)) == {"transactional", "bulk"}


def test_an_owner_who_is_known_by_another_spelling_is_found(db: None, operator: Actor) -> None:
    alice = User.objects.create_user("alice@acme.example", "correct horse battery")

    _tenant, owner = open_tenant("Acme", owner_email="Alice@ACME.example", actor=operator)

    assert owner == alice
    assert owner.check_password("correct horse battery")


def test_two_tenants_of_one_name_get_two_slugs(acme: Tenant, operator: Actor) -> None:
    second, _owner = open_tenant("ACME", owner_email="bob@acme.example", actor=operator)

    assert second.slug == "acme-2"


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("株式会社Acme", "acme"),
        ("ＡＣＭＥ　Ｉｎｃ．", "acme-inc"),
        ("Crème & Co.", "creme-co"),
        ("a_b  c", "a-b-c"),
    ],
)
def test_a_slug_is_made_of_what_can_stand_in_an_address(db: None, operator: Actor, name: str, slug: str) -> None:
    tenant, _owner = open_tenant(name, owner_email="alice@acme.example", actor=operator)

    assert tenant.slug == slug


@pytest.mark.parametrize("name", ["山田商店", "！！！", "system", "01a20bef-b717-7b89-bdec-76786b1f199e"])
def test_a_name_that_gives_no_slug_gets_a_readable_one(db: None, operator: Actor, name: str) -> None:
    tenant, _owner = open_tenant(name, owner_email="alice@acme.example", actor=operator)

    assert tenant.slug.startswith("tenant-")
    assert tenants.find_tenant(tenant.slug) == tenant


@pytest.mark.parametrize("slug", ["system", "Acme", "a b", "-a", "a" * 41, "a.b"])
def test_a_slug_that_cannot_stand_in_an_address_is_refused(db: None, operator: Actor, slug: str) -> None:
    with pytest.raises(Refused) as refused:
        open_tenant("Acme", owner_email="alice@acme.example", actor=operator, slug=slug)

    assert refused.value.reason == "slug_malformed"
    assert not User.objects.filter(email="alice@acme.example").exists()


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../../etc/passwd", "asia/tokyo "])
def test_a_time_zone_that_nobody_knows_is_refused(db: None, operator: Actor, zone: str) -> None:
    with pytest.raises(Refused) as refusal:
        open_tenant("Acme", owner_email="alice@acme.example", actor=operator, time_zone=zone)

    assert refusal.value.field == "time_zone"
    assert not Tenant.objects.filter(name="Acme").exists()


def test_a_taken_slug_is_refused(acme: Tenant, operator: Actor) -> None:
    with pytest.raises(Refused) as refused:
        open_tenant("Other", owner_email="bob@acme.example", actor=operator, slug="acme")

    assert refused.value.reason == "slug_taken"


def test_a_tenant_is_found_by_slug_and_by_id(acme: Tenant) -> None:
    assert tenants.find_tenant("acme") == acme
    assert tenants.find_tenant(str(acme.id)) == acme
    with pytest.raises(NotFound):
        tenants.find_tenant("nosuch")


def test_suspending_resuming_and_closing_are_written_down(acme: Tenant, operator: Actor) -> None:
    tenants.suspend_tenant(acme, reason="complaints", actor=operator)
    assert (acme.state, acme.state_reason) == ("suspended", "complaints")
    tenants.resume_tenant(acme, actor=operator)
    assert (acme.state, acme.state_reason) == ("active", "")
    tenants.close_tenant(acme, actor=operator)
    assert acme.closed_at is not None

    told = list(AuditEntry.objects.filter(tenant=acme).order_by("id").values_list("action", flat=True))
    assert told == ["tenant.create", "tenant.suspend", "tenant.resume", "tenant.close"]
    entry = AuditEntry.objects.get(action="tenant.suspend")
    assert (entry.actor_name, entry.peer_address) == ("olivia@relay.example", "192.0.2.1")
    assert (entry.before["state"], entry.after["state"]) == ("active", "suspended")


def test_a_state_cannot_be_entered_twice(acme: Tenant, operator: Actor) -> None:
    tenants.suspend_tenant(acme, reason="", actor=operator)
    stale = Tenant.objects.get(pk=acme.pk)

    with pytest.raises(Refused) as refused:
        tenants.suspend_tenant(stale, reason="", actor=operator)

    assert refused.value.reason == "state_unchanged"


def test_the_system_tenant_stays_active(db: None, operator: Actor) -> None:
    with pytest.raises(Refused):
        tenants.suspend_tenant(Tenant.objects.get(is_system=True), reason="", actor=operator)


def test_another_tenants_stream_is_not_found(acme: Tenant, globex: Tenant) -> None:
    Stream.objects.create(tenant=globex, name="secret")

    with pytest.raises(NotFound):
        find_stream(acme, "secret")


def test_limits_are_set_and_given_back(acme: Tenant, operator: Actor) -> None:
    quotas.set_limits(acme, {"daily_limit": 500, "rate_per_second": 2.0}, actor=operator)
    assert quotas.limits_of(acme).daily_limit == 500
    assert RateBucket.objects.get(owner_id=acme.id).rate_per_second == 2.0

    limits = quotas.set_limits(acme, {"daily_limit": None, "rate_per_second": None}, actor=operator)

    assert (limits.daily_limit, limits.rate_per_second) == (None, None)
    assert not RateBucket.objects.filter(owner_id=acme.id).exists()


@pytest.mark.parametrize("changes", [{"daily_limit": -1}, {"daily_limit": 1.5}, {"rate_per_second": 0.0}, {"color": 3}])
def test_a_limit_that_is_none_is_refused(acme: Tenant, operator: Actor, changes: dict[str, float]) -> None:
    with pytest.raises(Refused):
        quotas.set_limits(acme, changes, actor=operator)


def test_a_tenants_size_limit_never_exceeds_the_installations(acme: Tenant, operator: Actor, settings: object) -> None:
    limits = quotas.set_limits(acme, {"max_message_bytes": 2**31 - 1}, actor=operator)

    assert limits.max_message_bytes == 26_214_400
