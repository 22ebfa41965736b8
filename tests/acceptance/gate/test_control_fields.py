"""X-Relay-* header fields: an SMTP client says what the API's members say, is understood strictly, and none leaves."""

from __future__ import annotations

import json
import smtplib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from accounts.credentials import Issued
from delivery.models import Lane, Message, QueueEntry, RejectionEntry, SourcePool, Stream
from tests.support.gate import LETTER, RunningGate, message_of, stored_content
from tests.support.journeys import Cast
from tests.support.wire import Said, Wire


def letter(*fields: str | bytes) -> bytes:
    """The letter with these fields among its own: between the first and the others."""
    first, rest = LETTER.split(b"\r\n", 1)
    written = (field if isinstance(field, bytes) else field.encode() for field in fields)
    return b"\r\n".join([first, *written, rest])


def send(wire: Wire, content: bytes) -> Said:
    wire.envelope(b"alice@acme.example", b"bob@example.com")
    return wire.content(content)


def test_every_control_is_honoured_and_none_is_kept_in_the_mail(gate: RunningGate, login: Issued, cast: Cast) -> None:
    mine = SourcePool.objects.create(name="acme-own", kind="dedicated", tenant=cast.acme)
    later = datetime.now(tz=UTC).replace(microsecond=0) + timedelta(hours=3)
    content = letter(
        "X-Relay-Stream: bulk",
        "x-relay-pool: acme-own",
        "X-Relay-Tags: order,\r\n =?utf-8?B?5rOo5paH?=",
        'X-Relay-Metadata: {"order": "1234",\r\n\t"buyer": "太郎"}',
        "X-RELAY-TLS: Verified",
        f"X-Relay-Send-At: {later.astimezone().isoformat()}",
        "X-Relay-Lifetime-Seconds: 3600",
        "X-Relay-Idempotency-Key: order-1234",
        "X-Related: kept",
    )

    with gate.logged_in(login) as wire:
        message = message_of(send(wire, content))

    assert message.stream.name == "bulk"
    assert (message.tags, message.metadata) == (["order", "注文"], {"order": "1234", "buyer": "太郎"})
    assert message.tls == "verified"
    entry = QueueEntry.objects.get()
    assert Lane.objects.get(pk=entry.lane_id).pool == mine
    assert entry.next_attempt_at == later
    assert message.expires_at == later + timedelta(hours=1)
    stored = stored_content(message)
    assert stored.endswith(letter("X-Related: kept"))
    assert b"x-relay" not in stored.lower()


def test_tags_with_commas_are_a_json_array(gate: RunningGate, login: Issued) -> None:
    with gate.logged_in(login) as wire:
        message = message_of(send(wire, letter('X-Relay-Tags: ["a, b", "c", "c"]')))

    assert message.tags == ["a, b", "c"]


REFUSED = [
    (["X-Relay-Streem: bulk"], "X-Relay-Streem: there is no such field"),
    (["X-Relay-Variables: {}"], "X-Relay-Variables: there is no such field"),
    (["X-Relay-: x"], "X-Relay-: there is no such field"),
    (["X-Relay-Stream: bulk", "X-RELAY-STREAM: bulk"], "X-Relay-Stream: it is given twice"),
    (["X-Relay-Stream:"], "X-Relay-Stream: the value is empty"),
    (["X-Relay-Tags: a,,b"], "X-Relay-Tags: a tag is empty"),
    (['X-Relay-Tags: ["a"'], "X-Relay-Tags: neither a list with commas nor a JSON array of texts"),
    ([f"X-Relay-Tags: {','.join(map(str, range(11)))}"], "X-Relay-Tags: at most 10"),
    ([f"X-Relay-Tags: {'x' * 101}"], "X-Relay-Tags: between 1 and 100 characters"),
    (["X-Relay-Metadata: order=1234"], "X-Relay-Metadata: not a JSON object of texts"),
    (['X-Relay-Metadata: {"order": 1234}'], "X-Relay-Metadata: not a JSON object of texts"),
    (['X-Relay-Metadata: {"a": "b\\u0000"}'], "X-Relay-Metadata: control characters and line breaks are not allowed"),
    ([b"X-Relay-Tags: \x83\x65"], "X-Relay-Tags: the value cannot be read as text"),
    (["X-Relay-Tags: =?utf-8?Q?a=0Ab?="], "X-Relay-Tags: the value cannot be read as text"),
    (["X-Relay-TLS: maybe"], "X-Relay-TLS: neither required nor verified"),
    (
        ["X-Relay-Send-At: 2026-11-24T18:00:00"],
        "X-Relay-Send-At: not a time with a zone such as 2026-11-24T18:00:00+09:00",
    ),
    (["X-Relay-Send-At: 2199-01-01T00:00:00Z"], "X-Relay-Send-At: at most 72 hours ahead"),
    (["X-Relay-Lifetime-Seconds: 1h"], "X-Relay-Lifetime-Seconds: not a number of seconds"),
    (["X-Relay-Lifetime-Seconds: 59"], "X-Relay-Lifetime-Seconds: between 60 and 604800"),
    (["X-Relay-Idempotency-Key: 注文"], "X-Relay-Idempotency-Key: 1 to 255 printable ASCII characters"),
]


def test_what_cannot_be_honoured_refuses_the_mail_and_is_named(gate: RunningGate, login: Issued) -> None:
    with gate.logged_in(login) as wire:
        said = [send(wire, letter(*fields)) for fields, _ in REFUSED]

    assert [(one.code, one.text) for one in said] == [(550, f"5.6.0 {text}") for _, text in REFUSED]
    assert not Message.objects.exists()
    assert set(RejectionEntry.objects.values_list("reason", flat=True)) == {"control_refused"}


def test_a_stream_must_be_there_and_a_pool_ones_own(gate: RunningGate, login: Issued, cast: Cast) -> None:
    SourcePool.objects.create(name="globex-own", kind="dedicated", tenant=cast.globex)
    SourcePool.objects.create(name="operators")

    with gate.logged_in(login) as wire:
        said = [
            send(wire, letter(field))
            for field in ("X-Relay-Stream: none", "X-Relay-Pool: globex-own", "X-Relay-Pool: operators")
        ]

    assert [one.text for one in said] == ["5.7.1 no such stream"] + ["5.7.1 no such pool for this account"] * 2
    assert not Message.objects.exists()


def test_a_pool_that_a_stream_uses_may_be_chosen_and_quarantine_not_be_left(
    gate: RunningGate, issue: Callable[..., Issued], cast: Cast
) -> None:
    news = SourcePool.objects.create(name="news")
    SourcePool.objects.create(name="acme-own", kind="dedicated", tenant=cast.acme)
    Stream.objects.filter(tenant=cast.acme, name="bulk").update(pool=news)
    with gate.logged_in(issue()) as wire:
        assert send(wire, letter("X-Relay-Pool: news")).code == 250
        assert send(wire, letter("X-Relay-Pool: default")).code == 250
    lanes = QueueEntry.objects.values("lane_id")
    assert set(Lane.objects.filter(pk__in=lanes).values_list("pool__name", flat=True)) == {"default", "news"}
    Stream.objects.filter(tenant=cast.acme).update(pool=SourcePool.objects.create(name="apart", kind="quarantine"))

    with gate.logged_in(issue()) as wire:
        said = send(wire, letter("X-Relay-Pool: acme-own"))

    assert (said.code, said.text) == (550, "5.7.1 no such pool for this account")


def test_a_mail_that_is_tried_again_is_sent_once(gate: RunningGate, login: Issued) -> None:
    key = "X-Relay-Idempotency-Key: order-1234"
    again = letter(key).replace(b"letter.1@", b"letter.2@").replace(b"14:31:40", b"14:32:10")
    with gate.logged_in(login) as wire:
        first, second = send(wire, letter(key)), send(wire, again)
        other = send(wire, letter(key).replace(b"Alice <alice@", b"Alice <bob@"))
        wire.envelope(b"alice@acme.example", b"carol@example.com")
        elsewhere = wire.content(letter(key))

    assert first.code == 250
    assert second == first
    assert [other.text, elsewhere.text] == [
        "5.6.0 X-Relay-Idempotency-Key: used for another mail within 24 h"
    ] * 2  # fmt: skip
    assert Message.objects.count() == 1


def test_django_headers_come_through_as_controls(gate: RunningGate, login: Issued) -> None:
    from django.core.mail import EmailMessage

    mail = EmailMessage(
        "ご注文",
        "ありがとうございます。",
        "alice@acme.example",
        ["bob@example.com"],
        headers={
            "X-Relay-Tags": "注文確認, 長い件名のためのタグ",
            "X-Relay-Metadata": json.dumps({f"名前{n}": "値" * 30 for n in range(12)}, ensure_ascii=False),
        },
    )
    with gate.smtplib() as client:
        client.login(str(login.credential.username), str(login.secret))
        assert client.sendmail("alice@acme.example", ["bob@example.com"], mail.message().as_bytes(linesep="\r\n")) == {}

    message = Message.objects.get()
    assert message.tags == ["注文確認", "長い件名のためのタグ"]
    assert message.metadata == {f"名前{n}": "値" * 30 for n in range(12)}


def test_smtplib_reads_which_field_was_refused(gate: RunningGate, login: Issued) -> None:
    with gate.smtplib() as client:
        client.login(str(login.credential.username), str(login.secret))
        with pytest.raises(smtplib.SMTPDataError) as refused:
            client.sendmail("alice@acme.example", ["bob@example.com"], letter("X-Relay-TLS: please"))

    assert refused.value.smtp_error == b"5.6.0 X-Relay-TLS: neither required nor verified"
