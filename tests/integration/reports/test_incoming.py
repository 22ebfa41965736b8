"""What came back, acted on: the right recipient once, and nobody else whatever a report says."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import zstandard
from django.conf import settings
from django.utils import timezone

from accounts import sealing
from accounts.identifiers import uuid7
from delivery import strikes
from delivery.core.reports import Kind, read_report
from delivery.core.verp import make_bounce_mailbox, make_feedback_token
from delivery.models import (
    Complaint,
    DeliveryEvent,
    Message,
    OwedDsn,
    Recipient,
    ReturnedKind,
    ReturnedMail,
    Strike,
    Suppression,
)
from delivery.reports import incoming, owed
from tests.support.journeys import Cast, Fate, make_cast, write_message
from tests.support.reports import complaint, dsn, vacation


@pytest.fixture
def cast(db: None) -> Cast:
    return make_cast()


@pytest.fixture
def delivered(cast: Cast) -> Recipient:
    return Recipient.objects.get(message=write_message(cast.acme, Fate(address="bob@far.test")))


def arrive(
    content: bytes, kind: ReturnedKind = ReturnedKind.BOUNCE, recipient_id: UUID | None = None, **more: Any
) -> ReturnedMail:
    return ReturnedMail.objects.create(
        kind=kind,
        mailbox="somebody@bounce.relay.test",
        recipient_id=recipient_id,
        peer_address="192.0.2.1",
        size_bytes=len(content),
        compressed=zstandard.ZstdCompressor().compress(content),
        **more,
    )


def read(
    content: bytes, kind: ReturnedKind = ReturnedKind.BOUNCE, recipient_id: UUID | None = None, **more: Any
) -> str:
    row = arrive(content, kind, recipient_id, **more)
    incoming.read_waiting()
    strikes.judge_due()
    row.refresh_from_db()
    return row.outcome


def bounce_mailbox(recipient: Recipient, *, key: bytes | None = None, days: int = 30) -> str:
    return make_bounce_mailbox(
        recipient.pk,
        settings.BOUNCE_DOMAIN,
        key=key or sealing.derived_keys("verp")[0],
        expires_on=timezone.now().date() + timedelta(days=days),
    ).address


def kinds(recipient: Recipient) -> list[str]:
    return list(DeliveryEvent.objects.filter(recipient_id=recipient.pk).order_by("id").values_list("kind", flat=True))


# ---------------------------------------------------------------- returned


def test_a_late_bounce_is_recorded_beside_the_state_and_suppresses(delivered: Recipient) -> None:
    assert read(dsn("bob@far.test"), recipient_id=delivered.pk) == "returned"

    delivered.refresh_from_db()
    assert (delivered.state, delivered.returned_class) == ("delivered", "bad_mailbox")
    assert delivered.returned_at is not None
    assert kinds(delivered)[-1] == "returned"
    row = Suppression.objects.get()
    assert (row.value, row.reason, row.tenant_id) == ("bob@far.test", "bounce", delivered.tenant_id)


def test_a_bounce_is_kept_unless_the_tenant_keeps_no_content(delivered: Recipient, cast: Cast) -> None:
    private = Recipient.objects.get(message=write_message(cast.acme, Fate(address="eve@far.test")))
    Message.objects.filter(pk=private.message_id).update(retention_days=0)

    told = [read(dsn(one.address), recipient_id=one.pk) for one in (delivered, private)]

    kept = dict(ReturnedMail.objects.values_list("recipient_id", "compressed"))
    assert told == ["returned", "returned"]
    assert bytes(kept[delivered.pk]) and not bytes(kept[private.pk])


def test_the_second_report_changes_nothing(delivered: Recipient) -> None:
    read(dsn("bob@far.test"), recipient_id=delivered.pk)
    first = Recipient.objects.get(pk=delivered.pk)

    assert read(dsn("bob@far.test", status="5.2.2"), recipient_id=delivered.pk) == "again"

    assert Recipient.objects.get(pk=delivered.pk).returned_at == first.returned_at
    assert kinds(delivered).count("returned") == 1
    assert Strike.objects.count() == 1


def test_a_row_is_acted_on_once_even_if_two_workers_have_it(delivered: Recipient) -> None:
    row = arrive(dsn("bob@far.test"), recipient_id=delivered.pk)
    acts = [incoming._reading(row), incoming._reading(row)]

    assert [incoming._finish(row, act) for act in acts] == [True, False]


@pytest.mark.parametrize("action", ["delayed", "relayed", "delivered", "expanded"])
def test_what_has_not_failed_is_only_noted(delivered: Recipient, action: str) -> None:
    status = "4.4.1" if action == "delayed" else "2.0.0"
    read(dsn("bob@far.test", action=action, status=status, diagnostic="250 ok"), recipient_id=delivered.pk)

    delivered.refresh_from_db()
    assert delivered.returned_at is None
    assert Suppression.objects.count() == 0


def test_an_automatic_reply_is_ignored(delivered: Recipient) -> None:
    assert read(vacation("bob@far.test"), recipient_id=delivered.pk) == "auto_reply"

    assert "returned" not in kinds(delivered)


def test_a_report_about_somebody_else_suppresses_nobody(delivered: Recipient) -> None:
    assert read(dsn("victim@globex.example"), recipient_id=delivered.pk) == "returned_elsewhere"

    assert Suppression.objects.count() == 0
    assert Strike.objects.count() == 0


def test_a_forwarded_address_is_known_by_its_original(delivered: Recipient) -> None:
    assert read(dsn("bob@elsewhere.test", original="Bob@far.test"), recipient_id=delivered.pk) == "returned"


def test_a_report_that_overtakes_the_settlement_waits_for_it(cast: Cast) -> None:
    open_one = Recipient.objects.get(
        message=write_message(cast.acme, Fate(address="bob@far.test", state="queued", tries=()))
    )

    assert read(dsn("bob@far.test"), recipient_id=open_one.pk) == ""

    Recipient.objects.filter(pk=open_one.pk).update(state="delivered")
    ReturnedMail.objects.update(claimed_until=None)
    incoming.read_waiting()
    assert Recipient.objects.get(pk=open_one.pk).returned_at is not None


def test_what_bounced_in_the_session_is_not_returned_as_well(cast: Cast) -> None:
    bounced = Recipient.objects.get(message=write_message(cast.acme, Fate(address="bob@far.test", state="bounced")))

    assert read(dsn("bob@far.test"), recipient_id=bounced.pk) == "not_delivered"


def test_a_policy_refusal_is_returned_and_suppresses_nobody(delivered: Recipient) -> None:
    content = dsn("bob@far.test", status="5.7.1", diagnostic="550 5.7.1 message content rejected as spam")

    assert read(content, recipient_id=delivered.pk) == "returned"
    assert Suppression.objects.count() == 0


# ---------------------------------------------------------------- passed on


def owed_actions(recipient: Recipient) -> list[str]:
    return list(OwedDsn.objects.filter(recipient_id=recipient.pk).values_list("action", flat=True))


def test_who_asked_for_failures_gets_the_late_one_passed_on_once(delivered: Recipient) -> None:
    Recipient.objects.filter(pk=delivered.pk).update(dsn_notify=["FAILURE"], dsn_orcpt="rfc822;bob@list.test")

    for _ in range(2):
        read(dsn("bob@far.test"), recipient_id=delivered.pk)

    assert owed_actions(delivered) == ["returned"]
    report_id = owed._claim()[0]
    submission = owed._submission(report_id, list(OwedDsn.objects.filter(report_id=report_id)))
    assert not isinstance(submission, str)
    assert submission.envelope.reverse_path is None
    assert [str(one.mailbox) for one in submission.envelope.recipients] == ["shop@acme.example"]
    (row,) = read_report(submission.content).rows
    assert (row.address, row.kind, row.status) == ("bob@far.test", Kind.BOUNCE, "5.1.1")
    assert b"Remote-MTA: dns; mx.far.test" in submission.content
    assert b"Original-Recipient: rfc822; bob@list.test" in submission.content


@pytest.mark.parametrize("notify", [None, ["NEVER"], ["SUCCESS", "DELAY"]])
def test_who_did_not_ask_reads_it_here(delivered: Recipient, notify: list[str] | None) -> None:
    Recipient.objects.filter(pk=delivered.pk).update(dsn_notify=notify)

    assert read(dsn("bob@far.test"), recipient_id=delivered.pk) == "returned"
    assert owed_actions(delivered) == []


def test_what_a_program_wrote_is_not_passed_on(cast: Cast) -> None:
    content = b"From: shop@acme.example\r\nAuto-Submitted: auto-generated\r\n\r\nHello\r\n"
    recipient = Recipient.objects.get(message=write_message(cast.acme, Fate(address="bob@far.test"), content=content))
    Recipient.objects.filter(pk=recipient.pk).update(dsn_notify=["FAILURE"])

    assert read(dsn("bob@far.test"), recipient_id=recipient.pk) == "returned"
    assert owed_actions(recipient) == []


# ---------------------------------------------------------------- hostile reports


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\xff" * 1000,
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n" * 50_000,
        b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(2_000)),
        b"Subject: " + b"=?utf-8?B?" * 20_000 + b"\r\n\r\n",
    ],
)
def test_a_hostile_report_takes_nobody_down_and_changes_nothing(delivered: Recipient, content: bytes) -> None:
    assert read(content, recipient_id=delivered.pk)

    assert kinds(delivered).count("returned") == 0
    assert ReturnedMail.objects.filter(handled_at=None).count() == 0


def test_what_kills_its_workers_is_put_aside(delivered: Recipient) -> None:
    assert read(dsn("bob@far.test"), recipient_id=delivered.pk, tries=incoming.MOST_TRIES) == "poison"


# ---------------------------------------------------------------- complaints


def test_a_complaint_stops_the_stream_and_is_told_once(delivered: Recipient) -> None:
    content = complaint(bounce_mailbox(delivered))

    assert read(content, ReturnedKind.FEEDBACK) == "complained"
    assert read(content, ReturnedKind.FEEDBACK) == "again"

    row = Suppression.objects.get()
    assert (row.scope, row.reason, row.value) == ("stream", "complaint", "bob@far.test")
    assert kinds(delivered).count("complained") == 1
    assert Complaint.objects.get().tenant_id == delivered.tenant_id


@pytest.mark.parametrize("feedback_type", ["not-spam", "auth-failure"])
def test_what_is_no_unhappy_reader_is_counted_and_stops_nothing(delivered: Recipient, feedback_type: str) -> None:
    read(complaint(bounce_mailbox(delivered), feedback_type=feedback_type), ReturnedKind.FEEDBACK)

    assert Suppression.objects.count() == 0
    assert "complained" not in kinds(delivered)
    assert Complaint.objects.get().feedback_type == feedback_type


def test_a_complaint_without_our_signature_changes_nothing(delivered: Recipient) -> None:
    for mailbox in ("", bounce_mailbox(delivered, key=b"k" * 32), bounce_mailbox(delivered, days=-1)):
        assert read(complaint(mailbox, named="bob@far.test"), ReturnedKind.FEEDBACK) == "not_ours"

    assert Suppression.objects.count() == Complaint.objects.count() == 0


def test_a_complaint_with_acmes_signature_that_names_another_changes_nothing(delivered: Recipient) -> None:
    content = complaint(bounce_mailbox(delivered), named="charlie@globex.example")

    assert read(content, ReturnedKind.FEEDBACK) == "names_somebody_else"
    assert Suppression.objects.count() == Complaint.objects.count() == 0


def test_a_redacted_name_is_no_other_name(delivered: Recipient) -> None:
    content = complaint(bounce_mailbox(delivered), named="redacted-0f3a@far.test")

    assert read(content, ReturnedKind.FEEDBACK) == "complained"


def test_two_signatures_in_one_complaint_prove_neither(cast: Cast, delivered: Recipient) -> None:
    other = Recipient.objects.get(message=write_message(cast.globex, Fate(address="dave@far.test")))
    content = complaint(bounce_mailbox(delivered)) + bounce_mailbox(other).encode() + b"\r\n"

    assert read(content, ReturnedKind.FEEDBACK) == "not_ours"


def feedback_token(recipient: Recipient, *, key: bytes | None = None, days: int = 30) -> str:
    expires_on = timezone.now().date() + timedelta(days=days)
    return make_feedback_token(recipient.pk, key=key or sealing.derived_keys("feedback")[0], expires_on=expires_on)


def complaint_with(token: str) -> bytes:
    """About a mail that left with its client's own reverse-path."""
    return complaint("shop@acme.example").replace(
        b"Subject: Hello", f"X-Feedback-Token: {token}\r\nSubject: Hello".encode(), 1
    )


def test_a_complaint_about_a_kept_reverse_path_is_known_by_its_token(delivered: Recipient) -> None:
    assert read(complaint_with(feedback_token(delivered)), ReturnedKind.FEEDBACK) == "complained"

    assert Suppression.objects.get().reason == "complaint"
    assert kinds(delivered).count("complained") == 1


def test_forged_tokens_change_nothing(cast: Cast, delivered: Recipient) -> None:
    good, other = (
        feedback_token(delivered),
        Recipient.objects.get(message=write_message(cast.globex, Fate(address="dave@far.test"))),
    )
    flipped = good[:10] + ("a" if good[10] != "a" else "b") + good[11:]
    # The part of a bounce mailbox is signed for another purpose.
    borrowed = "f-" + bounce_mailbox(delivered).partition("@")[0].removeprefix("b-")
    for token in (
        flipped,
        borrowed,
        feedback_token(delivered, key=b"k" * 32),
        feedback_token(delivered, days=-1),
        f"{good} {feedback_token(other)}",
        "f-" + "a" * 48,
    ):
        assert read(complaint_with(token), ReturnedKind.FEEDBACK) == "not_ours"

    assert Suppression.objects.count() == Complaint.objects.count() == 0


# ---------------------------------------------------------------- unsubscribing by mail, and old rows


def test_a_mail_to_an_unsubscribe_mailbox_unsubscribes(delivered: Recipient) -> None:
    assert read(b"Subject: unsubscribe\r\n\r\n", ReturnedKind.UNSUBSCRIBE, delivered.pk) == "unsubscribed"

    assert Suppression.objects.get().reason == "unsubscribe"
    assert kinds(delivered)[-1] == "unsubscribed"


def test_an_unsubscribe_mailbox_of_a_forgotten_mail_is_noted(db: None) -> None:
    assert read(b"\r\n", ReturnedKind.UNSUBSCRIBE, uuid7()) == "unknown"


def test_what_came_back_is_forgotten_after_a_while(delivered: Recipient) -> None:
    arrive(b"x", received_at=timezone.now() - timedelta(days=31))
    arrive(b"x")

    assert incoming.forget_old() == 1
