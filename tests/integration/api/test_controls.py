"""Pool and TLS of a mail, and the ``X-Relay-*`` header fields of a raw one: the same controls by either way."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from delivery import history
from delivery.models import Lane, Message, QueueEntry, SourcePool
from tests.integration.api.conftest import Program
from tests.support.engine_room import World

MAIL = {"from": "shop@acme.example", "to": "taro@far.test", "subject": "ご注文", "text": "ありがとう"}
URL = "/api/v1/messages"


def raw(*fields: str) -> dict[str, Any]:
    content = "\r\n".join(["From: shop@acme.example", *fields, "Subject: raw", "", "Good morning.", ""])
    return {"raw": base64.b64encode(content.encode()).decode(), "to": "taro@far.test"}


def _refusal(answer: Any) -> tuple[int, str, list[str]]:
    document = answer.json()
    fields = [error["field"] for error in document.get("errors", [])]
    return answer.status_code, document["type"].rpartition(":")[2], fields


def test_pool_and_tls_of_a_mail(acme: Program, world: World) -> None:
    mine = SourcePool.objects.create(name="acme-own", kind="dedicated", tenant=world.cast.acme)

    assert acme.post(URL, {**MAIL, "pool": "acme-own", "tls": "required"}).status_code == 202

    assert Message.objects.get().tls == "required"
    assert Lane.objects.get(pk=QueueEntry.objects.get().lane_id).pool == mine


def test_anothers_pool_is_not_there(acme: Program, globex: Program, world: World) -> None:
    SourcePool.objects.create(name="globex-own", kind="dedicated", tenant=world.cast.globex)

    foreign = acme.post(URL, {**MAIL, "pool": "globex-own"})
    unknown = acme.post(URL, {**MAIL, "pool": "nowhere"})

    assert _refusal(foreign) == _refusal(unknown) == (422, "pool_not_allowed", ["pool"])
    own = globex.post(URL, {**MAIL, "from": "info@globex.example", "pool": "globex-own"})
    assert own.status_code == 202, own.content


def test_tls_is_one_of_two_words(acme: Program) -> None:
    assert _refusal(acme.post(URL, {**MAIL, "tls": "maybe"})) == (400, "invalid_request", ["tls"])


def test_a_raw_mails_fields_are_obeyed_and_taken_out(acme: Program) -> None:
    answer = acme.post(URL, raw("X-Relay-Tags: a, b", "X-Relay-TLS: verified"))

    assert answer.status_code == 202, answer.content
    message = Message.objects.get()
    assert (message.tags, message.tls) == (["a", "b"], "verified")
    assert b"x-relay" not in (history.content_of(message) or b"").lower()


@pytest.mark.parametrize(
    ("fields", "more", "said"),
    [
        (["X-Relay-TLS: maybe"], {}, "X-Relay-TLS: neither required nor verified"),
        (["X-Relay-Tags: a"], {"tags": ["b"]}, "X-Relay-Tags: it is given beside the mail as well"),
    ],
)
def test_a_raw_mails_fields_are_read_strictly(
    acme: Program, fields: list[str], more: dict[str, Any], said: str
) -> None:
    answer = acme.post(URL, {**raw(*fields), **more})

    assert _refusal(answer)[:2] == (422, "control_refused")
    assert answer.json()["detail"] == said
    assert not Message.objects.exists()


def test_a_key_in_a_raw_mail_counts_as_one_beside_it(acme: Program) -> None:
    first = acme.post(URL, raw("X-Relay-Idempotency-Key: order-1", "Message-ID: <1@acme.example>"))
    second = acme.post(URL, raw("X-Relay-Idempotency-Key: order-1", "Message-ID: <2@acme.example>"))
    other = acme.post(URL, {**raw("X-Relay-Idempotency-Key: order-1"), "to": "hanako@far.test"})

    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json() == second.json()
    assert _refusal(other)[:2] == (409, "idempotency_key_reused")
    assert Message.objects.count() == 1
