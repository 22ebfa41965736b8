"""Settings, the trust ladder, notices, approval and closing of a tenant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts import notices, quotas, tenants, trust
from accounts.audit import Actor
from accounts.identifiers import time_of
from accounts.models import AuditEntry, Credential, Membership, Notice, NoticeKind, QuotaBucket, Role, Tenant, User
from delivery import closing, jobs, retention, saved_filters, track_record
from delivery.log_filters import LogFilter
from delivery.models import (
    Attempt,
    Content,
    DeliveryEvent,
    Job,
    JobKind,
    JobPart,
    Message,
    QueueEntry,
    Recipient,
    SavedFilter,
    SendingDomain,
    Statistic,
    StatisticTime,
)
from delivery.statistics import counting
from delivery.tenants import open_tenant
from relayweb import tasks
from relayweb.console import telling
from tests.support.journeys import EXAMPLES, PASSWORD, Cast, Fate, write_message

SYSTEM = Actor.system("test")
OLIVIA = Actor("olivia@relay.example", is_operator=True)


@pytest.fixture
def initech(cast: Cast, settings: Any) -> Tenant:
    settings.SIGNUP = "open"
    return open_tenant("Initech", owner_email="alice@acme.example", actor=SYSTEM, by_themselves=True)[0]


# ---------------------------------------------------------------- settings


def test_each_card_is_saved_by_itself(cast: Cast, alice: Client) -> None:
    alice.post("/t/acme/settings/", {"card": "suppressed", "refuses": "on"})
    alice.post("/t/acme/settings/", {"card": "profile", "name": "Acme KK", "language": "en", "time_zone": "Asia/Tokyo"})
    refused = alice.post("/t/acme/settings/", {"card": "profile", "name": " ", "language": "xx", "time_zone": "Mars"})

    cast.acme.refresh_from_db()
    assert (cast.acme.name, cast.acme.language, cast.acme.refuses_suppressed) == ("Acme KK", "en", True)
    assert refused.content.count(b"rw-error") == 3
    assert [entry.action for entry in AuditEntry.objects.of(cast.acme)] == ["tenant.update"] * 2


def test_settings_are_for_admins_and_closing_for_owners(cast: Cast, signed_in: Any) -> None:
    Membership.objects.filter(user=cast.bob).update(role=Role.ADMIN)
    bob = signed_in(cast.bob)
    assert bob.get("/t/acme/settings/").status_code == 200
    assert bob.get("/t/acme/settings/close/").status_code == 403

    Membership.objects.filter(user=cast.bob).update(role=Role.DEVELOPER)

    assert bob.get("/t/acme/settings/").status_code == 403


def test_retention_and_quiet_hours_are_chosen_within_what_there_is(cast: Cast, alice: Client) -> None:
    alice.post("/t/acme/settings/", {"card": "retention", "days": "30"})
    alice.post("/t/acme/settings/", {"card": "retention", "days": "31"})
    quiet = {"card": "quiet", "quiet_from": "21:00", "quiet_streams": "bulk"}
    half = alice.post("/t/acme/settings/", {**quiet, "quiet_until": ""})
    alice.post("/t/acme/settings/", {**quiet, "quiet_until": "08:00"})

    cast.acme.refresh_from_db()
    assert cast.acme.content_retention_days == 30
    assert b"need a beginning and an end" in half.content
    assert str(cast.acme.quiet_from) == "21:00:00"
    assert AuditEntry.objects.of(cast.acme).count() == 2


def test_usage_is_exported_by_month(cast: Cast, alice: Client) -> None:
    for tenant, month, used in ((cast.acme, 10, 5), (cast.acme, 11, 7), (cast.globex, 11, 9)):
        QuotaBucket.objects.create(
            owner_id=tenant.id, period="month", window_start=datetime(2026, month, 1, tzinfo=UTC), used=used
        )

    answer = alice.get("/t/acme/settings/usage/")

    assert answer.content.decode().split() == ["month,recipients_accepted", "2026-11,7", "2026-10,5"]


def test_content_goes_when_its_time_is_over_but_not_while_mail_is_open(cast: Cast) -> None:
    done, waiting = write_message(cast.acme, EXAMPLES[0]), write_message(cast.acme, EXAMPLES[1])
    days = done.retention_days
    day = time_of(done.id).replace(hour=0, minute=0, second=0, microsecond=0)
    over = day + timedelta(days=days + 1)

    early = retention.drop_old(now=over - timedelta(seconds=1))
    while_open = retention.drop_old(now=over)
    kept = set(Content.objects.values_list("message_id", flat=True))
    QueueEntry.objects.all().delete()
    after = retention.drop_old(now=over)

    name = f"delivery_content_r{days}_p{day:%Y%m%d}"
    assert name not in early + while_open
    assert kept == {waiting.id}
    assert name in after
    assert not Content.objects.exists()
    assert Message.objects.count() == 2


# ---------------------------------------------------------------- trust


def test_a_tenant_that_opened_itself_begins_small_and_is_told_what_raises_it(initech: Tenant, alice: Client) -> None:
    assert quotas.limits_of(initech).daily_limit == trust.STEPS[0].daily == 200

    page = alice.get("/t/initech/settings/").content.decode()

    assert "It is 200 now." in page
    assert "Next: 1,000 a day." in page


def test_one_made_by_an_operator_has_no_ladder(cast: Cast, settings: Any) -> None:
    made = open_tenant("Hooli", owner_email="h@hooli.example", actor=OLIVIA)[0]
    settings.TRUST_LADDER = False
    free = open_tenant("Free", owner_email="f@free.example", actor=SYSTEM, by_themselves=True)[0]

    assert [quotas.limits_of(one).daily_limit for one in (made, free)] == [None, None]


STEP = trust.STEPS[0]


@pytest.mark.parametrize(
    ("days", "record", "earned"),
    [
        (STEP.days, trust.Record(STEP.sent, 0, 0), True),
        (STEP.days - 1, trust.Record(STEP.sent, 0, 0), False),
        (STEP.days, trust.Record(STEP.sent - 1, 0, 0), False),
        (STEP.days, trust.Record(95, 5, 0), True),
        (STEP.days, trust.Record(94, 6, 0), False),
        (STEP.days, trust.Record(5_000, 0, 5), True),
        (STEP.days, trust.Record(5_000, 0, 6), False),
    ],
)
def test_days_volume_bounces_and_complaints_decide(days: int, record: trust.Record, earned: bool) -> None:
    now = datetime(2026, 11, 24, tzinfo=UTC)

    assert trust.has_earned(STEP, record, since=now - timedelta(days=days), now=now) is earned


def test_clean_sending_raises_the_limit_once_and_says_so(initech: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "STEPS", (trust.Step(200, 3, 2), *trust.STEPS[1:]))
    Tenant.objects.filter(pk=initech.pk).update(trust_since=timezone.now() - timedelta(days=4))
    write_message(initech, *(Fate(address=f"{n}@corp.example") for n in range(3)), accepted_at=timezone.now())

    assert [track_record.raise_trust(), track_record.raise_trust()] == [1, 0]

    initech.refresh_from_db()
    assert (initech.trust_level, initech.daily_limit) == (1, 1_000)
    assert telling.told(Notice.objects.of(initech).get()).heading == "Your daily limit rose from 200 to 1,000"
    assert AuditEntry.objects.of(initech).filter(action="trust.set").count() == 2


def test_a_limit_that_an_operator_set_stays(initech: Tenant) -> None:
    quotas.set_limits(initech, {"daily_limit": 50}, actor=OLIVIA)
    Tenant.objects.filter(pk=initech.pk).update(trust_since=timezone.now() - timedelta(days=400))

    assert track_record.raise_trust() == 0
    assert (initech.trust_level, quotas.limits_of(initech).daily_limit) == (None, 50)
    trust.set_step(initech, 2, actor=OLIVIA)
    assert initech.daily_limit == 10_000
    trust.set_step(initech, len(trust.STEPS), actor=OLIVIA)
    assert initech.daily_limit is None


# ---------------------------------------------------------------- notices


def _use(tenant: Tenant, used: int, *, now: datetime) -> None:
    QuotaBucket.objects.update_or_create(
        owner_id=tenant.id, period="day", window_start=quotas.window_start("day", now), defaults={"used": used}
    )


def test_a_limit_is_told_at_80_and_at_100_percent_once_each_and_over_with_the_day(cast: Cast) -> None:
    now = timezone.now()
    quotas.set_limits(cast.acme, {"daily_limit": 100}, actor=OLIVIA)
    seen = []

    for used in (79, 80, 90, 100, 100):
        _use(cast.acme, used, now=now)
        track_record.watch_limits(now=now)
        seen.append([notice.kind for notice in notices.open_notices(cast.acme)])
    track_record.watch_limits(now=now + timedelta(days=1))

    assert seen == [[], ["limit_near"], ["limit_near"], ["limit_reached"], ["limit_reached"]]
    assert notices.open_notices(cast.acme) == []
    assert Notice.objects.of(cast.acme).count() == 2
    assert Notice.objects.of(cast.globex).count() == 0


def test_a_failing_domain_is_told_until_it_is_back(cast: Cast) -> None:
    domain = SendingDomain.objects.create(
        tenant=cast.acme, name="acme.example", ownership_token="x", state="verified", failing_since=timezone.now()
    )
    track_record.watch_domains()
    track_record.watch_domains()
    (told,) = notices.open_notices(cast.acme)
    SendingDomain.objects.filter(pk=domain.pk).update(state="lapsed")
    track_record.watch_domains()
    (lapsed,) = notices.open_notices(cast.acme)
    SendingDomain.objects.filter(pk=domain.pk).update(state="verified", failing_since=None)

    track_record.watch_domains()

    assert [told.kind, lapsed.kind] == ["domain_failing", "domain_lapsed"]
    assert "acme.example" in telling.told(told).heading
    assert notices.open_notices(cast.acme) == []


def test_rising_bounces_are_told_and_a_few_are_not(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(track_record, "FEWEST", 4)
    now = timezone.now()
    for tenant, bounced in ((cast.acme, 2), (cast.globex, 0)):
        _use(tenant, 10, now=now)
        fates = [Fate(address=f"{n}@corp.example", state="bounced" if n < bounced else "delivered") for n in range(10)]
        write_message(tenant, *fates, accepted_at=now)

    track_record.watch_rates(now=now)

    assert [notice.kind for notice in Notice.objects.of(cast.acme)] == ["bounces_rising"]
    assert "20.0 % in 24 hours (2 of 10)" in telling.told(Notice.objects.of(cast.acme).get()).sentence
    assert not Notice.objects.of(cast.globex).exists()


def test_a_pause_is_told_to_those_who_want_it_once_in_their_language(cast: Cast, signed_in: Any, mailbox: Any) -> None:
    User.objects.update(email_confirmed_at=timezone.now())
    User.objects.filter(pk=cast.alice.pk).update(language="ja")
    bob = signed_in(cast.bob)
    bob.post("/t/acme/notices/choices/", {"kind": ["paused", "nonsense"]})

    tenants.suspend_tenant(cast.acme, reason="spam trap", actor=OLIVIA)
    tasks.mail_notices()
    tasks.mail_notices()

    (ours,), (his,) = mailbox("alice@acme.example"), mailbox("bob@acme.example")
    assert "テナントの送信を一時停止しました" in ours.subject
    assert "Reason: spam trap." in his.body
    assert mailbox("charlie@globex.example") == []
    assert b"Sending is paused for this tenant" in bob.get("/t/acme/notices/").content
    tenants.resume_tenant(cast.acme, actor=OLIVIA)
    assert b"Nothing needs attention now" in bob.get("/t/acme/notices/").content


def test_by_default_owners_and_admins_get_letters_and_each_may_stop_them(cast: Cast, alice: Client) -> None:
    User.objects.update(email_confirmed_at=timezone.now())
    notice = notices.raise_notice(cast.acme, NoticeKind.PAUSED)
    assert notice is not None
    assert notices.readers_of(notice) == [cast.alice]

    alice.post("/t/acme/notices/choices/", {"kind": []})

    assert notices.readers_of(notice) == []


def test_every_kind_of_notice_has_words() -> None:
    assert set(telling.WORDS) == set(telling.KINDS) == set(NoticeKind)


# ---------------------------------------------------------------- approval


def test_an_operator_approves_and_its_people_are_told(cast: Cast, settings: Any, signed_in: Any, mailbox: Any) -> None:
    settings.SIGNUP = "approval"
    User.objects.update(email_confirmed_at=timezone.now())
    tenant = open_tenant("Initech", owner_email="alice@acme.example", actor=SYSTEM, by_themselves=True)[0]
    olivia, alice = signed_in(cast.olivia), signed_in(cast.alice)

    assert alice.get("/operator/approvals/").status_code == 404
    assert alice.post("/operator/approvals/initech/", {"decision": "approve"}).status_code == 404
    assert b"Initech" in olivia.get("/operator/approvals/").content
    olivia.post("/operator/approvals/initech/", {"decision": "approve"})
    tasks.mail_notices()

    tenant.refresh_from_db()
    assert not tenant.awaits_approval
    assert "Approved" in mailbox("alice@acme.example")[0].subject
    assert olivia.post("/operator/approvals/initech/", {"decision": "approve"}).status_code == 404
    assert AuditEntry.objects.of(tenant).filter(action="tenant.approve", actor=cast.olivia).exists()


# ---------------------------------------------------------------- closing


def _close(client: Client, open_mail: str = "deliver", slug: str = "acme") -> Any:
    client.post("/accounts/prove/", {"password": PASSWORD})
    return client.post("/t/acme/settings/close/", {"open_mail": open_mail, "slug": slug})


@pytest.mark.parametrize(("choice", "open_after"), [("deliver", 1), ("cancel", 0)])
def test_open_mail_is_delivered_or_cancelled_as_chosen(choice: str, open_after: int, cast: Cast, alice: Client) -> None:
    write_message(cast.acme, EXAMPLES[1])

    assert b"This is not the short name" in _close(alice, choice, "globex").content
    assert _close(alice, choice)["Location"] == "/tenants/"

    cast.acme.refresh_from_db()
    assert cast.acme.state == "closed"
    assert QueueEntry.objects.filter(tenant_id=cast.acme.id).count() == open_after
    assert alice.get("/t/acme/messages/").status_code == 404


def test_until_it_is_erased_its_owner_opens_it_again(
    cast: Cast, alice: Client, charlie: Client, signed_in: Any
) -> None:
    _close(alice)

    assert b"Open it again" in alice.get("/tenants/").content
    for other in (charlie, signed_in(cast.bob)):
        assert b"Open it again" not in other.get("/tenants/").content
        assert other.post("/tenants/acme/reopen/").status_code == 404
    assert alice.post("/tenants/acme/reopen/")["Location"] == "/t/acme/messages/"
    assert alice.get("/t/acme/messages/").status_code == 200


def test_a_closed_tenant_is_erased_in_time_and_nobody_elses_mail(cast: Cast, alice: Client) -> None:
    for tenant in (cast.acme, cast.globex):
        write_message(tenant, *EXAMPLES[:1])
        Credential.objects.create(
            tenant=tenant, kind="smtp", name="x", username=f"{tenant.slug}.x", secret_sha256=b"1" * 32
        )
        job = jobs.ask_for(tenant, JobKind.EXPORT, LogFilter(), query="", actor=Actor.system("test"), file_format="csv")
        saved_filters.save(tenant, name="mine", query="", owner=None, actor=Actor.system("test"))
        JobPart.objects.create(job_id=job.id, number=0, compressed=b"x")
    counting.count_waiting()
    tables = (Message, Recipient, Attempt, DeliveryEvent, Content, Statistic, StatisticTime, Job, JobPart, SavedFilter)
    before = [model.objects.count() for model in tables]
    _close(alice)

    early = closing.erase_due(now=timezone.now() + closing.ERASED_AFTER - timedelta(hours=1))
    late = closing.erase_due(now=timezone.now() + closing.ERASED_AFTER + timedelta(hours=1))

    assert (early, late) == (0, 1)
    assert [model.objects.count() * 2 for model in tables] == before
    assert not Message.objects.of(cast.acme).exists()
    assert not Membership.objects.of(cast.acme).exists()
    assert Credential.objects.count() == 1
    cast.acme.refresh_from_db()
    assert cast.acme.erased_at is not None
    assert AuditEntry.objects.of(cast.acme).filter(action="tenant.erase").exists()
    assert alice.post("/tenants/acme/reopen/").status_code == 404


def test_open_mail_is_never_erased(cast: Cast, alice: Client) -> None:
    write_message(cast.acme, EXAMPLES[1])
    _close(alice)

    assert closing.erase_due(now=timezone.now() + timedelta(days=60)) == 0
    assert Message.objects.of(cast.acme).exists()
