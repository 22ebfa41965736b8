"""What is accepted, what is refused and why, and that a refusal leaves nothing behind."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
import zstandard
from django.utils import timezone

from accounts.identifiers import uuid7
from accounts.models import CredentialUse
from delivery.acceptance import rejections
from delivery.acceptance.accept import check_mail, check_recipient
from delivery.acceptance.policies import hops
from delivery.acceptance.store import Durability
from delivery.core import replies
from delivery.core.envelope import parse_mail, parse_rcpt
from delivery.core.replies import OwnReply, Rejection
from delivery.models import SendingDomain
from tests.support.engine_room import Room, World, in_thread, mail

STORED = ("delivery_message", "delivery_recipient", "delivery_content", "delivery_event", "delivery_queue_entry")


async def refused(room: Room, sending: Coroutine[Any, Any, Any]) -> OwnReply:
    """The refusal, after a look at what was stored: nothing."""
    with pytest.raises(Rejection) as caught:
        await sending
    for table in STORED:
        assert await room.value(f"SELECT count(*) FROM {table}") == 0, table
    return caught.value.reply


async def test_an_accepted_message_is_committed_with_its_trace_and_missing_fields(world: World):
    async with Room(world) as room:
        message_id = await room.send("someone@far.test")

        (message,) = await room.rows("SELECT * FROM delivery_message WHERE id = %s", message_id)
        assert (message.author, message.subject) == ("shop@acme.example", "こんにちは")
        assert message.header_message_id == f"<{message_id}@acme.example>"
        recipient, entry = await room.recipient(message_id), await room.entry(message_id)
        assert (recipient.state, entry.recipient_id, entry.attempts) == ("queued", recipient.id, 0)
        assert await room.events(message_id) == ["accepted"]


async def test_repeated_recipients_are_merged(world: World):
    async with Room(world) as room:
        message_id = await room.send("a@far.test", "b@far.test", "a@FAR.test")

        assert [row.address for row in await room.recipients(message_id)] == ["a@far.test", "b@far.test"]


async def test_a_test_credentials_mail_ends_suppressed_and_is_never_queued(world: World):
    async with Room(world) as room:
        message_id = await room.send("someone@far.test", principal=world.principal(is_test=True))

        recipient = await room.recipient(message_id)
        assert (recipient.state, recipient.reason) == ("suppressed", "test")
        assert await room.value("SELECT count(*) FROM delivery_queue_entry") == 0
        assert sorted(await room.events(message_id)) == ["accepted", "suppressed"]


@pytest.mark.parametrize(
    ("author", "reverse_path", "fields", "reply"),
    [
        ("x@globex.example", "shop@acme.example", (), replies.AUTHOR_NOT_VERIFIED),
        ("x@nobodys.example", "shop@acme.example", (), replies.AUTHOR_NOT_VERIFIED),
        ("x@acme.example.evil.example", "shop@acme.example", (), replies.AUTHOR_NOT_VERIFIED),
        ("shop@acme.example", "x@globex.example", (), replies.REVERSE_PATH_NOT_VERIFIED),
        ("shop@acme.example", "shop@acme.example", ("Sender: x@globex.example",), replies.SENDER_NOT_VERIFIED),
        ("shop@acme.example", None, (), replies.NULL_REVERSE_PATH_REFUSED),
        ("a@acme.example, b@acme.example", "shop@acme.example", (), replies.FROM_NOT_SINGLE),
        ("shop@acme.example", "shop@acme.example", ("From: x@acme.example",), replies.FROM_NOT_SINGLE),
    ],
)
async def test_nobody_writes_in_anothers_name(
    world: World, author: str, reverse_path: str | None, fields: tuple[str, ...], reply: OwnReply
):
    async with Room(world) as room:
        content = mail(*fields, author=author)

        assert await refused(room, room.send("a@far.test", content=content, reverse_path=reverse_path)) == reply


async def test_a_foreign_reply_to_is_nobodys_business(world: World):
    async with Room(world) as room:
        await room.send("a@far.test", content=mail("Reply-To: x@globex.example"))


async def test_a_verified_domain_covers_its_subdomains(world: World):
    async with Room(world) as room:
        await room.send("a@far.test", content=mail(author="a@news.eu.acme.example"), reverse_path="b@news.acme.example")


async def test_a_subdomain_is_not_covered_where_that_is_switched_off(world: World):
    await in_thread(SendingDomain.objects.filter(name="acme.example").update, covers_subdomains=False)
    async with Room(world) as room:
        sending = room.send("a@far.test", content=mail(author="a@news.acme.example"))

        assert await refused(room, sending) == replies.AUTHOR_NOT_VERIFIED


@pytest.mark.parametrize("covers_subdomains", [True, False])
@pytest.mark.parametrize("author", ["a@news.acme.example", "a@deep.news.acme.example"])
async def test_a_subdomain_that_another_tenant_verified_is_not_ours(world: World, author: str, covers_subdomains: bool):
    await in_thread(
        SendingDomain.objects.create,
        tenant=world.cast.globex,
        name="news.acme.example",
        state="verified",
        ownership_token="-",
        covers_subdomains=covers_subdomains,
    )
    async with Room(world) as room:
        sending = room.send("a@far.test", content=mail(author=author))

        assert await refused(room, sending) == replies.AUTHOR_NOT_VERIFIED


async def test_a_lapsed_domain_may_not_send(world: World):
    await in_thread(SendingDomain.objects.filter(name="acme.example").update, state="lapsed")
    async with Room(world) as room:
        assert await refused(room, room.send("a@far.test")) == replies.AUTHOR_NOT_VERIFIED


async def test_before_a_domain_is_verified_members_get_mail_from_the_onboarding_domain(world: World, settings: Any):
    author = f"acme@{settings.ONBOARDING_DOMAIN}"
    member = world.cast.alice

    def begin_anew() -> None:
        SendingDomain.objects.filter(tenant=world.cast.acme).delete()
        member.email_confirmed_at = timezone.now()
        member.save()

    await in_thread(begin_anew)
    async with Room(world) as room:
        content = mail(author=author)
        stranger = room.send("someone@far.test", content=content, reverse_path=author)
        assert await refused(room, stranger) == replies.RECIPIENT_NOT_ALLOWED_YET

        await room.send(member.email.upper(), content=content, reverse_path=author)


async def test_the_onboarding_domain_is_over_once_a_domain_is_verified(world: World, settings: Any):
    author = f"acme@{settings.ONBOARDING_DOMAIN}"
    async with Room(world) as room:
        sending = room.send(world.cast.alice.email, content=mail(author=author), reverse_path=author)

        assert await refused(room, sending) == replies.AUTHOR_NOT_VERIFIED


async def test_a_mail_server_may_send_with_the_null_reverse_path(world: World):
    async with Room(world) as room:
        principal = world.principal(credential_use=CredentialUse.MAIL_SERVER)

        message_id = await room.send("a@far.test", principal=principal, reverse_path=None)

        assert await room.value("SELECT reverse_path FROM delivery_message WHERE id = %s", message_id) == ""


@pytest.mark.parametrize(
    ("changes", "fields", "reply"),
    [
        ({"max_message_bytes": 50}, (), replies.TOO_LARGE),
        ({"max_recipients": 1}, (), replies.TOO_MANY_RECIPIENTS),
        ({"tenant_state": "suspended"}, (), replies.TENANT_SUSPENDED),
        ({"only_domain": "news.acme.example"}, (), replies.AUTHOR_NOT_VERIFIED),
        ({}, ("Received: by nowhere",) * 51, replies.MAIL_LOOP),
        ({}, ("Received: by nowhere",) * 101, replies.MAIL_LOOP),
    ],
)
async def test_limits_refuse(world: World, changes: dict[str, Any], fields: tuple[str, ...], reply: OwnReply):
    async with Room(world) as room:
        content = "\r\n".join([*fields, ""]).lstrip("\r\n").encode() + mail()
        sending = room.send("a@far.test", "b@far.test", principal=world.principal(**changes), content=content)

        assert await refused(room, sending) == reply


async def test_mail_that_comes_back_to_us_for_the_same_recipient_is_a_loop(world: World):
    async with Room(world) as room:
        first = await room.send("list@far.test")
        compressed = await room.value("SELECT compressed FROM delivery_content WHERE message_id = %s", first)
        returned = (
            b"Received: from mx.far.test by home.acme.example; today\r\n"
            + zstandard.ZstdDecompressor().decompress(compressed)
        )

        with pytest.raises(Rejection) as caught:
            await room.send("bob@far.test", "list@far.test", content=returned)
        assert caught.value.reply == replies.MAIL_LOOP
        # Forwarded to somebody else it goes on, and another tenant learns nothing of whom it went to.
        await room.send("bob@far.test", content=returned)
        foreign = returned.replace(b"From: shop@acme.example", b"From: info@globex.example")
        globex = world.principal(world.cast.globex)
        await room.send("list@far.test", principal=globex, content=foreign, reverse_path="info@globex.example")
        # The same words from another host are nobody's trace.
        await room.send("list@far.test", content=returned.replace(b"by relay.test", b"by elsewhere.test"))


async def test_our_own_message_id_coming_back_again_and_again_is_a_loop(world: World):
    async with Room(world) as room:
        first = await room.send("list@far.test", content=mail().replace(b"Message-ID", b"X-Was"))
        own = await room.value("SELECT header_message_id FROM delivery_message WHERE id = %s", first)
        assert str(first) in own
        # Whoever passes it on has taken our trace fields out.
        stripped = f"Message-ID: {own}\r\n".encode() + mail().replace(b"Message-ID", b"X-Was")
        for _time in range(hops.MOST_TIMES_SEEN - 1):
            await room.send("list@far.test", content=stripped)

        with pytest.raises(Rejection) as caught:
            await room.send("list@far.test", content=stripped)
        assert caught.value.reply == replies.MAIL_LOOP
        # To others it goes on, and so does an id in our form that is none of ours.
        await room.send("bob@far.test", content=stripped)
        for _time in range(hops.MOST_TIMES_SEEN + 1):
            await room.send("list@far.test", content=stripped.replace(str(first).encode(), str(uuid7()).encode()))


async def test_what_is_certain_at_mail_and_rcpt_is_refused_there(world: World):
    async with Room(world) as room:
        acme, suspended = world.principal(max_message_bytes=1000), world.principal(tenant_state="suspended")
        for argument, principal, reply in (
            (b"FROM:<a@acme.example> SIZE=1001", acme, replies.TOO_LARGE),
            (b"FROM:<a@globex.example>", acme, replies.REVERSE_PATH_NOT_VERIFIED),
            (b"FROM:<>", acme, replies.NULL_REVERSE_PATH_REFUSED),
            (b"FROM:<a@acme.example>", suspended, replies.TENANT_SUSPENDED),
        ):
            with pytest.raises(Rejection) as caught:
                await check_mail(parse_mail(argument), principal=principal, store=room.store)
            assert caught.value.reply == reply
        with pytest.raises(Rejection):
            await check_recipient(parse_rcpt(b"TO:<a@far.test>"), principal=suspended, store=room.store)
        await check_mail(parse_mail(b"FROM:<a@acme.example> SIZE=1000"), principal=acme, store=room.store)


async def test_refusals_are_counted_by_kind_and_minute_and_their_log_is_bounded(world: World, monkeypatch: Any):
    monkeypatch.setattr(rejections, "MOST_ROWS", 80)
    rejection = Rejection(replies.AUTHOR_NOT_VERIFIED)

    async def log(times: int, **options: Any) -> None:
        for number in range(times):
            told = {name: value.format(number) for name, value in options.items()}
            await room.store.log_rejection(
                rejection,
                principal=world.principal(),
                **{"peer_address": "192.0.2.7", "author_domain": "x.example", **told},
            )

    async with Room(world) as room:
        await log(3)
        assert await room.value("SELECT sum(count) FROM delivery_rejectionentry") == 3
        assert await room.value("SELECT count(*) FROM delivery_rejectionentry") <= 2  # a minute may have passed

        await log(200, author_domain="domain{}.example")
        assert await room.value("SELECT count(*) FROM delivery_rejectionentry") <= 2 + 50 + 2
        assert await room.value("SELECT sum(count) FROM delivery_rejectionentry") == 203

        await log(100, peer_address="198.51.100.{}")
        assert await room.value("SELECT count(*) FROM delivery_rejectionentry") == 80


async def test_a_log_that_cannot_be_written_does_not_disturb_the_refusal(world: World):
    async with Room(world) as room:
        await room.store.pool.close()

        await room.store.log_rejection(
            Rejection(replies.TOO_LARGE), principal=world.principal(), peer_address="192.0.2.7"
        )


@pytest.mark.parametrize(
    ("durability", "is_safe"),
    [
        (Durability("on", "on", "on"), True),
        (Durability("on", "remote_apply", "on"), True),
        (Durability("off", "on", "on"), False),
        (Durability("on", "off", "on"), False),
        (Durability("on", "local", "on"), False),
        (Durability("on", "on", "off"), False),
    ],
)
def test_a_commit_is_a_promise_only_with_safe_settings(durability: Durability, is_safe: bool):
    assert durability.is_safe is is_safe


async def test_the_store_is_not_ready_over_unsafe_settings_and_says_which(world: World):
    async with Room(world) as room:  # the server of the tests runs without fsync
        assert (await room.store.durability()).fsync == "off"
        assert not room.store.is_ready
