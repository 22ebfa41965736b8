"""Charlie belongs to Globex: of Acme's pages he sees a 404, the same as for what does not exist."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, reverse

from accounts.identifiers import uuid7
from accounts.models import Tenant
from delivery.models import Message
from relayweb import urls
from tests.support.journeys import EXAMPLES, Cast, write_message

# A route below /t/<slug>/ stands here, or the inventory fails: what it needs, and that it is tried.
ROUTES: dict[str, tuple[str, ...]] = {
    "overview": (),
    "messages": (),
    "messages-live": (),
    "messages-rows-live": (),
    "message": ("message_id",),
    "message-live": ("message_id",),
    "message-html": ("message_id",),
    "message-eml": ("message_id",),
    "rejections": (),
}


def _routes(patterns: list[URLPattern | URLResolver]) -> Iterator[URLPattern]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from _routes(pattern.url_patterns)
        else:
            yield pattern


def test_every_tenant_route_is_in_the_inventory_and_asks_who_is_there() -> None:
    found = list(_routes(urls.tenant_pages))

    assert {route.name for route in found} == set(ROUTES)
    assert [route.name for route in found if not getattr(route.callback, "is_tenant_page", False)] == []


@pytest.fixture
def acmes(cast: Cast) -> Message:
    return write_message(cast.acme, *EXAMPLES[:3], subject="confidential")


def _path(route: str, slug: str, message_id: UUID) -> str:
    values = {"message_id": message_id}
    return reverse(route, kwargs={"slug": slug, **{name: values[name] for name in ROUTES[route]}})


@pytest.mark.parametrize("route", ROUTES)
def test_a_stranger_finds_nothing(route: str, cast: Cast, acmes: Message, charlie: Client) -> None:
    foreign = charlie.get(_path(route, cast.acme.slug, acmes.id))
    unknown = charlie.get(_path(route, "nobody", uuid7()))

    assert foreign.status_code == unknown.status_code == 404
    assert foreign.content == unknown.content
    assert b"confidential" not in foreign.content


@pytest.mark.parametrize("route", [route for route, needs in ROUTES.items() if needs])
def test_a_foreign_id_in_ones_own_tenant_is_not_found(route: str, cast: Cast, acmes: Message, charlie: Client) -> None:
    foreign = charlie.get(_path(route, cast.globex.slug, acmes.id))
    unknown = charlie.get(_path(route, cast.globex.slug, uuid7()))

    assert foreign.status_code == unknown.status_code == 404
    assert foreign.content == unknown.content


@pytest.mark.parametrize("route", ROUTES)
def test_somebody_signed_out_is_led_to_the_sign_in(route: str, cast: Cast, acmes: Message) -> None:
    answer = Client().get(_path(route, cast.acme.slug, acmes.id))

    assert answer.status_code == 302
    assert answer["Location"].startswith("/accounts/login/?next=/t/acme/")


def test_open_rows_of_another_tenant_are_not_given_out(cast: Cast, acmes: Message, charlie: Client) -> None:
    recipients = ",".join(f"{recipient.id.hex}.0" for recipient in acmes.recipients.all())

    answer = charlie.get(f"/t/globex/messages/rows/live/?rows={recipients}")

    assert answer.status_code == 204
    assert answer.content == b""


def test_an_operator_who_is_no_member_sees_no_mail(cast: Cast, acmes: Message, signed_in) -> None:  # type: ignore[no-untyped-def]
    olivia = signed_in(cast.olivia)

    assert olivia.get(_path("message", "acme", acmes.id)).status_code == 404
    assert b"confidential" not in olivia.get("/operator/").content


def test_a_closed_tenant_is_not_there(cast: Cast, alice: Client) -> None:
    Tenant.objects.filter(pk=cast.acme.pk).update(state="closed")

    assert alice.get("/t/acme/messages/").status_code == 404
    assert b"Acme" not in alice.get("/tenants/").content


@pytest.mark.django_db(transaction=True)  # the health checks let go of a connection with an open transaction
def test_the_operators_page_exists_for_operators_only(cast: Cast, alice: Client, signed_in) -> None:  # type: ignore[no-untyped-def]
    assert alice.get("/operator/").status_code == 404
    assert alice.get("/operator/live/").status_code == 404
    assert Client().get("/operator/").status_code == 302
    assert signed_in(cast.olivia).get("/operator/").status_code == 200
