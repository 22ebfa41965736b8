"""Charlie belongs to Globex: of Acme's pages he sees a 404, the same as for what does not exist."""

from __future__ import annotations

import time
from collections.abc import Iterator
from uuid import UUID

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import URLPattern, URLResolver, reverse
from django.utils import timezone

from accounts import invitations
from accounts.audit import Actor
from accounts.credentials import issue_credential
from accounts.identifiers import uuid7
from accounts.models import Credential, Invitation, Membership, Tenant
from delivery import jobs, saved_filters, suppression_imports, suppressions
from delivery.brakes import pulling
from delivery.domains import add_domain
from delivery.log_filters import LogFilter
from delivery.models import (
    Brake,
    Job,
    JobKind,
    Message,
    SavedFilter,
    SendingDomain,
    Stream,
    Suppression,
    SuppressionImport,
    SuppressionReason,
    Webhook,
)
from delivery.suppressions import Cause, Owner, read_target
from relayweb import urls
from tests.support.journeys import EXAMPLES, Cast, Fate, write_message
from tests.support.webhook_rows import write_call, write_webhook

# A route below /t/<slug>/ stands here, or the inventory fails: what it needs, and that it is tried.
ROUTES: dict[str, tuple[str, ...]] = {
    "overview": (),
    "overview-live": (),
    "statistics": (),
    "statistics-csv": (),
    "messages": (),
    "messages-live": (),
    "messages-rows-live": (),
    "message": ("message_id",),
    "message-live": ("message_id",),
    "message-html": ("message_id",),
    "message-eml": ("message_id",),
    "message-change": ("message_id", "verb"),
    "message-again": ("message_id",),
    "message-suppressions": ("message_id",),
    "jobs": (),
    "job-ask": ("kind",),
    **{f"job{part}": ("job_id",) for part in ("", "-live", "-cancel", "-file")},
    "filters": (),
    "filter-save": (),
    **{f"filter{part}": ("filter_id",) for part in ("-rename", "-remove")},
    "rejections": (),
    "brakes": (),
    **{f"brake{part}": ("brake_id",) for part in ("", "-appeal")},
    "start": (),
    "start-live": (),
    "start-send": (),
    "credentials": (),
    "credential-issue": (),
    **{f"credential{part}": ("credential_id",) for part in ("", "-secret", "-rotate", "-revoke")},
    "domains": (),
    "domain-add": (),
    "domain-restore": ("domain_id",),
    "suppressions": (),
    "suppression-add": (),
    "suppression-export": (),
    "suppression-import-new": (),
    **{f"suppression-import{part}": ("import_id",) for part in ("", "-live", "-confirm", "-discard", "-undo", "-bad")},
    **{f"suppression{part}": ("suppression_id",) for part in ("", "-remove", "-restore")},
    "unsubscribes": (),
    "unsubscribes-export": (),
    "dmarc": (),
    "dmarc-domain": ("name",),
    "webhooks": (),
    "webhook-add": (),
    **{
        f"webhook{part}": ("webhook_id",)
        for part in ("", "-live", "-edit", "-secret", "-rotate", "-test", "-switch", "-remove", "-replay", "-calls")
    },
    "webhook-restore": ("webhook_id",),
    "webhook-call": ("webhook_id", "call_id"),
    "webhook-call-replay": ("webhook_id", "call_id"),
    "team": (),
    "team-invite": (),
    "team-transfer": (),
    "team-two-factors": (),
    "team-role": ("member_id",),
    "team-remove": ("member_id",),
    "invitation-send": ("invitation_id",),
    "invitation-withdraw": ("invitation_id",),
    "notices": (),
    "notice-choices": (),
    "settings": (),
    "settings-export": (),
    "settings-close": (),
    "usage-by-month": (),
    "audit": (),
    "audit-export": (),
    **{f"domain{part}": ("name",) for part in ("", "-live", "-check", "-hand-on", "-zone", "-switch", "-remove")},
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
    issue_credential(cast.acme, kind="smtp", name="confidential", actor=Actor.system("test"))
    add_domain(cast.acme, "confidential.example", actor=Actor.system("test"), assume_verified=True)
    invitations.invite(
        cast.acme,
        email="confidential@acme.example",
        role="analyst",
        by=Membership.objects.get(user=cast.alice),
        actor=Actor.system("test"),
    )
    actor = Actor.person(cast.alice)
    jobs.ask_for(cast.acme, JobKind.EXPORT, LogFilter(), query="subject=confidential", actor=actor, file_format="csv")
    saved_filters.save(cast.acme, name="confidential", query="subject=confidential", owner=None, actor=actor)
    owner, actor = Owner(cast.acme), Actor.system("test")
    suppressions.add(owner, read_target("confidential@far.example"), Cause(SuppressionReason.MANUAL), actor=actor)
    suppression_imports.hand_in(owner, b"confidential@far.example", file_name="confidential.csv", actor=actor)
    Brake.objects.create(tenant=cast.acme, rule="operator", step="slow", reason="confidential", pulled_by="olivia")
    write_call(write_webhook(cast.acme, name="confidential"))
    return write_message(cast.acme, *EXAMPLES[:3], subject="confidential")


MOST_QUERIES = 15
_IDS = (
    "message_id",
    "domain_id",
    "credential_id",
    "job_id",
    "filter_id",
    "suppression_id",
    "brake_id",
    "import_id",
    "member_id",
    "invitation_id",
    "webhook_id",
    "call_id",
)


def _path(route: str, slug: str, key: UUID, *, name: str = "confidential.example") -> str:
    values = {"name": name, "kind": "export", "verb": "retry", **dict.fromkeys(_IDS, key)}
    return reverse(route, kwargs={"slug": slug, **{name: values[name] for name in ROUTES[route]}})


@pytest.mark.parametrize("route", ROUTES)
def test_a_stranger_finds_nothing(route: str, cast: Cast, acmes: Message, charlie: Client) -> None:
    for method in (charlie.get, charlie.post):
        foreign = method(_path(route, cast.acme.slug, acmes.id))
        unknown = method(_path(route, "nobody", uuid7(), name="nowhere.example"))

        assert foreign.status_code == unknown.status_code
        assert foreign.status_code == 404 or (method == charlie.post and foreign.status_code == 405)
        assert foreign.content == unknown.content
        assert b"confidential" not in foreign.content


@pytest.mark.parametrize("route", [route for route, needs in ROUTES.items() if {*needs} - {"kind"}])
def test_a_foreign_id_in_ones_own_tenant_is_not_found(route: str, cast: Cast, acmes: Message, charlie: Client) -> None:
    objects = [_key_of(route, cast), uuid7()]
    foreign, unknown = (
        (
            method(_path(route, cast.globex.slug, objects[0], name="confidential.example"))
            for method in (charlie.get, charlie.post)
        ),
        (
            method(_path(route, cast.globex.slug, objects[1], name="nowhere.example"))
            for method in (charlie.get, charlie.post)
        ),
    )
    answers = [(one.status_code, one.content) for one in foreign]

    assert answers == [(one.status_code, one.content) for one in unknown]
    assert {status for status, _ in answers} in ({404}, {404, 405})
    assert SendingDomain.objects.of(cast.acme).get().state == "verified"


@pytest.mark.parametrize("route", ROUTES)
def test_somebody_signed_out_is_led_to_the_sign_in(route: str, cast: Cast, acmes: Message) -> None:
    answer = Client().get(_path(route, cast.acme.slug, acmes.id))

    assert answer.status_code == 302
    assert answer["Location"].startswith("/accounts/login/?next=/t/acme/")


def _write_many(cast: Cast) -> None:
    """So many of each thing that a query for each row is seen."""
    for number in range(MOST_QUERIES + 1):
        write_message(cast.acme, EXAMPLES[0], subject=f"{number}")
        write_call(write_webhook(cast.acme, name=f"hook {number}"))
        issue_credential(cast.acme, kind="smtp", name=f"{number}", actor=Actor.system("test"))
        Brake.objects.create(
            tenant=cast.acme, rule="operator", step="slow", reason="-", pulled_by="olivia", ended_at=timezone.now()
        )
        Stream.objects.create(tenant=cast.acme, name=f"stream-{number}", kind="bulk")
    owner = Owner(cast.acme)
    for reason in (SuppressionReason.BOUNCE, SuppressionReason.UNSUBSCRIBE):
        rows = {read_target(f"{reason}-{n}@far.example"): Cause(reason) for n in range(MOST_QUERIES + 1)}
        suppressions.add_many(owner, rows, actor=Actor.system("test"))


def test_no_page_asks_the_database_more_than_fifteen_times(cast: Cast, acmes: Message, alice: Client) -> None:
    keys = {route: _key_of(route, cast) for route in ROUTES}
    _write_many(cast)
    write_message(cast.acme, Fate(address="open@far.example", state="deferred", group="docomo"))
    session = alice.session
    session["proved_at"] = int(time.time())
    session.save()
    asked: dict[str, int] = {}
    shown = 0
    for route in ROUTES:
        with CaptureQueriesContext(connection) as queries:
            answer = alice.get(_path(route, "acme", keys[route]))
            b"".join(answer) if answer.streaming else answer.content
        asked[route] = len(queries)
        shown += answer.status_code == 200

    assert {route: number for route, number in asked.items() if number > MOST_QUERIES} == {}
    assert shown > len(ROUTES) // 2


def _key_of(route: str, cast: Cast) -> UUID:
    """An id of Acme's that the route would take."""
    if "domain_id" in ROUTES[route]:
        return SendingDomain.objects.of(cast.acme).get().id
    if "webhook_id" in ROUTES[route]:
        return Webhook.objects.of(cast.acme).get().id
    if "credential_id" in ROUTES[route]:
        return Credential.objects.of(cast.acme).get().id
    if "member_id" in ROUTES[route]:
        return Membership.objects.get(user=cast.bob).id
    if "invitation_id" in ROUTES[route]:
        return Invitation.objects.of(cast.acme).get().id
    if "job_id" in ROUTES[route]:
        return Job.objects.of(cast.acme).get().id
    if "filter_id" in ROUTES[route]:
        return SavedFilter.objects.of(cast.acme).get().id
    if "brake_id" in ROUTES[route]:
        return Brake.objects.of(cast.acme).get().id
    if "suppression_id" in ROUTES[route]:
        return Suppression.objects.of(cast.acme).get().id
    if "import_id" in ROUTES[route]:
        return SuppressionImport.objects.of(cast.acme).get().id
    return Message.objects.of(cast.acme).get().id


def test_open_rows_of_another_tenant_are_not_given_out(cast: Cast, acmes: Message, charlie: Client) -> None:
    recipients = ",".join(f"{recipient.id.hex}.0" for recipient in acmes.recipients.all())

    answer = charlie.get(f"/t/globex/messages/rows/live/?rows={recipients}")

    assert answer.status_code == 204
    assert answer.content == b""


def test_an_operator_who_is_no_member_sees_no_mail(cast: Cast, acmes: Message, signed_in) -> None:  # type: ignore[no-untyped-def]
    olivia = signed_in(cast.olivia)

    assert olivia.get(_path("message", "acme", acmes.id)).status_code == 404


def test_a_closed_tenant_is_not_there(cast: Cast, alice: Client) -> None:
    Tenant.objects.filter(pk=cast.acme.pk).update(state="closed")

    assert alice.get("/t/acme/messages/").status_code == 404
    assert b"Acme" not in alice.get("/tenants/").content


@pytest.mark.django_db(transaction=True)  # the health checks let go of a connection with an open transaction
def test_the_operators_page_exists_for_operators_only(  # type: ignore[no-untyped-def]
    cast: Cast, acmes: Message, alice: Client, signed_in
) -> None:
    assert alice.get("/operator/").status_code == 404
    assert alice.get("/operator/live/").status_code == 404
    assert Client().get("/operator/").status_code == 302
    pulling.appeal(Brake.objects.get(), "please", actor=Actor.person(cast.alice))
    answer = signed_in(cast.olivia).get("/operator/")
    assert answer.status_code == 200 and b"confidential" not in answer.content
    assert b"Slowed 1" in answer.content and b"1 request for release waits for an answer." in answer.content
