"""A mail to each mailbox of the sandbox that answers later, and what becomes of it, as seen from outside."""

from __future__ import annotations

from tests.acceptance.journey.conftest import Sender
from tests.support.stack import Stack, settled
from tests.support.waiting import until


def _send(stack: Stack, sender: Sender, recipient: str) -> None:
    with stack.smtp(sender.username, sender.secret) as client:
        content = f"From: shop@{sender.domain}\r\nTo: {recipient}\r\nSubject: Hello\r\n\r\nHello\r\n"
        client.sendmail(f"shop@{sender.domain}", [recipient], content)


def _suppressions(stack: Stack, sender: Sender) -> dict[str, dict]:
    return {row["address"]: row for row in stack.relay("suppression", "list", "--tenant", sender.slug)}


def test_what_comes_back_later_is_told_beside_the_state(stack: Stack, acme: Sender) -> None:
    # Mailboxes of this test's own: others write to those that are listed, in the same installation.
    bounces, complains, vacation, delays = (
        f"later-{name}@{name}.sandbox.test" for name in ("bounces-later", "complains", "vacation", "delays")
    )
    addresses = [bounces, complains, vacation, delays]
    for address in addresses:
        _send(stack, acme, address)

    rows = settled(stack, acme.slug, addresses, seconds=30)
    assert {row["state"] for row in rows.values()} == {"delivered"}
    until(lambda: {bounces, complains} <= _suppressions(stack, acme).keys(), seconds=60, what="both suppressions")

    found = _suppressions(stack, acme)
    assert (found[bounces]["scope"], found[bounces]["reason"], found[bounces]["class"]) == (
        "tenant", "bounce", "bad_mailbox",
    )  # fmt: skip
    assert (found[complains]["scope"], found[complains]["reason"]) == ("stream", "complaint")
    assert not {vacation, delays} & found.keys()
    states = stack.states(acme.slug)
    assert {address: states[address]["state"] for address in addresses} == dict.fromkeys(addresses, "delivered")
    assert {address: states[address]["returned_class"] or "" for address in addresses} == {
        bounces: "bad_mailbox", complains: "", vacation: "", delays: "",
    }  # fmt: skip

    # The automatic reply was answered by nobody, and the next mail to the dead mailbox does not leave.
    _send(stack, acme, bounces)
    until(
        lambda: any(
            row["state"] == "suppressed" and row["recipient"] == bounces
            for row in stack.relay("message", "list", "--tenant", acme.slug)
        ),
        seconds=20,
        what="the second mail to be kept back",
    )
    copies = stack.inbox_copies()
    assert (copies[bounces], copies[vacation]) == (1, 1)
