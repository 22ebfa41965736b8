"""Applications made for Postal change the URL and the key: django-anymail's backend, and the JSON its other clients send."""

from __future__ import annotations

import base64
import json
from email import message_from_bytes, policy
from typing import Any
from urllib.parse import urlencode

import pytest
from anymail.backends.postal import EmailBackend
from anymail.exceptions import AnymailRequestsAPIError
from anymail.message import AnymailMessage
from django.core.mail import EmailMultiAlternatives

from accounts.models import Tenant
from delivery import history
from delivery.models import Message, Recipient, Stream
from tests.integration.api.conftest import IssueKey, Program
from tests.support.engine_room import World

MESSAGE, RAW = "/api/v1/send/message", "/api/v1/send/raw"
MAIL = {
    "from": "アクメ <shop@acme.example>",
    "to": ["taro@far.test"],
    "cc": [],
    "bcc": [],
    "subject": "ご注文",
    "plain_body": "ありがとう",
}


def post(program: Program, path: str, body: Any, **headers: str) -> Any:
    return Program("", program.client).post(path, body, **{"X-Server-API-Key": program.key, **headers})


def refusal(answer: Any) -> tuple[int, str, str | None]:
    document = answer.json()
    assert set(document) == {"status", "time", "flags", "data"}, document
    assert document["data"]["message"]
    return answer.status_code, document["status"], document["data"].get("code")


def content(message: Message) -> Any:
    found = history.content_of(message)
    assert found is not None
    return message_from_bytes(found, policy=policy.default)


# ---------------------------------------------------------------- django-anymail


@pytest.fixture
def backend(live_server: Any, acme: Program) -> EmailBackend:
    return EmailBackend(api_key=acme.key, api_url=live_server.url)


def test_anymail_sends_everything_its_backend_can(backend: EmailBackend) -> None:
    mail = AnymailMessage(
        "ご注文の確認",
        "ありがとうございます。",
        "髙橋商店 <shop@acme.example>",
        ["髙橋 太郎 <taro@far.test>", '"Doe, Jo" <Jo@FAR.test>', "taro@far.test"],
        cc=["hanako@日本.test"],
        bcc=["hidden@far.test"],
        reply_to=["問い合わせ <help@globex.example>"],
        headers={"X-Order": "1234", "X-Relay-Stream": "bulk", "X-Relay-Metadata": '{"order": "注文1234"}'},
        connection=backend,
    )
    mail.attach_alternative("<p>ありがとうございます。</p>", "text/html")
    mail.attach("請求書.pdf", b"%PDF" * 50_000, "application/pdf")
    mail.attach("メモ.txt", "一行目\n", "text/plain")
    mail.tags = ["注文"]
    mail.envelope_sender = "bounces@acme.example"

    assert mail.send() == 1

    ids = {row.address: str(row.id) for row in Recipient.objects.all()}
    status = mail.anymail_status
    assert status.status == {"queued"}
    assert {address: one.message_id for address, one in status.recipients.items()} == {
        "taro@far.test": ids["taro@far.test"],
        "Jo@FAR.test": ids["Jo@far.test"],
        "hanako@xn--wgv71a.test": ids["hanako@xn--wgv71a.test"],
        "hidden@far.test": ids["hidden@far.test"],
    }
    message = Message.objects.get()
    assert (message.tags, message.metadata, message.stream.name) == (["注文"], {"order": "注文1234"}, "bulk")
    assert message.reverse_path == "bounces@acme.example"
    written = content(message)
    assert status.esp_response.json()["data"]["message_id"] == written["Message-ID"].strip("<>")
    assert str(written["From"]) == "髙橋商店 <shop@acme.example>"
    assert [str(one) for one in written["To"].addresses] == [
        "髙橋 太郎 <taro@far.test>", '"Doe, Jo" <Jo@far.test>', "taro@far.test",
    ]  # fmt: skip
    assert (written["Reply-To"], written["X-Order"]) == ("問い合わせ <help@globex.example>", "1234")
    assert written["Sender"] == "bounces@acme.example"
    assert "hidden" not in written.as_string() and "X-Relay" not in written.as_string()
    assert written.get_body(("plain",)).get_content().strip() == "ありがとうございます。"
    assert [(part.get_filename(), len(part.get_content())) for part in written.iter_attachments()] == [
        ("請求書.pdf", 200_000), ("メモ.txt", 4),
    ]  # fmt: skip


def test_a_plain_django_mail_goes_through_anymail(backend: EmailBackend) -> None:
    mail = EmailMultiAlternatives("題", "", "shop@acme.example", ["taro@far.test"], connection=backend)
    mail.attach_alternative("<b>こんにちは</b>", "text/html")

    assert mail.send() == 1

    assert content(Message.objects.get()).get_content_type() == "text/html"


def test_anymail_shows_why_a_mail_was_refused(backend: EmailBackend, live_server: Any) -> None:
    mail = AnymailMessage("x", "x", "ceo@globex.example", ["taro@far.test"], connection=backend)
    with pytest.raises(AnymailRequestsAPIError, match="UnauthenticatedFromAddress"):
        mail.send()

    mail = AnymailMessage("x", "x", "shop@acme.example", ["taro@far.test"])
    with pytest.raises(AnymailRequestsAPIError, match="InvalidServerAPIKey"):
        EmailBackend(api_key="acme.xxxx.wrong", api_url=live_server.url).send_messages([mail])

    assert not Message.objects.exists()


def test_anymail_hears_of_fields_that_are_not_known(backend: EmailBackend) -> None:
    mail = AnymailMessage("x", "x", "shop@acme.example", ["taro@far.test"], connection=backend)
    mail.esp_extra = {"skip_tracking": True}

    with pytest.raises(AnymailRequestsAPIError, match="skip_tracking"):
        mail.send()


# ---------------------------------------------------------------- other clients of Postal


def test_the_answer_has_the_shape_of_postals(acme: Program) -> None:
    answer = post(acme, MESSAGE, {**MAIL, "to": "Taro <taro@far.test>, hanako@far.test", "bcc": None})

    assert answer.status_code == 200
    document = answer.json()
    assert (document["status"], document["flags"]) == ("success", {})
    assert document["time"] >= 0
    message = Message.objects.get()
    assert f"<{document['data']['message_id']}>" == message.header_message_id
    assert set(document["data"]["messages"]) == {"taro@far.test", "hanako@far.test"}
    assert {one["id"] for one in document["data"]["messages"].values()} == {
        str(row.id) for row in Recipient.objects.all()
    }
    assert all(one["token"] for one in document["data"]["messages"].values())


def test_a_raw_mail_goes_out_as_it_is(acme: Program) -> None:
    raw = b"From: shop@acme.example\r\nSubject: raw\r\nX-Own: kept\r\nX-Relay-Tags: a\r\n\r\n.dot\r\n"
    body = {
        "mail_from": "bounces@acme.example",
        "rcpt_to": ["taro@far.test", "Taro@far.test", "taro@far.test"],
        "data": base64.b64encode(raw).decode(),
    }

    answer = post(acme, RAW, body)

    assert set(answer.json()["data"]["messages"]) == {"taro@far.test", "Taro@far.test"}
    message = Message.objects.get()
    assert (message.reverse_path, message.tags) == ("bounces@acme.example", ["a"])
    assert (history.content_of(message) or b"").endswith(b"Subject: raw\r\nX-Own: kept\r\n\r\n.dot\r\n")


def test_an_old_client_posts_a_form(acme: Program) -> None:
    form = urlencode({"params": json.dumps(MAIL)}).encode()

    answer = Program("", acme.client).call(
        "POST", MESSAGE, form, kind="application/x-www-form-urlencoded", **{"x-server-api-key": acme.key}
    )

    assert answer.json()["status"] == "success", answer.content


def test_a_retry_under_the_same_key_is_sent_once(acme: Program) -> None:
    first = post(acme, MESSAGE, MAIL, **{"Idempotency-Key": "1"})
    second = post(acme, MESSAGE, MAIL, **{"Idempotency-Key": "1"})
    other = post(acme, MESSAGE, {**MAIL, "subject": "x"}, **{"Idempotency-Key": "1"})

    assert first.json()["data"] == second.json()["data"]
    assert second["Idempotent-Replayed"] == "true"
    assert refusal(other) == (200, "error", "IdempotencyKeyReused")
    assert Message.objects.count() == 1


FILE = {"name": "a.txt", "data": "YQ==", "content_type": "text/plain"}


REFUSED: list[tuple[dict[str, Any], str, str | None]] = [
    ({"to": []}, "error", "NoRecipients"),
    ({"plain_body": ""}, "error", "NoContent"),
    ({"to": [f"r{n}@far.test" for n in range(51)]}, "error", "TooManyToAddresses"),
    ({"cc": [f"r{n}@far.test" for n in range(51)]}, "error", "TooManyCCAddresses"),
    ({"bcc": ",".join(f"r{n}@far.test" for n in range(51))}, "error", "TooManyBCCAddresses"),
    ({"from": None}, "error", "FromAddressMissing"),
    ({"from": "ceo@globex.example"}, "error", "UnauthenticatedFromAddress"),
    ({"sender": "ceo@globex.example"}, "error", "UnauthenticatedFromAddress"),
    ({"attachments": [{**FILE, "name": ""}]}, "error", "AttachmentMissingName"),
    ({"attachments": [{**FILE, "data": None}]}, "error", "AttachmentMissingData"),
    ({"headers": {"X-Relay-Stream": "nobody's"}}, "error", "StreamUnknown"),
    ({"headers": {"X-Relay-TLS": "maybe"}}, "error", "ControlRefused"),
    ({"attachments": [{**FILE, "data": "!"}]}, "parameter-error", None),
    ({"bounce": True}, "parameter-error", None),
    ({"to": ["nobody"]}, "parameter-error", None),
    ({"subject": "a\r\nBcc: victim@far.test"}, "parameter-error", None),
    ({"headers": {"Content-Type": "text/html"}}, "parameter-error", None),
    ({"tag": "x" * 101}, "parameter-error", None),
    ({"unknown": 1}, "parameter-error", None),
]


def test_a_refusal_is_a_200_with_a_code(acme: Program) -> None:
    said = [(changes, *refusal(post(acme, MESSAGE, {**MAIL, **changes}))) for changes, _, _ in REFUSED]

    assert said == [(changes, 200, status, code) for changes, status, code in REFUSED]
    assert not Message.objects.exists()


def test_a_raw_mail_needs_all_three(acme: Program) -> None:
    body = {"mail_from": "shop@acme.example", "rcpt_to": ["taro@far.test"], "data": "YQ=="}

    for missing in body:
        answer = post(acme, RAW, {**body, missing: None})

        assert refusal(answer) == (200, "parameter-error", None)
        assert answer.json()["data"]["message"] == f"`{missing}` parameter is required but is missing"


def test_keys(acme: Program, issue_key: IssueKey, world: World) -> None:
    reader = issue_key(scopes=["read"])

    assert refusal(Program("", acme.client).post(MESSAGE, MAIL)) == (200, "error", "AccessDenied")
    assert refusal(post(Program("acme.x.y", acme.client), MESSAGE, MAIL)) == (200, "error", "InvalidServerAPIKey")
    assert refusal(post(reader, MESSAGE, MAIL)) == (200, "error", "ScopeMissing")
    Tenant.objects.filter(pk=world.cast.acme.pk).update(state="suspended")
    assert refusal(post(issue_key(), MESSAGE, MAIL)) == (200, "error", "ServerSuspended")
    assert not Message.objects.exists()


def test_what_may_work_later_says_so_in_its_status_as_well(acme: Program, issue_key: IssueKey) -> None:
    limited = issue_key(daily_limit=1)
    post(limited, MESSAGE, MAIL)

    answer = post(limited, MESSAGE, MAIL)

    assert refusal(answer) == (429, "error", "Quota")
    assert int(answer["Retry-After"]) > 0
    assert refusal(acme.get(MESSAGE))[0] in {200, 405}


def test_a_body_that_is_none(acme: Program) -> None:
    assert refusal(post(acme, MESSAGE, b"{")) == (200, "parameter-error", None)
    assert refusal(post(acme, MESSAGE, b"")) == (200, "parameter-error", None)
    assert refusal(post(acme, MESSAGE, b"[" * 100_000)) == (200, "parameter-error", None)


def test_anothers_domain_stream_and_pool_are_not_there(acme: Program, globex: Program, world: World) -> None:
    Stream.objects.create(tenant=world.cast.globex, name="own", kind="bulk")

    foreign = post(acme, MESSAGE, {**MAIL, "headers": {"X-Relay-Stream": "own"}})
    unknown = post(acme, MESSAGE, {**MAIL, "headers": {"X-Relay-Stream": "none"}})

    assert refusal(foreign) == refusal(unknown) == (200, "error", "StreamUnknown")
    assert refusal(post(globex, MESSAGE, MAIL))[2] == "UnauthenticatedFromAddress"
