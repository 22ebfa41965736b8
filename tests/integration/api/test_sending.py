"""Mail handed over by programs: committed before the answer, once per key, and strict about what it is."""

from __future__ import annotations

import base64
import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from typing import Any
from uuid import UUID

import pytest

from delivery import history
from delivery.models import Message, QueueEntry, Recipient, RejectionEntry
from tests.integration.api.conftest import IssueKey, Program
from tests.support.engine_room import World

MAIL = {"from": "アクメ <shop@acme.example>", "to": "taro@far.test", "subject": "ご注文", "text": "ありがとう"}
URL = "/api/v1/messages"


def _problem(answer: Any, status: int, word: str) -> dict[str, Any]:
    assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json"), answer.content
    document: dict[str, Any] = answer.json()
    assert document["type"] == f"urn:relayweb:problem:{word}", document
    assert document["status"] == status
    assert document["reference"]
    return document


def _fields(document: dict[str, Any]) -> list[str]:
    return [error["field"] for error in document.get("errors", [])]


def _content(message: Message) -> Any:
    content = history.content_of(message)
    assert content is not None
    return message_from_bytes(content, policy=policy.default)


def test_a_mail_is_committed_queued_and_answered_with_its_ids(acme: Program) -> None:
    answer = acme.post(URL, {**MAIL, "cc": ["Hanako <hanako@far.test>"], "bcc": [{"email": "hidden@far.test"}]})

    assert answer.status_code == 202, answer.content
    message = Message.objects.get()
    assert answer.json()["id"] == str(message.id)
    assert [one["recipient"] for one in answer.json()["recipients"]] == [
        "taro@far.test", "hanako@far.test", "hidden@far.test",
    ]  # fmt: skip
    assert {one["id"] for one in answer.json()["recipients"]} == {str(one.id) for one in Recipient.objects.all()}
    assert (message.author, message.subject, message.protocol) == ("shop@acme.example", "ご注文", "API")
    assert QueueEntry.objects.count() == 3
    written = _content(message)
    assert written["Subject"] == "ご注文"
    assert written["From"] == "アクメ <shop@acme.example>"
    assert "hidden" not in (history.content_of(message) or b"").decode()
    assert written["Message-ID"] == message.header_message_id


def test_everything_a_mail_can_have(acme: Program) -> None:
    later = datetime.now(tz=UTC).replace(microsecond=0) + timedelta(hours=3)
    files = [
        {"content": base64.b64encode(b"%PDF").decode(), "filename": "請求書.pdf", "content_type": "application/pdf"},
        {"content": base64.b64encode(b"png").decode(), "content_type": "image/png", "content_id": "logo"},
    ]

    answer = acme.post(
        URL,
        {
            **MAIL,
            "html": "<img src=cid:logo> {{name}}",
            "reply_to": ["help@globex.example"],
            "headers": {"X-Order": "1234"},
            "attachments": files,
            "tags": ["order", "ja"],
            "metadata": {"order": "1234"},
            "variables": {"name": "<太郎>"},
            "stream": "bulk",
            "send_at": later.isoformat(),
            "lifetime_seconds": 3600,
        },
    )

    assert answer.status_code == 202, answer.content
    message = Message.objects.get()
    assert (message.tags, message.metadata, message.stream.name) == (["order", "ja"], {"order": "1234"}, "bulk")
    assert QueueEntry.objects.get().next_attempt_at == later
    assert message.expires_at == later + timedelta(hours=1)
    written = _content(message)
    assert (written["Reply-To"], written["X-Order"]) == ("help@globex.example", "1234")
    assert written.get_body(("html",)).get_content().strip() == "<img src=cid:logo> &lt;太郎&gt;"
    assert [part.get_filename() for part in written.iter_attachments()] == ["請求書.pdf"]


RAW = (
    b"From: shop@acme.example\nTo: Taro <taro@far.test>\nBcc: hidden@far.test\nSubject: raw\n"
    b"X-Own: kept\n\n.dot\nGood morning.\n"
)


@pytest.mark.parametrize("is_body", [True, False])
def test_a_raw_mail_is_taken_as_it_is_without_bcc(acme: Program, is_body: bool) -> None:
    if is_body:
        answer = acme.post(URL, RAW, kind="message/rfc822")
    else:
        answer = acme.post(URL, {"raw": base64.b64encode(RAW).decode(), "tags": ["raw"]})

    assert answer.status_code == 202, answer.content
    assert sorted(one.address for one in Recipient.objects.all()) == ["hidden@far.test", "taro@far.test"]
    content = history.content_of(Message.objects.get()) or b""
    assert content.endswith(RAW.replace(b"Bcc: hidden@far.test\n", b"").replace(b"\n", b"\r\n"))


def test_the_envelope_of_a_raw_mail_can_be_given(acme: Program) -> None:
    answer = acme.post(f"{URL}?to=one@far.test&to=two@far.test&from=bounces@acme.example", RAW, kind="message/rfc822")

    assert answer.status_code == 202
    assert sorted(one.address for one in Recipient.objects.all()) == ["one@far.test", "two@far.test"]
    assert Message.objects.get().reverse_path == "bounces@acme.example"


# ---------------------------------------------------------------- refused


BREAKS = ["\r", "\n", "\r\n", "\0", "\x85", "\u2028", "\u2029"]


@pytest.mark.parametrize("breaking", BREAKS)
@pytest.mark.parametrize(
    "put",
    [
        lambda text: {"from": f"{text} <shop@acme.example>"},
        lambda text: {"from": f"shop@acme.example{text}"},
        lambda text: {"to": {"email": "a@far.test", "name": text}},
        lambda text: {"to": [f"a@far.test{text}"]},
        lambda text: {"cc": [f"a{text}@far.test"]},
        lambda text: {"bcc": [f"a@far.test{text}"]},
        lambda text: {"reply_to": f"{text} <a@far.test>"},
        lambda text: {"subject": text},
        lambda text: {"subject": "{{x}}", "variables": {"x": text}},
        lambda text: {"headers": {"X-A": text}},
        lambda text: {"headers": {text: "b"}},
        lambda text: {"attachments": [{"content": "", "filename": text}]},
        lambda text: {"attachments": [{"content": "", "content_type": f"text/plain{text}"}]},
        lambda text: {"attachments": [{"content": "", "content_id": text}]},
        lambda text: {"tags": [text]},
        lambda text: {"metadata": {"a": text}},
        lambda text: {"metadata": {text: "a"}},
        lambda text: {"stream": text},
    ],
)
def test_nothing_can_smuggle_a_line_in(acme: Program, put: Any, breaking: str) -> None:
    answer = acme.post(URL, {**MAIL, **put(f"a{breaking}Bcc: victim@far.test")})

    assert _fields(_problem(answer, 400, "invalid_request"))
    assert Message.objects.count() == 0


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"unknown": 1}, "unknown"),
        ({"tenant": "x"}, "tenant"),
        ({"to": []}, "to"),
        ({"to": [5]}, "to[0]"),
        ({"to": ["a@far.test", "nobody"]}, "to[1]"),
        ({"to": "a@[192.0.2.1]"}, "to"),
        ({"from": None}, "from"),
        ({"text": None, "html": None}, "text"),
        ({"headers": {"From": "x@acme.example"}}, "headers.From"),
        ({"headers": {"x-relay-stream": "bulk"}}, "headers.x-relay-stream"),
        ({"attachments": [{"content": "!"}]}, "attachments[0].content"),
        ({"send_at": "2026-01-01T00:00:00"}, "send_at"),
        ({"send_at": "2099-01-01T00:00:00Z"}, "send_at"),
        ({"lifetime_seconds": 5}, "lifetime_seconds"),
        ({"subject": "{{nobody}}", "variables": {"x": "y"}}, "subject"),
        ({"raw": "RnJvbTogYUBi"}, "subject"),
        ({"tags": ["x" * 101]}, "tags[0]"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"tenant_id": "globex"}, "tenant_id"),
        ({"to": [{"email": "a@far.test", "bcc": "b@far.test"}]}, "to[0].bcc"),
        ({"to": [{"name": "A"}]}, "to[0].email"),
        ({"from": "a <b <shop@acme.example>"}, "from"),
    ],
)
def test_what_is_wrong_is_said_with_its_field(acme: Program, change: dict[str, Any], field: str) -> None:
    answer = acme.post(URL, {**MAIL, **change})

    assert _fields(_problem(answer, 400, "invalid_request")) == [field]
    assert Message.objects.count() == 0


@pytest.mark.parametrize("body", [b"", b"{", b'{"to": ', b"\xff\xfe{}", b'{"from": "\\ud800"}'])
def test_what_is_no_json_is_malformed(acme: Program, body: bytes) -> None:
    _problem(acme.post(URL, body, kind="application/json"), 400, "malformed_request")


def test_other_content_types_are_not_read(acme: Program) -> None:
    _problem(acme.post(URL, b"to=a", kind="application/x-www-form-urlencoded"), 415, "media_type_unsupported")
    chunked = acme.post(URL, MAIL, **{"Transfer-Encoding": "chunked"})
    assert "Content-Length" in _problem(chunked, 411, "length_required")["detail"]
    packed = acme.post(URL, gzip.compress(json.dumps(MAIL).encode()), **{"Content-Encoding": "gzip"})
    assert "Content-Encoding" in _problem(packed, 415, "media_type_unsupported")["detail"]


@pytest.mark.parametrize(
    ("change", "word", "field"),
    [
        ({"from": "x@globex.example"}, "author_not_verified", ["from"]),
        ({"headers": {"Sender": "x@globex.example"}}, "sender_not_verified", ["headers.Sender"]),
        ({"stream": "nobodys"}, "stream_unknown", ["stream"]),
    ],
)
def test_policy_is_the_same_as_over_smtp(acme: Program, change: dict[str, Any], word: str, field: list[str]) -> None:
    document = _problem(acme.post(URL, {**MAIL, **change}), 422, word)

    assert _fields(document) == field
    assert Message.objects.count() == 0
    entry = RejectionEntry.objects.get()
    assert (entry.reason, entry.peer_address) == (word, "127.0.0.1")


def test_limits_answer_as_such(world: World, issue_key: IssueKey, acme: Program, settings: Any) -> None:
    acme_tenant = world.cast.acme
    type(acme_tenant).objects.filter(pk=acme_tenant.pk).update(max_message_bytes=2000, hourly_limit=2)

    _problem(acme.post(URL, {**MAIL, "text": "x" * 3000}), 413, "too_large")
    answer = acme.post(URL, {**MAIL, "to": ["a@far.test", "b@far.test", "c@far.test"]})
    _problem(answer, 429, "quota")
    assert 1 <= int(answer["Retry-After"]) <= 3600
    type(acme_tenant).objects.filter(pk=acme_tenant.pk).update(monthly_limit=2)
    answer = issue_key().post(URL, {**MAIL, "to": ["a@far.test", "b@far.test", "c@far.test"]})
    over_at = datetime.now(tz=UTC) + timedelta(seconds=int(answer["Retry-After"]))
    assert (over_at + timedelta(minutes=5)).day == 1, "the month is used up, not the hour alone"

    type(acme_tenant).objects.filter(pk=acme_tenant.pk).update(state="suspended")
    _problem(issue_key().post(URL, MAIL), 403, "tenant_suspended")
    assert Message.objects.count() == 0


def test_a_body_that_is_too_large_is_not_read(acme: Program, settings: Any) -> None:
    settings.MAX_MESSAGE_BYTES = 1024

    _problem(acme.post(URL, {**MAIL, "text": "x" * 1_100_000}), 413, "too_large")


# ---------------------------------------------------------------- once


def test_a_retry_is_answered_with_what_the_first_became(acme: Program) -> None:
    first = acme.post(URL, MAIL, **{"Idempotency-Key": "order-1"})
    again = acme.post(URL, MAIL, **{"Idempotency-Key": "order-1"})

    assert (first.status_code, again.status_code) == (202, 202)
    assert first.content == again.content
    assert "Idempotent-Replayed" not in first
    assert again["Idempotent-Replayed"] == "true"
    assert Message.objects.count() == 1


def test_a_key_used_for_another_request_is_a_conflict(acme: Program, globex: Program) -> None:
    acme.post(URL, MAIL, **{"Idempotency-Key": "order-1"})

    _problem(acme.post(URL, {**MAIL, "subject": "x"}, **{"Idempotency-Key": "order-1"}), 409, "idempotency_key_reused")
    theirs = globex.post(URL, {**MAIL, "from": "info@globex.example"}, **{"Idempotency-Key": "order-1"})
    assert theirs.status_code == 202
    assert Message.objects.count() == 2


def test_of_the_same_request_at_the_same_moment_one_is_accepted(acme: Program) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: acme.post(URL, MAIL, **{"Idempotency-Key": "k"}), range(8)))

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    assert Message.objects.count() == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "é"])
def test_a_malformed_key_is_refused(acme: Program, key: str) -> None:
    _problem(acme.post(URL, MAIL, **{"Idempotency-Key": key}), 400, "idempotency_key_malformed")


# ---------------------------------------------------------------- batches


def test_each_mail_of_a_batch_has_its_own_result(acme: Program) -> None:
    batch = {
        "defaults": {"from": "shop@acme.example", "subject": "Hi {{name}}", "text": "Hello {{name}}"},
        "messages": [
            {"to": "taro@far.test", "variables": {"name": "太郎"}},
            {"to": "nobody"},
            {"to": "a@far.test", "from": "x@globex.example"},
            5,
            {"to": "hanako@far.test", "variables": {"name": "花子"}},
        ],
    }

    answer = acme.post(f"{URL}/batch", batch)

    assert answer.status_code == 207, answer.content
    results = answer.json()["results"]
    assert [one["status"] for one in results] == ["accepted", "refused", "refused", "refused", "accepted"]
    assert [one["problem"]["type"].rpartition(":")[2] for one in results[1:4]] == [
        "invalid_request", "author_not_verified", "invalid_request",
    ]  # fmt: skip
    assert sorted(message.subject for message in Message.objects.all()) == ["Hi 太郎", "Hi 花子"]
    assert {UUID(results[0]["id"]), UUID(results[4]["id"])} == {message.id for message in Message.objects.all()}


def test_a_batch_with_a_key_goes_on_where_it_was_cut_off(acme: Program, world: World) -> None:
    batch = {"messages": [{**MAIL, "to": f"r{number}@far.test"} for number in range(20)]}
    first = acme.post(f"{URL}/batch", batch, **{"Idempotency-Key": "b"})
    # As a kill between two commits would have left it.
    lost = first.json()["results"][7]["id"]
    from delivery.models import IdempotencyKey

    IdempotencyKey.objects.of(world.cast.acme).filter(message_id=lost).delete()
    Message.objects.filter(id=lost).delete()

    again = acme.post(f"{URL}/batch", batch, **{"Idempotency-Key": "b"})

    assert (first.status_code, again.status_code) == (202, 202)
    before, after = first.json()["results"], again.json()["results"]
    assert [one == other for one, other in zip(before, after, strict=True)].count(False) == 1
    assert Message.objects.count() == 20
    thrice = acme.post(f"{URL}/batch", batch, **{"Idempotency-Key": "b"})
    assert [answer.get("Idempotent-Replayed") for answer in (first, again, thrice)] == [None, None, "true"]


@pytest.mark.parametrize("messages", [[], [MAIL] * 501, None, {}])
def test_a_batch_has_between_one_and_500_mails(acme: Program, messages: Any) -> None:
    _problem(acme.post(f"{URL}/batch", {"messages": messages}), 400, "invalid_request")


# ---------------------------------------------------------------- keys


def test_without_a_valid_key_nothing_is_done(acme: Program, stranger: Program) -> None:
    for key in ("", "nonsense", acme.key[:-1] + "!", acme.key + "x"):
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        answer = stranger.post(URL, MAIL, **headers)
        _problem(answer, 401, "authentication_required")
        assert answer["WWW-Authenticate"].startswith("Bearer")


def test_a_key_does_what_its_scopes_say(issue_key: IssueKey) -> None:
    _problem(issue_key(scopes=["read", "manage"]).post(URL, MAIL), 403, "scope_missing")
    assert issue_key(scopes=["send"]).post(URL, MAIL).status_code == 202


def test_a_key_limited_to_a_domain_or_network(issue_key: IssueKey) -> None:
    limited = issue_key(only_domain="news.acme.example")
    _problem(limited.post(URL, MAIL), 422, "author_outside_credential")
    assert limited.post(URL, {**MAIL, "from": "a@news.acme.example"}).status_code == 202
    _problem(issue_key(only_networks=["192.0.2.0/24"]).post(URL, MAIL), 401, "authentication_required")
    assert issue_key(only_networks=["127.0.0.0/8"]).post(URL, MAIL).status_code == 202


def test_a_test_keys_mail_never_leaves(issue_key: IssueKey) -> None:
    assert issue_key(is_test=True).post(URL, MAIL).status_code == 202

    assert (Recipient.objects.get().state, QueueEntry.objects.count()) == ("suppressed", 0)


def test_requests_are_limited_and_the_limit_is_told(acme: Program, settings: Any) -> None:
    settings.API_REQUESTS_PER_MINUTE = 2

    answers = [acme.post(URL, MAIL) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert [answer["RateLimit-Remaining"] for answer in answers] == ["1", "0", "0"]
    _problem(answers[2], 429, "too_many_requests")
    assert 1 <= int(answers[2]["Retry-After"]) <= 60


def test_an_unknown_address_is_a_problem_and_never_redirects(stranger: Program) -> None:
    for path in ("/api/v1/nothing", "/api/v1/messages/", "/api/v2/messages", "/api/"):
        _problem(stranger.post(path, MAIL), 404, "not_found")


def test_over_an_unsafe_database_nothing_is_promised(acme: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    from delivery.acceptance import store

    async def unsafe(_connection: Any) -> store.Durability:
        return store.Durability(fsync="off", synchronous_commit="on", full_page_writes="on")

    monkeypatch.setattr(store, "read_durability", unsafe)

    answer = acme.post(URL, MAIL)

    _problem(answer, 503, "temporarily_unavailable")
    assert answer["Retry-After"] == "10"
    assert Message.objects.count() == 0


def test_subjects_are_shown_as_written(acme: Program) -> None:
    acme.post(URL, {**MAIL, "subject": "長い件名" * 60})

    message = Message.objects.get()
    assert message.subject == "長い件名" * 60
