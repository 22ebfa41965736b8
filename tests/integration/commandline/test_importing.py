"""relay import: lists of other systems are taken over, and a dry run tells the same and writes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import AuditEntry, Tenant
from delivery.models import SendingDomain, Suppression

Relay = Callable[..., Any]


@pytest.fixture
def ses(tmp_path: Path) -> str:
    rows = [("Bounced@docomo.ne.jp", "BOUNCE"), ("complained@far.test", "COMPLAINT"), ("nonsense here", "BOUNCE")]
    summaries = [{"EmailAddress": address, "Reason": reason} for address, reason in rows]
    file = tmp_path / "ses.json"
    file.write_text(json.dumps({"SuppressedDestinationSummaries": summaries}))
    return str(file)


def test_a_dry_run_tells_what_would_be_and_writes_nothing(acme: Tenant, relay: Relay, ses: str) -> None:
    words = ("import", "suppressions", ses, "--tenant", "acme", "--from", "ses", "--json")

    dry = relay(*words, "--dry-run").document
    assert (Suppression.objects.count(), AuditEntry.objects.filter(action="suppression.import").count()) == (0, 0)

    wet = relay(*words).document
    assert dry == {**wet, "dry_run": True}
    assert (wet["read"], wet["changed"], wet["refused"]) == (3, 2, 1)
    assert wet["errors"][0]["row"] == 3
    assert relay(*words).document["changed"] == 0

    bounced, complained = Suppression.objects.filter(tenant=acme).order_by("value")
    assert (bounced.value, bounced.reason, bounced.detail) == ("bounced@docomo.ne.jp", "bounce", "ses")
    assert bounced.expires_at is not None and bounced.expires_at < timezone.now() + timedelta(days=91)
    assert (complained.reason, complained.expires_at) == ("complaint", None)
    assert AuditEntry.objects.filter(action="suppression.import", tenant=acme).exists()


def test_what_is_for_a_part_of_the_mail_needs_a_stream(acme: Tenant, relay: Relay, tmp_path: Path) -> None:
    file = tmp_path / "mailgun.csv"
    file.write_text("address,tags,created_at\na@far.test,*,now\nb@far.test,news,now\n")
    words = ("import", "suppressions", str(file), "--tenant", "acme", "--from", "mailgun", "--json")

    assert relay(*words).code == 2
    whole = relay(*words, "--kind", "unsubscribes").document
    assert (whole["changed"], whole["errors"][0]["row"]) == (1, 2)
    assert relay(*words, "--kind", "unsubscribes", "--stream", "bulk").document["changed"] == 2
    assert Suppression.objects.filter(stream__name="bulk", reason="unsubscribe").count() == 2


def test_what_the_other_system_had_forgotten_is_not_taken(acme: Tenant, relay: Relay, tmp_path: Path) -> None:
    file = tmp_path / "postal.tsv"
    file.write_text("type\taddress\treason\tkeep_until\nrecipient\ta@far.test\ttoo many hard fails\t1600000000\n")

    told = relay("import", "suppressions", str(file), "--tenant", "acme", "--from", "postal", "--json").document

    assert (told["changed"], told["refused"], Suppression.objects.count()) == (0, 1, 0)


def test_domains_are_claimed_and_still_have_to_be_proved(acme: Tenant, relay: Relay, tmp_path: Path) -> None:
    file = tmp_path / "domains.csv"
    file.write_text("name\nshop.acme.example\nnot a domain\n")
    words = ("import", "domains", str(file), "--tenant", "acme", "--json")

    assert relay(*words, "--dry-run").document["added"] == ["shop.acme.example"]
    assert not SendingDomain.objects.filter(tenant=acme).exists()
    told = relay(*words).document

    assert (told["added"], [one["name"] for one in told["errors"]]) == (["shop.acme.example"], ["not a domain"])
    assert SendingDomain.objects.get(tenant=acme).state == "pending"
