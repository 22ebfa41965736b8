"""Pages below /operator/ exist for operators only: to everybody else none of them does."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import URLPattern, reverse

from accounts.audit import Actor
from accounts.identifiers import uuid7
from accounts.models import AuditEntry
from delivery import suppressions
from delivery.models import Suppression, SuppressionReason
from delivery.suppressions import Cause, Owner, read_target
from relayweb import urls
from tests.integration.console.conftest import SignedIn
from tests.support.journeys import Cast

VALUES = {"uuid": uuid7(), "slug": "default", "int": 1, "string": "a"}


def _paths() -> list[str]:
    """Every operator page, with values of the right kinds for what stands in its path."""
    found = []
    for pattern in urls.operator_pages:
        assert isinstance(pattern, URLPattern)
        kinds = {name: type(converter).__name__ for name, converter in pattern.pattern.converters.items()}
        values: dict[str, Any] = {name: VALUES[kind.removesuffix("Converter").lower()] for name, kind in kinds.items()}
        found.append(reverse(str(pattern.name), kwargs=values))
    return found


@pytest.mark.django_db
def test_no_operator_page_is_there_for_anybody_else(cast: Cast, signed_in: SignedIn) -> None:
    alice, nobody = signed_in(cast.alice), Client()
    for path in _paths():
        # A page that only takes POST may say so before it asks who it is.
        assert {alice.get(path).status_code, alice.post(path).status_code} in ({404}, {404, 405}), path
        assert {nobody.get(path).status_code, nobody.post(path).status_code} in ({302}, {302, 405}), path


@pytest.mark.django_db(transaction=True)  # the health checks let go of a connection with an open transaction
def test_no_operator_page_asks_the_database_more_than_fifteen_times(cast: Cast, signed_in: SignedIn) -> None:
    olivia = signed_in(cast.olivia)
    asked = {}
    for path in _paths():
        with CaptureQueriesContext(connection) as queries:
            olivia.get(path)
        asked[path] = len(queries)

    assert {path: number for path, number in asked.items() if number > 15} == {}


def test_what_holds_for_everybody_is_added_found_removed_and_restored(
    cast: Cast, signed_in: SignedIn, django_assert_max_num_queries: Any
) -> None:
    olivia, pages = signed_in(cast.olivia), "/operator/suppressions/"
    assert "Nothing is suppressed for everybody" in olivia.get(pages).content.decode()
    added = olivia.post(f"{pages}add/", {"address": "Trap@Far.example", "ends": "", "note": "spam trap"}, follow=True)
    assert "goes to “trap@far.example”" in added.content.decode()
    assert "neither an address" in olivia.post(f"{pages}add/", {"address": "not one"}).content.decode()
    row = Suppression.objects.get()
    suppressions.add(
        Owner(cast.acme), read_target("own@far.example"), Cause(SuppressionReason.MANUAL), actor=Actor.system("test")
    )

    with django_assert_max_num_queries(15):
        found = olivia.get(f"{pages}?q=trap@far").content.decode()
    assert "spam trap" in found and "own@far.example" not in olivia.get(pages).content.decode()
    assert "Nothing fits" in olivia.get(f"{pages}?q=nobody").content.decode()
    assert "trap@far.example" in olivia.get(f"{pages}{row.pk}/remove/").content.decode()
    olivia.post(f"{pages}{row.pk}/remove/", {"reason": "a mistake"})
    assert "a mistake" in olivia.get(f"{pages}?which=removed").content.decode()
    olivia.post(f"{pages}{row.pk}/restore/")

    row.refresh_from_db()
    assert row.removed_at is None
    assert list(AuditEntry.objects.filter(tenant=None).order_by("id").values_list("action", "object_name")) == [
        (f"suppression.{verb}", "trap@far.example") for verb in ("add", "remove", "restore")
    ]
