"""Pages below /operator/ exist for operators only: to everybody else none of them does."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, reverse

from accounts.identifiers import uuid7
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
