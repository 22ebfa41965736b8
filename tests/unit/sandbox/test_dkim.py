"""Verified with the message and the keys of RFC 8463, Appendix A: an oracle that none of us has written."""

from __future__ import annotations

import pytest

from sandbox.dkim import canonical_body, canonical_field, verify

KEYS = {
    "brisbane._domainkey.football.example.com": ("v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="),
    "test._domainkey.football.example.com": (
        "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16J"
        "Yi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l"
        "/K4w3QIDAQAB"
    ),
}
MESSAGE = """\
DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
""".replace("\n", "\r\n").encode()


def texts(name: str) -> list[str]:
    return [KEYS[name]] if name in KEYS else []


def test_both_signatures_of_the_example_verify() -> None:
    verdict = verify(MESSAGE, texts)

    assert verdict.result == "pass"
    assert [(one.algorithm, one.passes) for one in verdict.signatures] == [
        ("ed25519-sha256", True),
        ("rsa-sha256", True),
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ((b"hungry", b"angry"), "the body has been changed"),
        ((b"dinner", b"supper"), "does not match the header fields"),
        ((b"To: Suzie", b"Subject: second\r\nTo: Suzie"), "does not match the header fields"),
        ((b"s=test", b"s=other"), "no key at other._domainkey"),
        ((b"a=rsa-sha256", b"a=rsa-sha1"), "is not accepted"),
        ((b"i=@football.example.com", b"i=@example.com"), "outside of the signing domain"),
        ((b"t=1528637909", b"x=1528637909"), "expired"),
        ((b"from :", b"sender :"), "the From field is not signed"),
        ((b"v=1;", b""), "the tag v is missing"),
    ],
)
def test_a_changed_message_fails_and_says_why(change: tuple[bytes, bytes], reason: str) -> None:
    verdict = verify(MESSAGE.replace(*change), texts, now=1_600_000_000)

    assert reason in verdict.signatures[1].reason
    assert not verdict.signatures[1].passes


def test_blanks_letter_case_and_empty_lines_at_the_end_do_no_harm() -> None:
    changed = (
        MESSAGE.replace(b"Subject: Is", b"SUBJECT:   Is").replace(b"game.  Are", b"game. \t Are \t ") + b"\r\n\r\n"
    )

    assert verify(changed, texts).result == "pass"


def test_an_unsigned_message_is_neither_right_nor_wrong() -> None:
    assert verify(b"From: a@x.test\r\n\r\nHi\r\n", texts).result == "none"


@pytest.mark.parametrize("key", ["v=DKIM1; p=", "v=DKIM1; k=rsa; p=AAAA", "v=SPF1", "p=!!!", "k=ed25519; p=AAAA", "p"])
def test_an_unusable_key_fails_the_signature(key: str) -> None:
    assert verify(MESSAGE, lambda name: [key]).result == "fail"


@pytest.mark.parametrize(
    ("body", "simple", "relaxed"),
    [
        (b"", b"\r\n", b""),
        (b"\r\n\r\n", b"\r\n", b""),
        (b" C \r\nD \t E\r\n\r\n\r\n", b" C \r\nD \t E\r\n", b" C\r\nD E\r\n"),
        (b"no end", b"no end\r\n", b"no end\r\n"),
    ],
)
def test_bodies_are_canonicalised_as_the_rfc_shows(body: bytes, simple: bytes, relaxed: bytes) -> None:
    assert canonical_body(body, is_relaxed=False) == simple
    assert canonical_body(body, is_relaxed=True) == relaxed


def test_fields_are_canonicalised_as_the_rfc_shows() -> None:
    assert canonical_field(b"A: X", is_relaxed=True) == b"a:X"
    assert canonical_field(b"B : Y\t\r\n\tZ  ", is_relaxed=True) == b"b:Y Z"
    assert canonical_field(b"B : Y\t\r\n\tZ  ", is_relaxed=False) == b"B : Y\t\r\n\tZ  "
