"""Applications made for SendGrid change the URL and the key: its own package, django-anymail, and the JSON they send."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from typing import Any

import pytest
from anymail.backends.sendgrid import EmailBackend
from anymail.exceptions import AnymailRequestsAPIError
from anymail.message import AnymailMessage, attach_inline_image
from python_http_client import exceptions
from sendgrid import SendGridAPIClient
from sendgrid.helpers import mail as sg

from accounts.models import QuotaBucket
from delivery import history
from delivery.models import Message, QueueEntry, Recipient, SourcePool, Stream
from tests.integration.api.conftest import IssueKey, Program
from tests.support.engine_room import World

URL = "/v3/mail/send"
MAIL: dict[str, Any] = {
    "personalizations": [{"to": [{"email": "taro@far.test"}]}],
    "from": {"email": "shop@acme.example", "name": "アクメ"},
    "subject": "ご注文",
    "content": [{"type": "text/plain", "value": "ありがとう"}],
}


def refusal(answer: Any) -> tuple[int, str | None]:
    """Status and the first field."""
    document = answer.json()
    for error in document["errors"]:
        assert set(error) == {"message", "field", "help"} and error["message"], document
    return answer.status_code, document["errors"][0]["field"]


def content(message: Message) -> Any:
    found = history.content_of(message)
    assert found is not None
    return message_from_bytes(found, policy=policy.default)


# ---------------------------------------------------------------- the sendgrid package


@pytest.fixture
def client(live_server: Any, acme: Program) -> SendGridAPIClient:
    return SendGridAPIClient(acme.key, host=live_server.url)


def _mail(**changes: Any) -> sg.Mail:
    given: dict[str, Any] = {
        "from_email": sg.From("shop@acme.example", "アクメ"),
        "to_emails": ["taro@far.test"],
        "subject": "ご注文",
        "plain_text_content": "ありがとう",
    }
    return sg.Mail(**{**given, **changes})


def test_the_package_sends_everything_a_mail_can_have(client: SendGridAPIClient, world: World) -> None:
    SourcePool.objects.create(name="acme-own", kind="dedicated", tenant=world.cast.acme)
    later = int(time.time()) + 3600
    mail = _mail(
        to_emails=[sg.To("taro@far.test", "髙橋 太郎"), sg.To("hanako@far.test")],
        html_content='<p>-name-</p><img src="cid:logo">',
    )
    mail.add_cc(sg.Cc("cc@far.test"))
    mail.add_bcc(sg.Bcc("hidden@far.test"))
    mail.reply_to = sg.ReplyTo("help@globex.example", "問い合わせ")
    mail.add_header(sg.Header("X-Order", "1234"))
    mail.add_header(sg.Header("X-Relay-TLS", "required"))
    mail.add_substitution(sg.Substitution("-name-", "太郎さん"))
    mail.add_custom_arg(sg.CustomArg("order", "1234"))
    mail.add_category(sg.Category("注文"))
    mail.send_at = sg.SendAt(later)
    mail.ip_pool_name = sg.IpPoolName("acme-own")
    mail.add_attachment(
        sg.Attachment(
            sg.FileContent(base64.b64encode(b"%PDF" * 50_000).decode()),
            sg.FileName("請求書.pdf"),
            sg.FileType("application/pdf"),
            sg.Disposition("attachment"),
            sg.ContentId("Example Content ID"),
        )
    )
    mail.add_attachment(
        sg.Attachment(
            sg.FileContent(base64.b64encode(b"png").decode()),
            sg.FileName("logo.png"),
            sg.FileType("image/png"),
            sg.Disposition("inline"),
            sg.ContentId("logo"),
        )
    )
    mail.tracking_settings = sg.TrackingSettings(sg.ClickTracking(False, False), sg.OpenTracking(False))

    response = client.send(mail)

    assert (response.status_code, response.body) == (202, b"")
    message = Message.objects.get()
    assert response.headers["X-Message-Id"] == str(message.id)
    assert (message.tags, message.metadata, message.tls) == (["注文"], {"order": "1234"}, "required")
    assert {entry.next_attempt_at for entry in QueueEntry.objects.all()} == {datetime.fromtimestamp(later, tz=UTC)}
    assert {row.address for row in Recipient.objects.all()} == {
        "taro@far.test", "hanako@far.test", "cc@far.test", "hidden@far.test",
    }  # fmt: skip
    written = content(message)
    assert str(written["From"]) == "アクメ <shop@acme.example>"
    assert str(written["To"]) == "髙橋 太郎 <taro@far.test>, hanako@far.test"
    assert (written["Reply-To"], written["X-Order"]) == ("問い合わせ <help@globex.example>", "1234")
    assert "hidden" not in written.as_string() and "X-Relay" not in written.as_string()
    assert "<p>太郎さん</p>" in written.get_body(("html",)).get_content()
    parts = {part.get_filename(): part for part in written.walk() if part.get_filename()}
    assert parts["logo.png"]["Content-ID"] == "<logo>"
    assert parts["請求書.pdf"].get_content_disposition() == "attachment"
    assert len(parts["請求書.pdf"].get_content()) == 200_000


def test_every_personalization_is_a_mail_of_its_own(client: SendGridAPIClient) -> None:
    mail = _mail(
        to_emails=[
            sg.To("taro@far.test", "太郎", substitutions={"-name-": "太郎", "-name-s": "太郎の"}),
            sg.To(
                "hanako@far.test", "花子", substitutions={"-name-": "-name-s", "-name-s": "花子の"}, subject="花子へ"
            ),
        ],
        subject="-name-へ",
        plain_text_content="-name-s注文、-name-様",
        is_multiple=True,
    )

    assert client.send(mail).status_code == 202

    written = {str(one["To"]): one for one in map(content, Message.objects.all())}
    assert {to: (one["Subject"], one.get_content().strip()) for to, one in written.items()} == {
        "太郎 <taro@far.test>": ("太郎へ", "太郎の注文、太郎様"),
        "花子 <hanako@far.test>": ("花子へ", "花子の注文、-name-s様"),
    }


def test_the_package_raises_with_errors_that_applications_read(client: SendGridAPIClient, live_server: Any) -> None:
    with pytest.raises(exceptions.ForbiddenError) as forbidden:
        client.send(_mail(from_email="ceo@globex.example"))
    with pytest.raises(exceptions.BadRequestsError) as bad:
        client.send(_mail(to_emails=["nobody@localhost"]))
    with pytest.raises(exceptions.UnauthorizedError) as unauthorized:
        SendGridAPIClient("SG.wrong", host=live_server.url).send(_mail())
    with pytest.raises(exceptions.NotFoundError) as missing:
        client.client.templates.get()

    assert [error["field"] for error in forbidden.value.to_dict["errors"]] == ["from"]
    assert [error["field"] for error in bad.value.to_dict["errors"]] == ["personalizations.0.to.0.email"]
    assert unauthorized.value.to_dict["errors"][0]["message"] == (
        "The provided authorization grant is invalid, expired, or revoked"
    )
    assert missing.value.to_dict["errors"]
    assert not Message.objects.exists()


def test_a_base_that_ends_in_a_slash(live_server: Any, acme: Program) -> None:
    assert SendGridAPIClient(acme.key, host=live_server.url + "/").send(_mail()).status_code == 202


def test_sandbox_mode_checks_and_sends_nothing(client: SendGridAPIClient) -> None:
    mail = _mail()
    mail.mail_settings = sg.MailSettings(sandbox_mode=sg.SandBoxMode(True))
    foreign = _mail(from_email="ceo@globex.example")
    foreign.mail_settings = sg.MailSettings(sandbox_mode=sg.SandBoxMode(True))

    response = client.send(mail)
    with pytest.raises(exceptions.ForbiddenError):
        client.send(foreign)

    assert (response.status_code, response.body) == (200, b"")
    assert not Message.objects.exists()


# ---------------------------------------------------------------- django-anymail


@pytest.fixture
def backend(live_server: Any, acme: Program) -> EmailBackend:
    return EmailBackend(api_key=acme.key, api_url=f"{live_server.url}/v3/")


def test_anymail_sends_everything_its_backend_can(backend: EmailBackend) -> None:
    later = datetime.now(tz=UTC).replace(microsecond=0) + timedelta(hours=1)
    mail = AnymailMessage(
        "ご注文の確認",
        "ありがとうございます。",
        "髙橋商店 <shop@acme.example>",
        ["髙橋 太郎 <taro@far.test>"],
        cc=["cc@far.test"],
        bcc=["hidden@far.test"],
        reply_to=["help@globex.example", "shop@acme.example"],
        headers={"X-Order": "1234", "Message-ID": "<own@acme.example>"},
        connection=backend,
    )
    cid = attach_inline_image(mail, b"png", filename="logo.png", subtype="png")
    mail.attach_alternative(f'<img src="cid:{cid}">', "text/html")
    mail.attach("請求書.pdf", b"%PDF", "application/pdf")
    mail.tags, mail.metadata, mail.send_at = ["注文", "ja"], {"order": 1234}, later
    mail.track_clicks = mail.track_opens = False

    assert mail.send() == 1

    assert mail.anymail_status.status == {"queued"}
    message = Message.objects.get()
    assert message.tags == ["注文", "ja"]
    anymail_id = mail.anymail_status.message_id
    assert message.metadata == {"order": "1234", "anymail_id": anymail_id}
    assert message.header_message_id == "<own@acme.example>"
    assert {entry.next_attempt_at for entry in QueueEntry.objects.all()} == {later}
    written = content(message)
    assert str(written["Reply-To"]) == "help@globex.example, shop@acme.example"
    assert {part["Content-ID"] for part in written.walk() if part["Content-ID"]} == {f"<{cid}>"}


def test_anymail_merges(backend: EmailBackend) -> None:
    mail = AnymailMessage(
        "{name}へ", "{name}さん、{order}", "shop@acme.example", ["taro@far.test", "Hanako <hanako@far.test>"],
        connection=backend,
    )  # fmt: skip
    mail.merge_data = {"taro@far.test": {"name": "太郎"}, "hanako@far.test": {"name": "花子"}}
    mail.merge_global_data = {"order": "1234"}
    mail.merge_metadata = {"taro@far.test": {"n": "1"}, "hanako@far.test": {"n": "2"}}
    mail.esp_extra = {"merge_field_format": "{{{}}}"}

    assert mail.send() == 1

    written = {one.metadata["n"]: (one.subject, content(one).get_content().strip()) for one in Message.objects.all()}
    assert written == {"1": ("太郎へ", "太郎さん、1234"), "2": ("花子へ", "花子さん、1234")}


def test_anymail_shows_why_a_mail_was_refused(backend: EmailBackend) -> None:
    mail = AnymailMessage("x", "x", "shop@acme.example", ["taro@far.test"], connection=backend)
    mail.track_clicks = True

    with pytest.raises(AnymailRequestsAPIError, match=r"tracking_settings\.click_tracking\.enable"):
        mail.send()

    assert not Message.objects.exists()


# ---------------------------------------------------------------- the JSON itself

TO = [{"email": "taro@far.test"}]
FILE = {"content": "YQ==", "filename": "a.txt"}


REFUSED: list[tuple[dict[str, Any], str | None]] = [
    ({"personalizations": []}, "personalizations"),
    ({"personalizations": [{"to": [{"email": f"r{n}@far.test"} for n in range(501)]}] * 2}, "personalizations"),
    ({"personalizations": [{"cc": TO}]}, "personalizations.0.to"),
    ({"personalizations": [{"to": TO, "cc": [{"email": "TARO@far.test"}]}]}, "personalizations.0.cc.0.email"),
    ({"personalizations": [{"to": TO}, {"to": [{"email": "x"}]}]}, "personalizations.1.to.0.email"),
    ({"personalizations": [{"to": TO, "dynamic_template_data": {"a": 1}}]}, "personalizations.0.dynamic_template_data"),
    ({"personalizations": [{"to": TO, "substitutions": {"a": "x" * 10_000}}]}, "personalizations.0.substitutions"),
    ({"personalizations": [{"to": TO, "unknown": 1}]}, "personalizations.0.unknown"),
    ({"from": {"name": "x"}}, "from.email"),
    ({"from": {"email": "shop"}}, "from.email"),
    ({"subject": ""}, "subject"),
    ({"subject": "a\nBcc: victim@far.test"}, "subject"),
    ({"content": []}, "content"),
    ({"content": [{"type": "text/calendar", "value": "x"}]}, "content.0.type"),
    ({"content": [{"type": "text/html", "value": ""}]}, "content.0.value"),
    ({"content": [{"type": "text/html", "value": "x"}] * 2}, "content.1.type"),
    ({"reply_to": TO[0], "reply_to_list": TO}, "reply_to_list"),
    ({"attachments": [{**FILE, "content": "!"}]}, "attachments.0.content"),
    ({"attachments": [{**FILE, "content": ""}]}, "attachments.0.content"),
    ({"attachments": [{"content": "YQ=="}]}, "attachments.0.filename"),
    ({"attachments": [{**FILE, "disposition": "x"}]}, "attachments.0.disposition"),
    ({"headers": {"Subject": "x"}}, "headers.Subject"),
    ({"headers": {"X-A": 1}}, "headers"),
    ({"categories": ["a"] * 2}, "categories"),
    ({"categories": [str(n) for n in range(11)]}, "categories"),
    ({"custom_args": {"a": {}}}, "custom_args"),
    ({"send_at": int(time.time()) + 80 * 3600}, "send_at"),
    ({"send_at": 1 << 60}, "send_at"),
    ({"ip_pool_name": "nobody's"}, "ip_pool_name"),
    ({"template_id": "d-1"}, "template_id"),
    ({"sections": {"a": "b"}}, "sections"),
    ({"batch_id": "x"}, "batch_id"),
    ({"asm": {"group_id": 1}}, "asm"),
    ({"mail_settings": {"footer": {"enable": True, "text": "x"}}}, "mail_settings.footer.enable"),
    ({"tracking_settings": {"ganalytics": {"enable": True}}}, "tracking_settings.ganalytics.enable"),
    ({"unknown": 1}, "unknown"),
]  # fmt: skip


def test_a_refusal_names_the_field(acme: Program) -> None:
    said = [(changes, *refusal(acme.post(URL, {**MAIL, **changes}))) for changes, _ in REFUSED]

    assert said == [(changes, 400, field) for changes, field in REFUSED]
    assert not Message.objects.exists()


def test_settings_that_are_off_are_no_matter(acme: Program) -> None:
    off = {"click_tracking": {"enable": False, "enable_text": False}, "subscription_tracking": {"enable": False}}

    assert acme.post(URL, {**MAIL, "tracking_settings": off, "send_at": 0}).status_code == 202


def test_one_wrong_personalization_keeps_all_back(acme: Program, issue_key: IssueKey) -> None:
    foreign = {"to": [{"email": "b@far.test"}], "from": {"email": "ceo@globex.example"}}

    assert refusal(acme.post(URL, {**MAIL, "personalizations": [{"to": TO}, foreign]})) == (403, "from")
    assert not Message.objects.exists()


def test_a_limit_in_the_middle_says_which_were_accepted_and_a_retry_completes_it(
    issue_key: IssueKey, world: World
) -> None:
    limited = issue_key(daily_limit=2)
    body = {**MAIL, "personalizations": [{"to": [{"email": f"r{n}@far.test"}]} for n in range(3)]}

    answer = limited.post(URL, body, **{"Idempotency-Key": "1"})

    assert answer.status_code == 429
    assert int(answer["Retry-After"]) > 0
    first, second = answer.json()["errors"]
    assert first["message"].startswith("2 of 3 personalizations were accepted")
    sent = set(Recipient.objects.values_list("address", flat=True))
    assert len(sent) == 2
    missing = int(second["field"].rpartition(".")[2])
    assert {f"r{n}@far.test" for n in range(3) if n != missing} == sent
    QuotaBucket.objects.all().delete()

    answer = limited.post(URL, body, **{"Idempotency-Key": "1"})
    assert answer.status_code == 202, answer.content
    assert Recipient.objects.count() == 3


def test_many_copies_of_large_files_are_refused(acme: Program, settings: Any) -> None:
    settings.MAX_MESSAGE_BYTES = 100_000
    large = {"content": base64.b64encode(bytes(30_000)).decode(), "filename": "a"}
    body = {**MAIL, "attachments": [large], "personalizations": [{"to": TO} for _ in range(20)]}

    assert acme.post(URL, body).status_code == 413
    assert not Message.objects.exists()


def test_keys_and_other_addresses_are_answered_in_the_same_shape(acme: Program, stranger: Program) -> None:
    for answer, status in (
        (stranger.post(URL, MAIL), 401),
        (acme.get(URL), 405),
        (acme.post(URL, MAIL, kind="text/plain"), 415),
        (acme.post("/v3/templates", {}), 404),
        (acme.post(URL, b"{"), 400),
    ):
        assert refusal(answer)[0] == status, answer.content


def test_anothers_stream_is_not_there(acme: Program, globex: Program, world: World) -> None:
    Stream.objects.create(tenant=world.cast.globex, name="own", kind="bulk")

    foreign = acme.post(URL, {**MAIL, "headers": {"X-Relay-Stream": "own"}})
    unknown = acme.post(URL, {**MAIL, "headers": {"X-Relay-Stream": "none"}})

    assert refusal(foreign) == refusal(unknown) == (400, "stream")
    assert refusal(globex.post(URL, MAIL)) == (403, "from")
    assert not Message.objects.exists()


def test_what_is_wrong_with_a_control_field_is_said(acme: Program) -> None:
    answer = acme.post(URL, {**MAIL, "headers": {"X-Relay-Lifetime-Seconds": "soon"}})

    assert answer.status_code == 400
    assert json.loads(answer.content)["errors"][0]["message"] == "X-Relay-Lifetime-Seconds: not a number of seconds"
