"""Mail to postmaster and abuse reaches the operators, unless a program wrote it."""

from __future__ import annotations

import pytest
import zstandard
from django.core import mail

from delivery.models import ReturnedKind, ReturnedMail
from delivery.reports import desk, incoming
from tests.support.journeys import make_cast

LETTER = b"From: dave@far.test\r\nSubject: =?utf-8?B?6L+35oOR44Oh44O844Or?=\r\n\r\nPlease stop.\r\n"


@pytest.fixture(autouse=True)
def outbox(db: None, settings: object) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"  # type: ignore[attr-defined]
    make_cast()


def read(content: bytes, *, reverse_path: str = "dave@far.test") -> str:
    row = ReturnedMail.objects.create(
        kind=ReturnedKind.ABUSE,
        mailbox="abuse@bounce.relay.test",
        reverse_path=reverse_path,
        peer_address="192.0.2.1",
        size_bytes=len(content),
        compressed=zstandard.ZstdCompressor().compress(content),
    )
    incoming.read_waiting()
    row.refresh_from_db()
    return row.outcome


def test_it_is_forwarded_to_the_operators_as_it_came() -> None:
    assert read(LETTER) == "forwarded"

    (sent,) = mail.outbox
    assert sent.to == ["olivia@relay.example"]
    assert "迷惑メール" in sent.subject
    assert sent.attachments[0][1] == LETTER


@pytest.mark.parametrize(
    ("content", "reverse_path"),
    [(LETTER, ""), (b"Auto-Submitted: auto-replied\r\n" + LETTER, "dave@far.test")],
)
def test_what_a_program_wrote_is_kept_and_not_forwarded(content: bytes, reverse_path: str) -> None:
    assert read(content, reverse_path=reverse_path) == "automatic"
    assert not mail.outbox


def test_a_subject_cannot_add_header_fields() -> None:
    read(b"From: a@far.test\r\nSubject: =?utf-8?Q?hello=0D=0ABcc:_victim@far.test?=\r\n\r\nx\r\n")

    assert all("\n" not in sent.subject and sent.recipients() == ["olivia@relay.example"] for sent in mail.outbox)
    assert mail.outbox


def test_a_flood_fills_nobodys_inbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "MOST_FORWARDED_PER_HOUR", 2)

    assert [read(LETTER) for _mail in range(3)] == ["forwarded", "forwarded", "kept"]
