"""Where a page of a list begins or ends, as an address says it."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest


def key_of(request: HttpRequest, name: str = "before") -> UUID | None:
    """The key in the query of an address; None where there is none, or one that nobody gave out: the first page."""
    try:
        return UUID(request.GET.get(name, ""))
    except ValueError:
        return None
