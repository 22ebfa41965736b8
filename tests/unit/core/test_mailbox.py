from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.core.mailbox import Mailbox, MailboxSyntaxError, parse_domain, parse_mailbox

ATEXT = "abcXYZ019!#$%&'*+/=?^_`{|}~-"


def test_it_keeps_the_case_of_the_local_part_and_lowers_the_domain() -> None:
    mailbox = parse_mailbox("Alice@ACME.Example")

    assert mailbox == Mailbox("Alice", "acme.example")
    assert mailbox.address == "Alice@acme.example"


def test_a_needlessly_quoted_local_part_is_the_same_mailbox() -> None:
    assert parse_mailbox('"alice"@acme.example') == parse_mailbox("alice@acme.example")


@pytest.mark.parametrize("text", ["a..b@docomo.ne.jp", "a.@docomo.ne.jp", ".a@docomo.ne.jp", "-a__b@ezweb.ne.jp"])
def test_it_takes_the_dots_that_carriers_once_issued(text: str) -> None:
    assert parse_mailbox(text).address == text


def test_misplaced_dots_are_quoted_strictly_and_bare_for_carriers() -> None:
    mailbox = parse_mailbox("a..b@docomo.ne.jp")

    assert mailbox.quoted == '"a..b"@docomo.ne.jp'
    assert mailbox.bare == "a..b@docomo.ne.jp"


def test_a_local_part_that_needs_quotes_has_them_in_every_written_form() -> None:
    mailbox = parse_mailbox('"a\\"b c@d"@acme.example')

    assert mailbox.local_part == 'a"b c@d'
    assert mailbox.quoted == mailbox.bare == '"a\\"b c@d"@acme.example'


def test_a_stored_address_is_read_back_even_with_an_at_sign_in_its_local_part() -> None:
    mailbox = parse_mailbox('"a@e.f"@c.example')

    assert Mailbox.from_address(mailbox.address) == mailbox


def test_internationalised_domains_become_a_labels() -> None:
    assert parse_mailbox("u@Bücher.example").domain == "xn--bcher-kva.example"
    assert parse_domain("日本語。JP") == "xn--wgv71a119e.jp"
    assert parse_domain("XN--BCHER-KVA.example.") == "xn--bcher-kva.example"


def test_a_non_ascii_local_part_is_taken_and_told() -> None:
    assert not parse_mailbox("用户@acme.example").is_ascii
    assert parse_mailbox("user@bücher.example").is_ascii


@pytest.mark.parametrize(
    "text",
    [
        "", "a", "@", "a@", "@acme.example", "a b@acme.example", "a@acme.example ", " a@acme.example",
        "<a@acme.example>",
        "a@localhost", "a@[127.0.0.1]", "a@[IPv6:::1]", "a@127.0.0.1", "a@acme..example", "a@.acme.example",
        "a@acme.example.", "a@-acme.example", "a@acme-.example", "a@ac_me.example", "a@b@acme.example",
        '"a@acme.example', 'a"b"@acme.example', '""@acme.example', '"a"b"@acme.example', '"a\\"@acme.example',
        "a,b@acme.example", "a;b@acme.example", "a:b@acme.example", "a(x)@acme.example", "a\r\nb@acme.example",
        "a\0@acme.example", "a\x7f@acme.example", "a\x85b@acme.example", "a\u2028b@acme.example",
        "a\u202eb@acme.example",
        "a\ud800@acme.example", "@a,@b:c@acme.example", "a@acme.example:25",
        "x" * 65 + "@acme.example", "é" * 33 + "@acme.example", "a@" + "x" * 64 + ".example",
        "a@" + "x." * 130 + "example", "a@\ud800.example", "a@\u2603.example",
    ],
)  # fmt: skip
def test_it_refuses_what_is_no_mailbox(text: str) -> None:
    with pytest.raises(MailboxSyntaxError):
        parse_mailbox(text)


def test_the_longest_local_part_and_domain_are_taken() -> None:
    domain = ".".join(["d" * 63] * 3 + ["d" * 61])

    mailbox = parse_mailbox("x" * 64 + "@" + domain)

    assert len(mailbox.local_part) == 64
    assert len(mailbox.domain) == 253


@given(st.text())
def test_no_text_raises_anything_but_a_syntax_error(text: str) -> None:
    for candidate in (text, text + "@acme.example", "a@" + text, f'"{text}"@acme.example'):
        try:
            mailbox = parse_mailbox(candidate)
        except MailboxSyntaxError:
            continue
        assert "\r" not in mailbox.address and "\n" not in mailbox.address and "\0" not in mailbox.address


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=64))
def test_every_local_part_survives_being_written_and_read(local_part: str) -> None:
    mailbox = Mailbox(local_part, "acme.example")

    assert parse_mailbox(mailbox.quoted) == mailbox
    assert parse_mailbox(mailbox.bare) == mailbox
    assert Mailbox.from_address(mailbox.address) == mailbox


@given(st.text(ATEXT + ".", min_size=1, max_size=64))
def test_every_dotted_local_part_is_read_bare_and_quoted_alike(local_part: str) -> None:
    assert parse_mailbox(f"{local_part}@acme.example") == parse_mailbox(f'"{local_part}"@acme.example')
