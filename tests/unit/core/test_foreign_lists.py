"""Lists as Postal, SendGrid, Mailgun and Amazon SES write them."""

from __future__ import annotations

import pytest

from delivery.core.foreign_lists import (
    ForeignListError,
    ForeignSuppression,
    ListKind,
    RowFault,
    System,
    read_domains,
    read_suppressions,
)

BOUNCES, COMPLAINTS, UNSUBSCRIBES = ListKind.BOUNCES, ListKind.COMPLAINTS, ListKind.UNSUBSCRIBES
SES = """{"SuppressedDestinationSummaries": [
  {"EmailAddress": "a@far.test", "Reason": "BOUNCE", "LastUpdateTime": "2026-04-10T21:03:05+09:00"},
  {"EmailAddress": "b@far.test", "Reason": "COMPLAINT", "LastUpdateTime": 1586548985.0}], "NextToken": "x"}"""
POSTAL = (
    "id\ttype\taddress\treason\ttimestamp\tkeep_until\n"
    '1\trecipient\ta@far.test\t550 "no such" user\t1763000000.000000\t1893456000.000000\n'
    "2\tsender\tb@far.test\tNULL\t1763000000.000000\tNULL\n"
)
SENDGRID = '[{"created": 1443651125, "email": "a@far.test", "reason": "550 5.1.1 unknown", "status": "5.1.1"}]'
MAILGUN = '{"items": [{"address": "a@far.test", "code": "550", "error": "No such mailbox", "created_at": "Fri"}], "paging": {}}'


def _read(text: str, system: System, kind: ListKind | None = None) -> list[ForeignSuppression | RowFault]:
    return list(read_suppressions(text, system=system, kind=kind))


def _told(text: str, system: System, kind: ListKind | None = None) -> list[tuple[str, ListKind, str, str]]:
    found = [one for one in _read(text, system, kind) if isinstance(one, ForeignSuppression)]
    return [(one.address, one.kind, one.detail, one.only) for one in found]


@pytest.mark.parametrize(
    ("text", "system", "kind", "told"),
    [
        (SES, System.SES, None, [("a@far.test", BOUNCES, "", ""), ("b@far.test", COMPLAINTS, "", "")]),
        (POSTAL, System.POSTAL, None, [("a@far.test", BOUNCES, '550 "no such" user', "")]),
        (SENDGRID, System.SENDGRID, BOUNCES, [("a@far.test", BOUNCES, "5.1.1 550 5.1.1 unknown", "")]),
        ('["a@far.test"]\n["b@far.test"]', System.SENDGRID, UNSUBSCRIBES,
         [("a@far.test", UNSUBSCRIBES, "", ""), ("b@far.test", UNSUBSCRIBES, "", "")]),
        ("\ufeffemail,created\r\na@far.test,2026-01-01\r\n", System.SENDGRID, COMPLAINTS, [("a@far.test", COMPLAINTS, "", "")]),
        (MAILGUN, System.MAILGUN, BOUNCES, [("a@far.test", BOUNCES, "550 No such mailbox", "")]),
        ('[{"address": "a@far.test", "tags": ["*"]}, {"address": "b@far.test", "tags": ["news"]}]',
         System.MAILGUN, UNSUBSCRIBES,
         [("a@far.test", UNSUBSCRIBES, "", ""), ("b@far.test", UNSUBSCRIBES, "", "news")]),
        ('address,tags\na@far.test,"news,offers"\n', System.MAILGUN, UNSUBSCRIBES,
         [("a@far.test", UNSUBSCRIBES, "", "news, offers")]),
    ],
)  # fmt: skip
def test_rows_are_read_as_they_were_meant(
    text: str, system: System, kind: ListKind | None, told: list[tuple[str, ListKind, str, str]]
) -> None:
    assert _told(text, system, kind) == told


def test_when_postal_forgets_is_told_and_other_types_are_not_taken() -> None:
    kept, fault = _read(POSTAL, System.POSTAL)

    assert isinstance(kept, ForeignSuppression) and kept.keep_until is not None
    assert kept.keep_until.isoformat() == "2030-01-01T00:00:00+00:00"
    assert fault == RowFault(2, "It is about a sender, not a recipient.")


@pytest.mark.parametrize("text", ["", " \n", "[{", "first,second\n1,2\n", "a@far.test\nb@far.test\n"])
def test_what_is_no_list_is_said(text: str) -> None:
    with pytest.raises(ForeignListError):
        _read(text, System.SES)


def test_a_row_without_use_does_not_spoil_the_others() -> None:
    text = '[{"EmailAddress": "", "Reason": "BOUNCE"}, 7, {"EmailAddress": "a@far.test", "Reason": "WHY"}, {}]'

    assert [type(one) for one in _read(text, System.SES)] == [RowFault] * 4


def test_the_lists_of_some_systems_look_alike() -> None:
    with pytest.raises(ForeignListError, match="look alike"):
        _read(SENDGRID, System.SENDGRID)


@pytest.mark.parametrize(
    "text",
    [
        '{"EmailIdentities": [{"IdentityType": "DOMAIN", "IdentityName": "acme.example"},'
        ' {"IdentityType": "EMAIL_ADDRESS", "IdentityName": "me@acme.example"}]}',
        '[{"id": 1, "domain": "acme.example", "subdomain": "em1"}]',
        '{"items": [{"name": "acme.example", "state": "active"}], "total_count": 1}',
        "name\nacme.example\nacme.example\n",
    ],
)
def test_domains_are_read_once_each(text: str) -> None:
    assert read_domains(text) == ["acme.example"]
