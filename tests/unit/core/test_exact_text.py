"""A header value that a program acts on: the text it stands for to the letter, or nothing."""

from __future__ import annotations

import pytest

from delivery.core.content import exact_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"order", "order"),
        (b"two  blanks,  kept", "two  blanks,  kept"),
        ("注文".encode(), "注文"),
        (b"=?utf-8?B?5rOo5paH?=", "注文"),
        (b'{"a": =?utf-8?q?"=E6=B3=A8?= =?utf-8?q?=E6=96=87"?=}', '{"a": "注文"}'),
        (b"=?iso-2022-jp?B?GyRCQ21KOBsoQg==?=", "注文"),
        (b"", ""),
    ],
)
def test_it_is_decoded_to_the_letter(value: bytes, text: str) -> None:
    assert exact_text(value) == text


@pytest.mark.parametrize(
    "value",
    [
        "注文".encode("cp932"),
        b"=?utf-8?Q?=FF?=",
        "a\N{RIGHT-TO-LEFT OVERRIDE}b".encode(),
        b"=?utf-8?Q?a=0D=0AX-Relay-Pool:_b?=",
        b"a\x01b",
    ],
)
def test_what_is_not_certain_is_no_text(value: bytes) -> None:
    assert exact_text(value) is None
