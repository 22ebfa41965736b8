"""relay score and relay provider-data: every term of a score, and figures of providers from files."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from accounts.models import AuditEntry
from delivery import domains, sources

if TYPE_CHECKING:
    from accounts.audit import Actor
    from accounts.models import Tenant

SNDS = "192.0.2.10,{day:%m/%d/%Y} 4:00 PM,,1000,990,980,{result},< 0.1%,,,0,mx,a@b.example,\n"


def test_scores_are_shown_with_every_term(
    acme: Tenant, globex: Tenant, operator: Actor, relay: Callable[..., Any]
) -> None:
    from delivery.models import Path as SourcePath
    from delivery.models import PathHour, ProviderGroup, SenderScore, Statistic, StatisticClass
    from delivery.statistics.counting import start_of

    domain = domains.add_domain(acme, "acme.example", actor=operator, assume_verified=True)
    at = start_of(timezone.now() - timedelta(days=29.9), minutes=60)
    for dimension, value in (("all", ""), ("domain", "acme.example")):
        key = {"tenant_id": acme.pk, "dimension": dimension, "minutes": 60, "value": value, "starts_at": at}
        Statistic.objects.create(**key, delivered=1000, bounced=60)
        StatisticClass.objects.create(**key, reply_class="content", bounced=60)
    SenderScore.objects.create(tenant=acme, domain=domain, scored_at=at, score=55, terms=[], figures={})
    source = sources.add_source("192.0.2.10", actor=operator)
    path = SourcePath.objects.create(source=source, group=ProviderGroup.objects.get_or_create(
        key="google", defaults={"kind": "provider", "title": "Gmail"})[0])  # fmt: skip
    PathHour.objects.create(path_id=path.pk, hour=start_of(timezone.now(), minutes=60), accepted=90, blocked=10)

    listed = relay("score", "list", "--json").document
    of_tenant = relay("score", "tenant", "acme", "--json").document
    of_domain = relay("score", "domain", "acme.example", "--json").document
    of_source = relay("score", "source", "192.0.2.10", "--json").document
    said = relay("score", "domain", "acme.example").out

    assert [(row["tenant"], row["domain"]) for row in listed] == [("acme", None), ("acme", "acme.example")]
    assert of_tenant["score"] == listed[0]["score"] < 100
    assert of_tenant["domains"] == [{"domain": "acme.example", "score": listed[1]["score"]}]
    assert of_domain["would_raise_it"] == ["content"]
    assert {"unknown", "complaints", "content", "age"} <= {term["name"] for term in of_domain["terms"]}
    assert [point["score"] for point in of_domain["history"]] == [55]
    assert [(row["provider"], row["would_raise_it"]) for row in of_source["scores"]] == [("google", ["blocked"])]
    assert "would raise it" in said and "COSTS" in said
    assert relay("score", "tenant", "globex", "--json").document["score"] is None
    assert relay("score", "domain", "acme.example", "--tenant", "globex", "--json").code == 1


def test_files_of_providers_are_tried_taken_up_and_taken_back(
    operator: Actor, db: None, tmp_path: Path, relay: Callable[..., Any]
) -> None:
    from delivery.models import ProviderDay, ProviderImport

    day = timezone.now() - timedelta(days=2)
    file = tmp_path / "snds.csv"
    file.write_text(SNDS.format(day=day, result="GREEN") + "192.0.2.10,never,,1\n")

    tried = relay("provider-data", "import", str(file), "--dry-run", "--json").document
    assert (tried["dry_run"], tried["id"], tried["rows"]) == (True, None, 1)
    assert not ProviderImport.objects.exists() and not AuditEntry.objects.exists()

    done = relay("provider-data", "import", str(file), "--json").document
    shown = relay("provider-data", "show", done["id"], "--json").document
    assert (done["kind"], done["file"], done["rows"], done["refused"]) == ("microsoft", "snds.csv", 1, 1)
    assert [error["line"] for error in shown["errors"]] == [2]
    assert ProviderDay.objects.count() == 1

    assert relay("provider-data", "undo", done["id"], "--json").document["undone_at"]
    assert not ProviderDay.objects.exists()
    assert relay("provider-data", "list", "--json").document[0]["undone_at"]
    assert relay("provider-data", "undo", done["id"]).code == 1
    recorded = AuditEntry.objects.order_by("id").values_list("action", flat=True)
    assert list(recorded) == ["provider_data.import", "provider_data.undo"]
    file.write_text("nothing of use\n")
    assert "cannot be read" in relay("provider-data", "import", str(file)).err
