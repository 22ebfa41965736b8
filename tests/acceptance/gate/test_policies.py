"""Nobody writes in another's name or relays without being known; each refusal has its code, and is kept for the tenant."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from accounts.credentials import Issued
from delivery.models import Content, Message, Recipient, RejectionEntry
from tests.support.gate import LETTER, RunningGate, message_of
from tests.support.journeys import Cast


def nothing_is_stored() -> bool:
    return not (Message.objects.exists() or Recipient.objects.exists() or Content.objects.exists())


# ---------------------------------------------------------------- who may hand over mail


def test_a_stranger_is_asked_to_log_in(gate: RunningGate) -> None:
    with gate.greeted(source="127.0.0.9") as wire:
        assert wire.say(b"MAIL FROM:<alice@acme.example>").lines == ["5.7.0 send STARTTLS first"]
        assert wire.say(b"RCPT TO:<bob@example.com>").code == 503
        assert wire.say(b"DATA").code == 503
    with gate.encrypted(source="127.0.0.9") as wire:
        assert wire.say(b"MAIL FROM:<alice@acme.example>").lines == ["5.7.0 authentication required"]


@pytest.mark.parametrize("recipient", [b"u%ext@relay.test", b"ext!u@relay.test", b'"u@ext.example"@relay.test'])
def test_a_stranger_relays_by_no_trick_of_addressing(gate: RunningGate, recipient: bytes) -> None:
    with gate.greeted(source="127.0.0.9") as wire:
        wire.say(b"MAIL FROM:<alice@acme.example>")
        assert wire.say(b"RCPT TO:<" + recipient + b">").code // 100 == 5


def test_a_network_hands_over_mail_without_login_or_tls(gate: RunningGate, issue: Callable[..., Issued]) -> None:
    network = issue(kind="network", network="127.0.0.7/32")
    with gate.greeted(source="127.0.0.7") as wire:
        wire.envelope(b"alice@acme.example", b"bob@example.com")
        message = message_of(wire.content(LETTER))
    assert message.credential_id == network.credential.pk
    assert message.protocol == "ESMTP"
    with gate.greeted(source="127.0.0.8") as wire:
        assert wire.say(b"MAIL FROM:<alice@acme.example>").code == 530


def test_a_login_stands_above_the_network(
    gate: RunningGate, issue: Callable[..., Issued], cast: Cast, login: Issued
) -> None:
    issue(kind="network", network="127.0.0.7/32", tenant=cast.globex)
    with gate.logged_in(login, source="127.0.0.7") as wire:
        wire.envelope(b"alice@acme.example", b"bob@example.com")
        message = message_of(wire.content(LETTER))

    assert message.tenant_id == cast.acme.pk


def test_a_network_nobody_approved_is_a_stranger(gate: RunningGate, issue: Callable[..., Issued]) -> None:
    network = issue(kind="network", network="127.0.0.7/32").credential
    network.approved_at = None
    network.save()
    with gate.greeted(source="127.0.0.7") as wire:
        assert wire.say(b"MAIL FROM:<alice@acme.example>").code == 530


# ---------------------------------------------------------------- in whose name


@pytest.mark.parametrize("reverse_path", [b"charlie@globex.example", b"alice@unverified.example"])
def test_a_foreign_reverse_path_is_refused(gate: RunningGate, login: Issued, reverse_path: bytes) -> None:
    with gate.logged_in(login) as wire:
        assert wire.say(b"MAIL FROM:<" + reverse_path + b">").text.startswith("5.7.1 ")
        # The session is still good for honest mail.
        wire.envelope(b"alice@acme.example", b"bob@example.com")
        assert wire.content(LETTER).code == 250


def test_an_own_subdomain_is_covered(gate: RunningGate, login: Issued) -> None:
    with gate.logged_in(login) as wire:
        wire.envelope(b"alice@news.acme.example", b"bob@example.com")
        assert wire.content(LETTER.replace(b"alice@acme", b"alice@news.acme")).code == 250


@pytest.mark.parametrize(
    "letter",
    [
        LETTER.replace(b"alice@acme.example", b"charlie@globex.example"),
        LETTER.replace(b"alice@acme.example", b"alice@unverified.example"),
        b"Sender: charlie@globex.example\r\n" + LETTER,
        b"From: charlie@globex.example\r\n" + LETTER,
        LETTER.replace(b"<alice@acme.example>", b"<alice@acme.example>, charlie@globex.example"),
        b"Subject: no author\r\n\r\nhello\r\n",
    ],
)
def test_a_foreign_or_ambiguous_author_is_refused_and_nothing_is_stored(
    gate: RunningGate, login: Issued, letter: bytes
) -> None:
    with gate.logged_in(login) as wire:
        wire.envelope(b"alice@acme.example", b"bob@example.com")

        assert wire.content(letter).code == 550
        assert nothing_is_stored()
        assert wire.say(b"NOOP").code == 250


def test_replies_may_be_asked_for_anywhere(gate: RunningGate, login: Issued) -> None:
    with gate.logged_in(login) as wire:
        wire.envelope(b"alice@acme.example", b"bob@example.com")

        assert wire.content(b"Reply-To: charlie@globex.example\r\n" + LETTER).code == 250


def test_the_null_reverse_path_is_for_mail_servers(gate: RunningGate, issue: Callable[..., Issued]) -> None:
    with gate.logged_in(issue()) as wire:
        assert wire.say(b"MAIL FROM:<>").text.startswith("5.7.1 ")
    with gate.logged_in(issue(use="mail-server")) as wire:
        wire.envelope(b"", b"bob@example.com")
        assert message_of(wire.content(LETTER)).reverse_path == ""


# ---------------------------------------------------------------- what content


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"x" * 998 + b"\r\n", 250),
        (b"x" * 999 + b"\r\n", 554),
        (b"x" * 10_000 + b"\r\n", 554),
        (b"x" * 1_000_000 + b"\r\n", 554),
        (b"a\nb\r\n", 554),
        (b"a\rb\r\n", 554),
        (b"a\0b\r\n", 554),
        (b"a\n.\nMAIL FROM:<x@y.example>\r\n", 554),
    ],
)
def test_a_content_that_is_not_strict_is_refused_whole(
    gate: RunningGate, login: Issued, body: bytes, code: int
) -> None:
    with gate.logged_in(login) as wire:
        wire.envelope(b"alice@acme.example", b"bob@example.com")

        assert wire.content(LETTER + body).code == code
        assert nothing_is_stored() == (code != 250)
        assert wire.say(b"NOOP").code == 250


@pytest.mark.parametrize(("hops", "code"), [(50, 250), (51, 554)])
def test_mail_that_goes_in_circles_is_stopped(gate: RunningGate, login: Issued, hops: int, code: int) -> None:
    with gate.logged_in(login) as wire:
        wire.envelope(b"alice@acme.example", b"bob@example.com")

        assert wire.content(b"Received: from a by b; now\r\n" * hops + LETTER).code == code


def test_a_tenant_may_have_lower_limits_than_the_installation(gate: RunningGate, login: Issued, cast: Cast) -> None:
    cast.acme.max_message_bytes, cast.acme.max_recipients = 5_000, 2
    cast.acme.save()
    with gate.logged_in(login) as wire:
        assert wire.say(b"MAIL FROM:<alice@acme.example> SIZE=5001").code == 552
        codes = [said.code for said in wire.envelope(b"alice@acme.example", b"a@x.test", b"b@x.test", b"c@x.test")]
        assert codes == [250, 250, 250, 452]
        assert wire.content(LETTER + b"x\r\n" * 2_000).code == 552
        wire.envelope(b"alice@acme.example", b"a@x.test")
        assert wire.content(LETTER).code == 250


# ---------------------------------------------------------------- told to the tenant


def test_every_refusal_is_kept_for_the_tenant_with_its_reason(gate: RunningGate, login: Issued, cast: Cast) -> None:
    with gate.logged_in(login) as wire:
        wire.say(b"MAIL FROM:<charlie@globex.example>")
        wire.envelope(b"alice@acme.example", b"bad address@example.com", b"bob@example.com")
        wire.content(LETTER.replace(b"alice@acme.example", b"charlie@globex.example"))

    entries = {entry.reason: entry for entry in RejectionEntry.objects.of(cast.acme)}
    assert set(entries) == {"reverse_path_not_verified", "bad_recipient", "author_not_verified"}
    entry = entries["author_not_verified"]
    assert (entry.code, entry.enhanced, entry.author_domain) == (550, "5.7.1", "globex.example")
    assert entry.credential_id == login.credential.pk
    assert str(entry.peer_address) == "127.0.0.1"
    assert not RejectionEntry.objects.of(cast.globex).exists()


def test_a_flood_of_excess_recipients_is_one_entry(gate: RunningGate, login: Issued, cast: Cast) -> None:
    cast.acme.max_recipients = 2
    cast.acme.save()
    with gate.logged_in(login) as wire:
        wire.envelope(b"alice@acme.example", *(b"r%d@example.com" % number for number in range(200)))

    entry = RejectionEntry.objects.of(cast.acme).get()
    assert (entry.reason, entry.count) == ("too_many_recipients", 1)
