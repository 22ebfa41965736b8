"""What programs read of a tenant's mail, and what they do to mail that waits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.http import QueryDict
from django.utils import timezone

from accounts.models import AuditEntry
from delivery import history
from delivery.log_filters import LogFilter
from delivery.models import Message, QueueEntry, Recipient
from relayweb.console.messages import LogQuery
from tests.integration.api.conftest import IssueKey, Program
from tests.integration.api.test_sending import MAIL, URL
from tests.support.engine_room import World
from tests.support.journeys import EXAMPLES, write_message


@pytest.fixture
def written(world: World) -> Message:
    """A message with several recipients, each with its history."""
    return write_message(world.cast.acme, *EXAMPLES[:6], subject="ご注文")


def test_a_message_with_its_recipients_events_and_content(acme: Program, written: Message) -> None:
    message = acme.get(f"{URL}/{written.id}").json()
    assert (message["id"], message["subject"], message["recipient_count"]) == (str(written.id), "ご注文", 6)
    assert sum(message["recipients_by_state"].values()) == 6
    assert message["accepted_at"].endswith("Z")

    recipients = acme.get(f"{URL}/{written.id}/recipients").json()
    assert recipients["next_cursor"] is None
    assert {one["id"] for one in recipients["data"]} == {str(one.id) for one in written.recipients.all()}

    events = acme.get(f"{URL}/{written.id}/events?limit=100").json()["data"]
    assert {event["recipient_id"] for event in events} == {one["id"] for one in recipients["data"]}
    assert [event["id"] for event in events] == sorted(event["id"] for event in events)

    content = acme.get(f"{URL}/{written.id}/content")
    assert (content.status_code, content["Content-Type"]) == (200, "message/rfc822")
    assert b"Subject:" in content.content


def test_a_recipient_has_every_attempt_with_its_transcript(acme: Program, written: Message) -> None:
    tried = written.recipients.get(address="unknown@corp.example")

    found = acme.get(f"/api/v1/recipients/{tried.id}").json()

    assert (found["recipient"], found["state"], found["class"]) == (
        tried.address,
        tried.state,
        tried.reply_class or None,
    )
    assert len(found["attempt_log"]) == tried.attempts
    last = found["attempt_log"][-1]
    assert last["reply"] == tried.reply
    assert {line["direction"] for line in last["transcript"]} >= {">", "<"}
    assert found["events"][0]["type"] == "accepted"


def test_pages_lead_through_everything_once_and_nothing_comes_between(acme: Program, written: Message) -> None:
    seen: list[str] = []
    path = "/api/v1/recipients?limit=2"
    for _page in range(5):
        answer = acme.get(path).json()
        seen += [one["id"] for one in answer["data"]]
        if answer["next_cursor"] is None:
            break
        acme.post(URL, MAIL)  # newer than what is being read
        path = f"/api/v1/recipients?limit=2&cursor={answer['next_cursor']}"

    assert seen == [str(key) for key in written.recipients.order_by("-id").values_list("id", flat=True)]
    urgent = acme.get(f"{URL}/{written.id}/recipients?limit=4").json()
    rest = acme.get(f"{URL}/{written.id}/recipients?limit=4&cursor={urgent['next_cursor']}").json()
    assert len({one["id"] for one in [*urgent["data"], *rest["data"]]}) == 6


def test_the_send_log_is_narrowed_as_in_the_console(acme: Program, written: Message) -> None:
    for query in (
        "state=bounced", "state=bounced&state=delivered", "class=mailbox_full", "recipient=docomo",
        "since=2099-01-01T00:00:00Z", f"recipient={written.recipients.order_by('id')[0].address}",
    ):  # fmt: skip
        narrowed = LogQuery.read(QueryDict(query)).narrowed(timezone.now())
        expected = history.page_of_recipients(written.tenant, narrowed)

        found = acme.get(f"/api/v1/recipients?{query}").json()["data"]

        assert [one["id"] for one in found] == [str(row.recipient_id) for row in expected.rows], query


def test_the_send_log_has_all_filters_of_the_console(acme: Program, written: Message, issue_key: IssueKey) -> None:
    other = issue_key()
    username = other.key.rpartition(".")[0]
    sent = other.post(URL, {**MAIL, "tags": ["invoice"], "stream": "bulk", "subject": "請求書 5月"}).json()
    (late,) = [one["id"] for one in sent["recipients"]]
    field = Message.objects.get(id=sent["id"]).header_message_id
    tomorrow = (timezone.now() + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")

    for query in (
        "tag=invoice", "stream=bulk", f"credential={username}", "subject=請求書", f"message_id_field={field}",
        "author=acme.example&tag=invoice",
    ):  # fmt: skip
        found = acme.get(f"/api/v1/recipients?{query}").json()["data"]
        assert [one["id"] for one in found] == [late], query
    for query, criteria in {
        "min_attempts=2": {"min_attempts": 2},
        "put_off=true": {"was_put_off": True},
        "returned=true": {"is_returned": True},
        "maybe_duplicate=true": {"is_ambiguous": True},
        "complained=true": {"is_complained": True},
        "provider=gmail&provider=docomo": {"providers": frozenset({"gmail", "docomo"})},
        "provider=other": {"providers": frozenset({"other"})},
        f"by_outcome=true&until={tomorrow}": {"by_outcome": True},
    }.items():
        expected = history.page_of_recipients(written.tenant, LogFilter(**criteria))
        found = acme.get(f"/api/v1/recipients?{query}").json()["data"]
        assert [one["id"] for one in found] == [str(row.recipient_id) for row in expected.rows], query
        assert len(found) < 7, query
    assert acme.get("/api/v1/recipients?stream=nobodys").status_code == 404


def test_a_key_of_one_domain_reads_the_mail_of_its_authors_alone(
    world: World, issue_key: IssueKey, written: Message
) -> None:
    limited = issue_key(only_domain="news.acme.example")
    mine = write_message(world.cast.acme, *EXAMPLES[:2], author="a@news.acme.example")
    below = write_message(world.cast.acme, EXAMPLES[0], author="a@jp.news.acme.example")
    write_message(world.cast.acme, EXAMPLES[0], author="a@bad-news.acme.example")
    write_message(world.cast.globex, EXAMPLES[0], author="a@news.acme.example")

    listed = limited.get(URL).json()["data"]
    recipients = limited.get("/api/v1/recipients").json()["data"]

    assert {one["id"] for one in listed} == {str(mine.id), str(below.id)}
    assert {one["message_id"] for one in recipients} == {str(mine.id), str(below.id)}
    assert limited.get(f"{URL}?author=acme.example").json()["data"] == []
    assert limited.get("/api/v1/recipients?author=shop@acme.example").json()["data"] == []
    for message, status in ((mine, 200), (written, 404)):
        for part in ("", "/recipients", "/events", "/content"):
            assert limited.get(f"{URL}/{message.id}{part}").status_code == status, (message, part)
        assert limited.get(f"/api/v1/recipients/{message.recipients.all()[0].id}").status_code == status
    for path in ("domains", "credentials", "members", "statistics", "rejections", "webhooks", "suppressions", "tenant"):
        refused = limited.get(f"/api/v1/{path}")
        assert (refused.status_code, refused.json()["type"]) == (403, "urn:relayweb:problem:key_limited_to_domain")
    assert limited.post(f"{URL}/{mine.id}/cancel").status_code == 403


def test_messages_are_found_by_what_they_have(acme: Program, issue_key: IssueKey, globex: Program) -> None:
    other = issue_key()
    mail = {**MAIL, "tags": ["invoice"], "stream": "bulk", "subject": "請求書 5月", "tls": "required"}
    sent = other.post(URL, mail).json()["id"]
    acme.post(URL, MAIL)
    field = Message.objects.get(id=sent).header_message_id
    username = other.key.rpartition(".")[0]

    for query in (
        "tag=invoice", "stream=bulk", f"credential={username}", "subject=請求書", f"message_id_field={field}",
        "author=acme.example&tag=invoice", "author=SHOP@acme.example&tag=invoice",
    ):  # fmt: skip
        found = acme.get(f"{URL}?{query}").json()["data"]
        assert [one["id"] for one in found] == [sent], query
    assert acme.get(f"{URL}/{sent}").json()["tls"] == "required"
    assert sorted(str(one["tls"]) for one in acme.get(URL).json()["data"]) == ["None", "required"]
    assert acme.get(f"{URL}?author=globex.example").json()["data"] == []
    assert globex.get(URL).json()["data"] == []


UNREADABLE = [
    ("state=nonsense", "state[0]"), ("limit=0", "limit"), ("limit=101", "limit"), ("limit=x", "limit"), ("unknown=1", "unknown"),
    ("cursor=!!", "cursor"), ("cursor=abc", "cursor"), ("since=yesterday", "since"), ("since=2026-01-01", "since"),
    ("since=1066-10-14T00:00:00Z", "since"), ("recipient=a%00b", "recipient"), ("limit=1&limit=2", "limit"),
]  # fmt: skip


def test_a_query_is_read_strictly(acme: Program) -> None:
    for query, field in UNREADABLE:
        answer = acme.get(f"/api/v1/recipients?{query}")

        assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json"), query
        assert [error["field"] for error in answer.json()["errors"]] == [field], query


# ---------------------------------------------------------------- acting


def _send(program: Program, **more: Any) -> UUID:
    return UUID(program.post(URL, {**MAIL, **more}).json()["id"])


def _act(program: Program, key: object, action: str, body: Any = None, *, kind: str = "messages") -> Any:
    answer = program.post(f"/api/v1/{kind}/{key}/{action}", body)
    assert answer.status_code == 200, answer.content
    return answer.json()


def test_a_scheduled_mail_can_be_moved_and_withdrawn(acme: Program) -> None:
    later = datetime.now(tz=UTC).replace(microsecond=0) + timedelta(hours=3)
    sent = _send(acme, send_at=later.isoformat(), lifetime_seconds=7200)
    assert Message.objects.get(id=sent).expires_at == later + timedelta(hours=2)
    even_later = later + timedelta(hours=20)

    moved = _act(acme, sent, "reschedule", {"send_at": even_later.isoformat()})

    assert moved == {"id": str(sent), "changed": 1, "in_hand": 0}
    assert QueueEntry.objects.get().next_attempt_at == even_later
    assert Recipient.objects.get().next_attempt_at == even_later
    assert Message.objects.get(id=sent).expires_at == even_later + timedelta(hours=2)
    assert _act(acme, sent, "cancel")["changed"] == 1
    assert (Recipient.objects.get().state, QueueEntry.objects.count()) == ("cancelled", 0)
    assert _act(acme, sent, "cancel")["changed"] == 0
    username = acme.key.rpartition(".")[0]
    said = AuditEntry.objects.filter(object_id=str(sent)).order_by("id").values_list("action", "actor_name")
    assert list(said)[:2] == [
        ("message.reschedule", f"API key {username}"),
        ("message.cancel", f"API key {username}"),
    ]


def test_to_send_earlier_wakes_the_queue(acme: Program) -> None:
    later = datetime.now(tz=UTC) + timedelta(hours=3)
    sent = _send(acme, send_at=later.isoformat())

    _act(acme, sent, "reschedule", {"send_at": "2026-01-01T00:00:00Z"})

    assert QueueEntry.objects.get().next_attempt_at <= datetime.now(tz=UTC) + timedelta(seconds=1)
    answer = acme.post(f"{URL}/{sent}/reschedule", {"send_at": "2199-01-01T00:00:00Z"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "send_at")


def test_what_is_held_is_released_and_what_waits_is_tried_now(acme: Program) -> None:
    sent = _send(acme)
    (recipient,) = Recipient.objects.all()

    assert _act(acme, recipient.id, "hold", kind="recipients")["changed"] == 1
    recipient.refresh_from_db()
    assert (recipient.state, recipient.reason) == ("held", "member")
    assert _act(acme, sent, "release")["changed"] == 1
    QueueEntry.objects.update(next_attempt_at=datetime.now(tz=UTC) + timedelta(hours=1))
    assert _act(acme, sent, "retry")["changed"] == 1
    assert QueueEntry.objects.get().next_attempt_at <= datetime.now(tz=UTC) + timedelta(seconds=1)


def test_what_others_hold_is_not_the_tenants_to_release(acme: Program) -> None:
    from delivery.queue import control

    sent = _send(acme)
    control.hold(control.Which(message_id=sent), reason="operator")

    assert _act(acme, sent, "release")["changed"] == 0
    assert Recipient.objects.get().state == "held"
