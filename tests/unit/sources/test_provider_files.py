"""Exports of Microsoft SNDS and Google Postmaster Tools, as they are written: every row is read, or told with why."""

from __future__ import annotations

import json
from datetime import date

import pytest

from delivery.provider_data import reading
from delivery.provider_data.reading import Unreadable

SNDS = (
    "192.0.2.10,11/20/2026 4:00 PM,11/21/2026 4:00 PM,1234,1200,1150,GREEN,< 0.1%,,,0,mx1.relay.example,a@acme.example,\n"
    '192.0.2.11,11/20/2026 4:00 PM,11/21/2026 4:00 PM,"12,345",99,98,RED,2.4%,11/20/2026 5:00 PM,11/20/2026 6:00 PM,3,'
    'mx2.relay.example,b@acme.example,"a, comment"\n'
)


def test_snds_without_a_header_row() -> None:
    found = reading.read(SNDS.encode())

    assert (found.kind, found.bad) == ("microsoft", [])
    green, red = found.days
    assert (green.subject, green.day, green.figures["complaint_rate"]) == ("192.0.2.10", date(2026, 11, 20), "< 0.1%")
    assert (red.figures["rcpt_commands"], red.figures["filter_result"], red.figures["trap_hits"]) == (12_345, "red", 3)
    assert red.figures["comments"] == "a, comment"


def test_snds_with_a_header_row_and_bad_rows_that_are_kept_as_they_stand() -> None:
    head = "IP Address,Activity start,Activity end,RCPT commands,DATA commands,Message recipients,Filter result\r\n"
    bad = "192.0.2.12,yesterday,,1,1,1,GREEN,,,,0,,,\n192.0.2.13,11/20/2026,,1,1,1,BLUE,,,,0,,,\nnobody,11/20/2026\n"

    found = reading.read((head + SNDS + bad).encode("utf-16"))

    assert len(found.days) == 2
    assert [(one.line, one.text.split(",")[0]) for one in found.bad] == [
        (4, "192.0.2.12"),
        (5, "192.0.2.13"),
        (6, "nobody"),
    ]
    assert "yesterday" in found.bad[0].why and "BLUE" in found.bad[1].why and "2 columns" in found.bad[2].why


def test_google_as_its_api_writes_it() -> None:
    rows = [
        {
            "name": "domains/news.acme.example/trafficStats/20261120",
            "userReportedSpamRatio": 0.002,
            "domainReputation": "MEDIUM",
            "spfSuccessRatio": 1,
            "deliveryErrors": [{"errorClass": "TEMPORARY_ERROR", "errorRatio": 0.01}],
        },
        {"name": "domains/acme.example/trafficStats/20261121", "domainReputation": "REPUTATION_CATEGORY_UNSPECIFIED"},
        {"name": "trafficStats/1", "spfSuccessRatio": 1},
        7,
    ]

    found = reading.read(json.dumps({"trafficStats": rows}).encode())

    (day,) = found.days
    assert (found.kind, day.subject, day.day) == ("google", "news.acme.example", date(2026, 11, 20))
    assert day.figures["domain_reputation"] == "medium" and day.figures["user_reported_spam_ratio"] == 0.002
    assert day.figures["delivery_errors"][0]["errorRatio"] == 0.01
    assert [one.line for one in found.bad] == [2, 3, 4]


def test_google_as_columns_by_any_of_their_names() -> None:
    text = "\ufeffDate;Domain;User-reported spam rate;domainReputation;dkim_success_ratio\n"
    text += (
        "2026-11-20;Acme.Example;0.05%;high;0.99\n20261121;bücher.example;0,3 %;BAD;\n2026-11-22;acme.example;140%;;\n"
    )

    found = reading.read(text.encode())

    first, second = found.days
    assert (first.subject, first.figures["user_reported_spam_ratio"]) == ("acme.example", pytest.approx(0.0005))
    assert (second.subject, second.day) == ("xn--bcher-kva.example", date(2026, 11, 21))
    assert [(one.line, "140%" in one.why) for one in found.bad] == [(4, True)]


@pytest.mark.parametrize(
    "content", [b"", b"\xff\x00\xfe", b"a,b\n1,2\n", b"{", b'{"a": 1}', b"Date,Spam rate\n", b"[" * 99_999]
)
def test_what_is_neither_is_refused_as_a_whole(content: bytes) -> None:
    with pytest.raises(Unreadable):
        reading.read(content)
