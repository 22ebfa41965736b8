"""Credentials: secrets shown once, rotated with an overlap, revoked; networks that never overlap across tenants."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import credentials
from accounts.audit import Actor
from accounts.models import AuditEntry, Credential, RateBucket, Tenant
from accounts.refusals import NotFound, Refused


def test_a_login_is_named_after_its_tenant_and_stored_as_a_hash(acme: Tenant, alice: Actor) -> None:
    credential, secret = credentials.issue_credential(acme, kind="smtp", name="shop", actor=alice)

    assert secret is not None
    assert len(secret) >= 22  # 128 bits
    assert credential.username is not None
    assert credential.username.startswith("acme.")
    stored = Credential.objects.get(pk=credential.pk)
    assert bytes(stored.secret_sha256 or b"") == hashlib.sha256(secret.encode()).digest()


def test_the_secret_is_not_in_the_audit_log(acme: Tenant, alice: Actor) -> None:
    credential, secret = credentials.issue_credential(acme, kind="api", actor=alice)
    again = credentials.rotate_credential(credential, actor=alice)

    told = str(list(AuditEntry.objects.filter(tenant=acme).values_list("before", "after", "reason", "object_name")))
    assert secret is not None
    assert secret not in told
    assert again not in told


def test_an_api_key_can_be_taken_apart_again(acme: Tenant, alice: Actor) -> None:
    credential, secret = credentials.issue_credential(acme, kind="api", actor=alice)

    username, _, rest = credentials.api_key(credential, str(secret)).rpartition(".")

    assert (username, rest) == (credential.username, secret)


def test_rotating_keeps_the_old_secret_for_a_while(acme: Tenant, alice: Actor) -> None:
    credential, old = credentials.issue_credential(acme, kind="smtp", actor=alice)

    new = credentials.rotate_credential(credential, actor=alice, overlap=timedelta(hours=2))

    assert new != old
    assert bytes(credential.secret_sha256 or b"") == hashlib.sha256(new.encode()).digest()
    assert bytes(credential.former_secret_sha256 or b"") == hashlib.sha256(str(old).encode()).digest()
    assert credential.former_secret_until is not None
    assert timedelta(hours=1, minutes=59) < credential.former_secret_until - timezone.now() <= timedelta(hours=2)


def test_rotating_without_overlap_ends_the_old_secret(acme: Tenant, alice: Actor) -> None:
    credential, _old = credentials.issue_credential(acme, kind="smtp", actor=alice)

    credentials.rotate_credential(credential, actor=alice, overlap=timedelta(0))

    assert credential.former_secret_sha256 is None


def test_a_revoked_credential_can_neither_be_revoked_nor_rotated(acme: Tenant, alice: Actor) -> None:
    credential, _secret = credentials.issue_credential(acme, kind="smtp", actor=alice)
    credentials.revoke_credential(credential, actor=alice)

    with pytest.raises(Refused):
        credentials.revoke_credential(credential, actor=alice)
    with pytest.raises(Refused):
        credentials.rotate_credential(credential, actor=alice)
    assert credentials.list_credentials(acme) == []
    assert credentials.list_credentials(acme, with_revoked=True) == [credential]


def test_a_credential_with_a_rate_has_a_bucket_until_it_is_revoked(acme: Tenant, alice: Actor) -> None:
    credential, _secret = credentials.issue_credential(acme, kind="smtp", rate_per_second=0.5, actor=alice)
    bucket = RateBucket.objects.get(owner_id=credential.id)
    assert (bucket.rate_per_second, bucket.capacity, bucket.tokens) == (0.5, 1.0, 1.0)

    credentials.revoke_credential(credential, actor=alice)

    assert not RateBucket.objects.filter(owner_id=credential.id).exists()


def test_a_credential_is_found_by_its_own_tenant_only(acme: Tenant, globex: Tenant, alice: Actor) -> None:
    credential, _secret = credentials.issue_credential(acme, kind="smtp", actor=alice)

    assert credentials.find_credential(str(credential.username), tenant=acme) == credential
    assert credentials.find_credential(credential.id) == credential
    with pytest.raises(NotFound):
        credentials.find_credential(credential.id, tenant=globex)


def test_a_network_issued_by_an_operator_works_at_once(acme: Tenant, operator: Actor) -> None:
    credential, secret = credentials.issue_credential(acme, kind="network", network="192.0.2.0/28", actor=operator)

    assert secret is None
    assert credential.approved_at is not None
    assert str(credential.network) == "192.0.2.0/28"


def test_a_network_a_tenant_asks_for_waits_for_an_operator(acme: Tenant, alice: Actor, operator: Actor) -> None:
    credential, _secret = credentials.issue_credential(acme, kind="network", network="192.0.2.1", actor=alice)
    assert credential.approved_at is None
    with pytest.raises(Refused):
        credentials.approve_credential(credential, actor=alice)

    credentials.approve_credential(credential, actor=operator)

    assert credential.approved_at is not None


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        ("192.0.2.1/24", "network_malformed"),
        ("192.0.0.0/23", "network_too_large"),
        ("2001:db8::/47", "network_too_large"),
        ("0.0.0.0/0", "network_too_large"),
        ("224.0.0.0/24", "network_unusable"),
        ("nonsense", "network_malformed"),
        ("", "network_missing"),
    ],
)
def test_a_network_that_is_too_large_or_none_is_refused(
    acme: Tenant, operator: Actor, network: str, reason: str
) -> None:
    with pytest.raises(Refused) as refused:
        credentials.issue_credential(acme, kind="network", network=network, actor=operator)

    assert refused.value.reason == reason


@pytest.mark.parametrize("network", ["192.0.2.0/24", "2001:db8::/48", "192.0.2.7/32"])
def test_a_network_up_to_the_limit_is_taken(acme: Tenant, operator: Actor, network: str) -> None:
    credential, _secret = credentials.issue_credential(acme, kind="network", network=network, actor=operator)

    assert str(credential.network) == network


def test_a_network_that_overlaps_another_tenants_is_refused_without_naming_it(
    acme: Tenant, globex: Tenant, operator: Actor
) -> None:
    credentials.issue_credential(acme, kind="network", network="192.0.2.0/28", actor=operator)

    with pytest.raises(Refused) as refused:
        credentials.issue_credential(globex, kind="network", network="192.0.2.8/32", actor=operator)

    assert refused.value.reason == "network_taken"
    assert "acme" not in refused.value.sentence.lower()


def test_the_database_itself_keeps_networks_of_tenants_apart(acme: Tenant, globex: Tenant, operator: Actor) -> None:
    credentials.issue_credential(acme, kind="network", network="192.0.2.0/28", actor=operator)

    with pytest.raises(IntegrityError), transaction.atomic():
        Credential.objects.create(tenant=globex, kind="network", name="n", network="192.0.2.0/30")


def test_a_revoked_network_is_free_for_others(acme: Tenant, globex: Tenant, operator: Actor) -> None:
    credential, _secret = credentials.issue_credential(acme, kind="network", network="192.0.2.0/28", actor=operator)
    credentials.revoke_credential(credential, actor=operator)

    taken, _secret = credentials.issue_credential(globex, kind="network", network="192.0.2.0/28", actor=operator)

    assert taken.tenant == globex


def test_a_closed_tenant_gets_no_credential(acme: Tenant, operator: Actor) -> None:
    from accounts import tenants

    tenants.close_tenant(acme, actor=operator)

    with pytest.raises(Refused):
        credentials.issue_credential(acme, kind="smtp", actor=operator)


@pytest.mark.parametrize(
    "words", [{"kind": "ftp"}, {"kind": "smtp", "use": "toy"}, {"kind": "api", "scopes": ["root"]}]
)
def test_words_nobody_knows_are_refused(acme: Tenant, operator: Actor, words: dict[str, str]) -> None:
    with pytest.raises(Refused):
        credentials.issue_credential(acme, actor=operator, **words)  # type: ignore[arg-type]
