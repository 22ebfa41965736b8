"""A mail to every behaviour of the sandbox: the right state, class and bytes, as seen from outside."""

from __future__ import annotations

import json
import time
import urllib.request
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP

import pytest

from tests.acceptance.journey.conftest import Sender
from tests.support.stack import Stack, settled

JAPANESE = "こんにちは。\n.ドットで始まる行\n..二つのドット\n髙橋①㈱ご注文の確認\n"
TAKES_7_BIT_ONLY = "no-8bitmime@no-8bitmime.sandbox.test"


def _mail(sender: Sender, recipient: str) -> bytes:
    mail = EmailMessage(policy=SMTP.clone(cte_type="8bit"))
    mail["From"] = f"お店 <shop@{sender.domain}>"
    mail["To"] = recipient
    mail["Subject"] = f"ご注文の確認 {recipient}"
    mail.set_content(JAPANESE, cte="8bit")
    mail.add_attachment(bytes(range(256)) * 20, maintype="application", subtype="octet-stream", filename="見積書.bin")
    return mail.as_bytes()


@pytest.fixture(scope="module")
def mailboxes(stack: Stack) -> list[dict]:
    return stack.relay("sandbox", "mailboxes")


@pytest.fixture(scope="module")
def sent(stack: Stack, acme: Sender, mailboxes: list[dict]) -> dict[str, bytes]:
    """One mail to each behaviour, over STARTTLS with a login."""
    mails = {box["address"]: _mail(acme, box["address"]) for box in mailboxes}
    with stack.smtp(acme.username, acme.secret) as client:
        for address, mail in mails.items():
            client.sendmail(f"shop@{acme.domain}", [address], mail, mail_options=["BODY=8BITMIME"])
    return mails


@pytest.fixture(scope="module")
def outcomes(stack: Stack, acme: Sender, mailboxes: list[dict], sent: dict[str, bytes]) -> dict[str, dict]:
    """What became of each within a minute: those that will end have ended, the others have their reason."""
    deadline = time.monotonic() + 60
    while True:
        rows = {address: row for address, row in stack.states(acme.slug).items() if address in sent}
        wrong = [box for box in mailboxes if not _is_as_expected(rows.get(box["address"]), box["expect"])]
        if not wrong or time.monotonic() > deadline:
            return rows
        time.sleep(1)


def _is_as_expected(row: dict | None, expect: dict) -> bool:
    return row is not None and row["state"] == expect["state"] and (row["class"] or None) == (expect["class"] or None)


def test_there_are_at_least_twenty_behaviours(mailboxes: list[dict]) -> None:
    assert len({box["behaviour"] for box in mailboxes}) >= 20


def test_every_behaviour_ends_in_its_state_and_class(mailboxes: list[dict], outcomes: dict[str, dict]) -> None:
    seen = {
        box["behaviour"]: (outcomes[box["address"]]["state"], outcomes[box["address"]]["class"] or None)
        for box in mailboxes
    }
    expected = {box["behaviour"]: (box["expect"]["state"], box["expect"]["class"] or None) for box in mailboxes}

    assert seen == expected


def test_what_was_accepted_arrived_byte_for_byte_below_our_fields(
    stack: Stack, acme: Sender, sent: dict[str, bytes], outcomes: dict[str, dict]
) -> None:
    delivered = {address for address, row in outcomes.items() if row["state"] == "delivered"} - {TAKES_7_BIT_ONLY}
    received = _received(stack)

    assert delivered
    for address in delivered:
        added, found, _ = received[address].partition(sent[address])
        assert found, f"{address}: the content was changed"
        names = [line.split(":")[0] for line in added.decode().split("\r\n") if line and not line[0].isspace()]
        assert names[:2] == ["DKIM-Signature", "Received"]
        assert set(names) <= {"DKIM-Signature", "Received", "Date", "Message-ID"}


def test_a_host_that_takes_7_bit_only_gets_the_same_mail_converted(
    stack: Stack, sent: dict[str, bytes], outcomes: dict[str, dict]
) -> None:
    assert outcomes[TAKES_7_BIT_ONLY]["state"] == "delivered"
    received = _received(stack)[TAKES_7_BIT_ONLY]

    assert received.isascii()
    assert _parts(received) == _parts(sent[TAKES_7_BIT_ONLY])


def _received(stack: Stack) -> dict[str, bytes]:
    """What each recipient got last."""
    return {
        recipient: (stack.var / "sandbox" / "inbox" / line["file"].rpartition("/")[2]).read_bytes()
        for line in stack.ledger()
        for recipient in line["recipients"]
    }


def _parts(content: bytes) -> list[object]:
    return [part.get_payload(decode=True) for part in message_from_bytes(content).walk()]


def test_the_signature_is_verified_by_an_independent_verifier(
    stack: Stack, acme: Sender, outcomes: dict[str, dict]
) -> None:
    dkim = pytest.importorskip("dkim")
    records = {
        record["name"]: record["value"]
        for record in stack.relay("domain", "show", acme.domain)["records"]
        if record["type"] == "TXT" and "p=" in record["value"] and "_domainkey" in record["name"]
    }
    files = [line["file"] for line in stack.ledger() if line["recipients"][0] in outcomes]

    assert files
    for file in files:
        content = (stack.var / "sandbox" / "inbox" / file.rpartition("/")[2]).read_bytes()
        assert dkim.verify(content, dnsfunc=lambda name, timeout=5: records[name.decode().rstrip(".")].encode())


def test_an_attempt_shows_its_conversation_and_never_content_or_secrets(
    stack: Stack, acme: Sender, outcomes: dict[str, dict]
) -> None:
    row = next(row for address, row in outcomes.items() if address.startswith("unknown-user@"))

    shown = stack.relay("message", "show", row["message_id"])

    attempt = shown["recipients"][0]["attempts"][0]
    assert attempt["phase"] == "rcpt"
    assert attempt["reply"].startswith("550 5.1.1")
    assert "MAIL FROM" in json.dumps(shown)
    assert acme.secret not in json.dumps(shown)
    assert "ドットで始まる行" not in json.dumps(shown, ensure_ascii=False)


def test_the_server_tells_its_health(stack: Stack) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{stack.ports['http']}/health/ready", timeout=10) as answer:
        health = json.load(answer)

    assert answer.status == 200
    assert health


def test_a_test_credential_accepts_and_never_delivers(stack: Stack, acme: Sender) -> None:
    credential = stack.relay("credential", "issue", "--tenant", acme.slug, "--kind", "smtp", "--name", "dry", "--test")
    recipient = "dry-run@accept.sandbox.test"

    with stack.smtp(credential["username"], credential["secret"]) as client:
        client.sendmail(f"shop@{acme.domain}", [recipient], _mail(acme, recipient))

    row = settled(stack, acme.slug, [recipient], seconds=10)[recipient]
    assert row["state"] == "suppressed"
    assert stack.inbox_copies()[recipient] == 0
