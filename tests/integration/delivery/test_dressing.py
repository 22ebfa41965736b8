"""What a recipient's mail carries beside what the client wrote, as the receiving host gets it: signed twice where that serves."""

from __future__ import annotations

import email
import re
from typing import Any
from uuid import UUID

import dkim
import pytest
from django.test import Client

from accounts import sealing
from accounts.audit import Actor
from accounts.models import Tenant
from delivery import domains, foundation
from delivery.core.mailbox import parse_mailbox
from delivery.core.unsubscribing import read_token, token_of
from delivery.core.verp import read_feedback_token
from delivery.models import DkimKey, SendingDomain, Stream
from tests.support.dns_server import FakeDns
from tests.support.engine_room import HOST, RECORDS, Room, World, in_thread, mail
from tests.support.smtp_peer import SmtpPeer

OPERATOR = "feedback.relay.example"
# A provider that tells complaints to the owner of a signing domain.
YAHOO = {"readers.test": {"MX": ["10 mta5.am0.yahoodns.net."]}, "mta5.am0.yahoodns.net": {"A": [HOST]}}
ACTOR = Actor("olivia@relay.example", is_operator=True)


async def received(
    world: World, recipient: str, *, stream: str = "bulk", content: bytes | None = None
) -> tuple[bytes, UUID]:
    """The mail as the host got it, and the recipient's id."""
    stream_id = await in_thread(lambda: Stream.objects.get(tenant=world.cast.acme, name=stream).pk)
    dns = FakeDns({**RECORDS, **YAHOO}, ttl=1, negative_ttl=1)
    async with Room(world, dns=dns) as room, SmtpPeer(host=HOST, at_port=room.port) as peer, room.engine():
        message_id = await room.send(recipient, content=content, principal=world.principal(stream_id=stream_id))
        row = await room.until_state(message_id, "delivered")
        return peer.connections[0].contents[0], row.id


def give_key(name: str, tenant: Tenant | None = None) -> None:
    """A verified domain with a key that signs."""
    owner = tenant or Tenant.objects.get(is_system=True)
    SendingDomain.objects.filter(name=name).delete()
    domains.add_domain(owner, name, actor=ACTOR, assume_verified=True)


async def sign_as(world: World, settings: Any, *, operator: bool) -> None:
    await in_thread(give_key, "acme.example", world.cast.acme)
    if operator:
        settings.FEEDBACK_DOMAIN = OPERATOR
        await in_thread(foundation.lay)
        await in_thread(give_key, OPERATOR)


async def verified(content: bytes) -> dict[str, bool]:
    """Which signing domains' signatures hold, by dkimpy."""
    keys = await in_thread(
        lambda: {
            f"{key.selector}._domainkey.{key.domain.name}.": key.public_record
            for key in DkimKey.objects.select_related("domain")
        }
    )

    def answer(name: bytes, timeout: int = 5) -> bytes:
        return keys[name.decode()].encode()

    verifier = dkim.DKIM(content)
    names = re.findall(rb"^DKIM-Signature:.*?\bd=([^;]+);", content, re.MULTILINE | re.DOTALL | re.IGNORECASE)
    return {name.decode(): verifier.verify(idx=index, dnsfunc=answer) for index, name in enumerate(names)}


# ---------------------------------------------------------------- unsubscribing


async def test_bulk_mail_can_be_unsubscribed_from_and_that_is_signed(world: World, settings: Any) -> None:
    settings.PUBLIC_URL = "https://relay.example"
    await sign_as(world, settings, operator=False)

    content, recipient_id = await received(world, "taro@far.test")

    fields = email.message_from_bytes(content)
    links = re.findall(r"<([^>]+)>", fields["List-Unsubscribe"])
    assert fields["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    keys = sealing.derived_keys("unsubscribe")
    web = re.fullmatch(r"https://relay\.example/unsubscribe/([a-z2-7]+)/", links[0])
    assert web is not None and read_token(web[1], keys=keys) == recipient_id
    mailbox = parse_mailbox(links[1].removeprefix("mailto:").removesuffix("?subject=unsubscribe"))
    assert mailbox.domain == settings.BOUNCE_DOMAIN
    assert read_token(token_of(mailbox) or "", keys=keys) == recipient_id
    assert await verified(content) == {"acme.example": True}
    for altered in (
        content.replace(b"relay.example/unsubscribe", b"evil.example/unsubscribe"),
        content.replace(b"\r\nList-Unsubscribe-Post:", b"\r\nX-Nothing:"),
    ):
        assert await verified(altered) == {"acme.example": False}
    # The link leads somewhere.
    response = await in_thread(
        lambda: Client().post(web[0].removeprefix("https://relay.example"), headers={"host": "localhost"})
    )
    assert response.status_code == 200


@pytest.mark.parametrize("why", ["transactional", "switched off", "written by the client"])
async def test_it_is_not_added_where_it_is_not_wanted(world: World, why: str) -> None:
    content = None
    if why == "switched off":
        domain = await in_thread(lambda: SendingDomain.objects.select_related("tenant").get(name="acme.example"))
        await in_thread(domains.update_domain, domain, actor=ACTOR, adds_unsubscribe=False)
    if why == "written by the client":
        content = mail("List-Unsubscribe: <https://acme.example/leave>")

    stream = "transactional" if why == "transactional" else "bulk"
    fields = email.message_from_bytes((await received(world, "taro@far.test", stream=stream, content=content))[0])

    assert fields.get_all("List-Unsubscribe") == (["<https://acme.example/leave>"] if content else None)
    assert fields["List-Unsubscribe-Post"] is None


# ---------------------------------------------------------------- feedback loops


async def test_where_complaints_come_by_domain_the_operator_signs_too(world: World, settings: Any) -> None:
    await sign_as(world, settings, operator=True)

    content, recipient_id = await received(world, "taro@readers.test")

    fields = email.message_from_bytes(content)
    assert fields["Feedback-ID"] == "bulk:acme.example:acme:feedbackrelayex"
    tag = read_feedback_token(fields["X-Feedback-Token"], keys=sealing.derived_keys("feedback"))
    assert tag is not None and tag.recipient_id == recipient_id
    assert await verified(content) == {"acme.example": True, OPERATOR: True}
    altered = content.replace(b"Feedback-ID: bulk", b"Feedback-ID: blke")
    assert await verified(altered) == {"acme.example": False, OPERATOR: False}
    added = content.replace(b"Feedback-ID: bulk", b"Feedback-ID: bulk:x:y:other\r\nFeedback-ID: bulk")
    assert await verified(added) == {"acme.example": False, OPERATOR: False}
    # Neither covers the other: whoever takes one off leaves the other good.
    first = content.index(b"DKIM-Signature", 1)
    assert await verified(content[first:]) == {OPERATOR: True}


@pytest.mark.parametrize(("recipient", "operator"), [("taro@readers.test", False), ("taro@far.test", True)])
async def test_elsewhere_and_without_the_operators_domain_one_signature_is_enough(
    world: World, settings: Any, recipient: str, operator: bool
) -> None:
    await sign_as(world, settings, operator=operator)

    content, _ = await received(world, recipient, stream="transactional")

    assert await verified(content) == {"acme.example": True}
    assert b"Feedback" not in content.split(b"\r\n\r\n")[0].replace(b"Feedback-ID:Feedback-ID", b"").replace(
        b":Feedback-ID", b""
    )


async def test_a_kept_reverse_path_leaves_a_signed_token(world: World) -> None:
    await in_thread(lambda: SendingDomain.objects.filter(name="acme.example").update(keeps_reverse_path=True))

    content, recipient_id = await received(world, "taro@far.test", stream="transactional")

    token = email.message_from_bytes(content)["X-Feedback-Token"]
    tag = read_feedback_token(token, keys=sealing.derived_keys("feedback"))
    assert tag is not None and tag.recipient_id == recipient_id
