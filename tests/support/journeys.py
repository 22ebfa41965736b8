"""The cast (alice and bob of Acme, charlie of Globex) and finished journeys of mail, written straight into the tables.

For tests of what is shown: acceptance, engine and transport have tests of their own. ``populate`` fills a development
database with one recipient of every kind, to look at.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import zstandard
from django.conf import settings
from django.contrib.auth.hashers import make_password

from accounts.identifiers import uuid7, uuid7_at
from accounts.models import Credential, Membership, Role, Tenant, User
from delivery import foundation
from delivery.models import (
    Attempt,
    Content,
    DeliveryEvent,
    DomainRoute,
    Lane,
    Message,
    ProviderGroup,
    QueueEntry,
    Recipient,
    RejectionEntry,
    SourcePool,
    Stream,
)

PASSWORD = "correct horse battery staple"


@dataclass(frozen=True)
class Cast:
    acme: Tenant
    globex: Tenant
    alice: User  # owns Acme
    bob: User  # a developer of Acme
    charlie: User  # owns Globex
    olivia: User  # operates the installation, member of nothing


@cache
def _hashed_password(_hasher: str) -> str:
    """Made once for each hasher that tests use: Argon2 is meant to be slow."""
    return make_password(PASSWORD)


def make_cast() -> Cast:
    acme = Tenant.objects.create(slug="acme", name="Acme", time_zone="Asia/Tokyo")
    globex = Tenant.objects.create(slug="globex", name="Globex", time_zone="UTC")
    password = _hashed_password(settings.PASSWORD_HASHERS[0])
    people = {
        name: User.objects.create(
            email=f"{name}@{domain}", password=password, name=name.title(), is_operator=name == "olivia"
        )
        for name, domain in (
            ("alice", "acme.example"),
            ("bob", "acme.example"),
            ("charlie", "globex.example"),
            ("olivia", "relay.example"),
        )
    }
    for tenant in (acme, globex):
        foundation.give_streams(tenant)
    Membership.objects.create(tenant=acme, user=people["alice"], role=Role.OWNER)
    Membership.objects.create(tenant=acme, user=people["bob"], role=Role.DEVELOPER)
    Membership.objects.create(tenant=globex, user=people["charlie"], role=Role.OWNER)
    return Cast(acme, globex, **people)


@dataclass(frozen=True, kw_only=True)
class Try:
    """One attempt: what the receiving side said, and what we made of it."""

    reply: str = "250 2.0.0 OK"
    phase: str = "eod"
    origin: str = "peer"
    reply_class: str = ""
    action: str = ""
    scope: str = ""
    rule: str = ""
    host: str = "mx1.example.net"
    after: timedelta = timedelta(seconds=1)
    took: timedelta = timedelta(milliseconds=480)
    is_ambiguous: bool = False
    transcript: list[list[Any]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Fate:
    """What became of one recipient."""

    address: str
    state: str = "delivered"
    tries: tuple[Try, ...] = (Try(),)
    reason: str = ""
    next_attempt_in: timedelta | None = None
    returned_after: timedelta | None = None
    returned_class: str = ""
    group: str = ""
    is_claimed: bool = False


CONTENT = (
    "Message-ID: <20261124.1@acme.example>\r\n"
    "Date: Tue, 24 Nov 2026 14:31:40 +0900\r\n"
    "From: =?utf-8?B?44Ki44Kv44Of?= <shop@acme.example>\r\n"
    "To: taro@example.jp\r\n"
    "Subject: =?utf-8?B?44GU5rOo5paH44Gu56K66KqNICMxMjM0?=\r\n"
    "MIME-Version: 1.0\r\n"
    'Content-Type: multipart/alternative; boundary="b1"\r\n'
    "\r\n"
    "--b1\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    "ご注文ありがとうございます。\r\n.先頭が点の行です。\r\n\r\n"
    "--b1\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    "<h1 style='color:#066fd1'>ご注文ありがとうございます。</h1>"
    "<p>お届けは<b>明日</b>の予定です。</p><img src='https://img.acme.example/logo.png' alt='ロゴ'>"
    "<script>document.title = 'owned'</script>\r\n"
    "--b1--\r\n"
).encode()


def write_message(
    tenant: Tenant,
    *fates: Fate,
    accepted_at: datetime | None = None,
    author: str = "shop@acme.example",
    subject: str = "ご注文の確認 #1234",
    content: bytes | None = CONTENT,
    credential: Credential | None = None,
    is_test: bool = False,
) -> Message:
    """Writes a message whose recipients have met these fates; returns the Message."""
    accepted_at = accepted_at or datetime.now(tz=UTC) - timedelta(minutes=5)
    stream = Stream.objects.of(tenant).get(is_default=True)
    message = Message.objects.create(
        id=uuid7(accepted_at),
        tenant=tenant,
        credential=credential,
        stream=stream,
        accepted_at=accepted_at,
        expires_at=accepted_at + timedelta(days=4),
        reverse_path=author,
        author=author,
        author_domain=author.partition("@")[2],
        subject=subject,
        header_message_id="<20261124.1@acme.example>",
        size_bytes=len(content or b""),
        recipient_count=len(fates),
        body_type="8BITMIME",
        protocol="ESMTPSA",
        peer_address="192.0.2.77",
        peer_ehlo="app1.acme.example",
        is_test=is_test,
        retention_days=7,
    )
    if content is not None:
        Content.objects.create(
            message_id=message.id, retention_days=7, compressed=zstandard.ZstdCompressor().compress(content)
        )
    for fate in fates:
        group = None
        if fate.group:
            group, _ = ProviderGroup.objects.get_or_create(
                key=fate.group.lower(), defaults={"kind": "provider", "title": fate.group}
            )
        recipient_id = uuid7_at(message.id)
        domain = fate.address.rpartition("@")[2]
        moment, told = accepted_at, fate.tries[-1] if fate.tries else None
        recipient = Recipient.objects.create(
            id=recipient_id,
            message=message,
            tenant=tenant,
            address=fate.address,
            domain=domain,
            group=group,
            state=fate.state,
            state_since=accepted_at,
            reason=fate.reason,
            attempts=len(fate.tries),
            next_attempt_at=None if fate.next_attempt_in is None else datetime.now(tz=UTC) + fate.next_attempt_in,
            phase=told.phase if told else "",
            reply_code=int(told.reply[:3]) if told else None,
            reply=told.reply if told else "",
            reply_class=told.reply_class if told else "",
            action=told.action if told else "",
            scope=told.scope if told else "",
            rule=told.rule if told else "",
            host=told.host if told else "",
            has_ambiguous_attempt=any(one.is_ambiguous for one in fate.tries),
            returned_at=None if fate.returned_after is None else accepted_at + fate.returned_after,
            returned_class=fate.returned_class,
        )
        events = [("accepted", accepted_at, None, {})]
        for number, one in enumerate(fate.tries, start=1):
            began = moment + one.after
            moment = began + one.took
            code, enhanced, text = _parts(one.reply)
            attempt_id = uuid7_at(message.id)
            Attempt.objects.create(
                id=attempt_id,
                message_id=message.id,
                recipient_id=recipient_id,
                tenant=tenant,
                number=number,
                started_at=began,
                ended_at=moment,
                source_address="192.0.2.10" if one.host else None,
                worker="node1/worker-1",
                fence=7,
                host=one.host,
                host_address="198.51.100.25" if one.host else None,
                port=25 if one.host else None,
                phase=one.phase,
                origin=one.origin,
                reply_code=code,
                reply_enhanced=enhanced,
                reply_text=text,
                reply_class=one.reply_class,
                action=one.action,
                scope=one.scope,
                rule=one.rule,
                is_ambiguous=one.is_ambiguous,
                tls_version="TLSv1.3" if one.host else "",
                tls_cipher="TLS_AES_256_GCM_SHA384" if one.host else "",
                transcript=json.dumps(one.transcript or _conversation(one, fate.address, author)).encode(),
            )
            if code < 400:
                kind = "delivered"
            else:
                kind = fate.state if number == len(fate.tries) and fate.state != "queued" else "deferred"
            about = {"reply": one.reply, "attempt": number}
            if one.reply_class:
                about["class"] = one.reply_class
            events.append((kind, moment, attempt_id, about))
        if not fate.tries and fate.state in {"held", "suppressed", "cancelled"}:
            events.append((fate.state, accepted_at, None, {"reason": fate.reason}))
        if fate.returned_after is not None:
            events.append(("returned", accepted_at + fate.returned_after, None, {"class": fate.returned_class}))
        DeliveryEvent.objects.bulk_create(
            DeliveryEvent(
                id=uuid7_at(message.id),
                message_id=message.id,
                recipient_id=recipient_id,
                tenant=tenant,
                kind=kind,
                occurred_at=at,
                attempt_id=attempt_id,
                data=data,
            )
            for kind, at, attempt_id, data in events
        )
        Recipient.objects.filter(id=recipient_id).update(state_since=moment)
        if fate.state in {"queued", "deferred", "held"}:
            route_group = group or ProviderGroup.objects.get(kind="unrouted")
            route, _ = DomainRoute.objects.get_or_create(domain=domain, defaults={"group": route_group})
            lane, _ = Lane.objects.get_or_create(
                pool=SourcePool.objects.get(name="default"),
                group=route_group,
                tenant=tenant,
                stream=stream,
                pinned_source=None,
            )
            QueueEntry.objects.create(
                recipient_id=recipient_id,
                message_id=message.id,
                tenant_id=tenant.id,
                lane_id=lane.id,
                domain_route_id=route.id,
                accepted_at=accepted_at,
                next_attempt_at=recipient.next_attempt_at or accepted_at,
                attempts=len(fate.tries),
                held_reason=(fate.reason or "policy") if fate.state == "held" else None,
                path_id=1 if fate.is_claimed else None,
            )
    return message


def _parts(reply: str) -> tuple[int, str, str]:
    code, _, rest = reply.partition(" ")
    first, _, others = rest.partition(" ")
    if first.count(".") == 2 and first.replace(".", "").isdigit():
        return int(code), first, others
    return int(code), "", rest


def _conversation(one: Try, recipient: str, author: str) -> list[list[Any]]:
    if not one.host:
        return [[0, "*", "looking up MX hosts"], [31, "*", one.reply]]
    lines: list[list[Any]] = [
        [0, "*", f"connecting to {one.host} [198.51.100.25]:25 from 192.0.2.10"],
        [24, "<", f"220 {one.host} ESMTP ready"],
        [24, ">", "EHLO mx1.relay.example"],
        [
            41,
            "<",
            f"250-{one.host} greets mx1.relay.example\n250-PIPELINING\n250-SIZE 35882577\n250-STARTTLS\n250 8BITMIME",
        ],
        [41, ">", "STARTTLS"],
        [58, "<", "220 2.0.0 Ready to start TLS"],
        [96, "*", "TLSv1.3, TLS_AES_256_GCM_SHA384"],
        [97, ">", f"MAIL FROM:<{author}> BODY=8BITMIME"],
        [97, ">", f"RCPT TO:<{recipient}>"],
        [97, ">", "DATA"],
        [140, "<", "250 2.1.0 Ok"],
    ]
    if one.phase == "rcpt":
        return [*lines, [141, "<", one.reply]]
    return [
        *lines,
        [141, "<", "250 2.1.5 Ok"],
        [142, "<", "354 End data with <CR><LF>.<CR><LF>"],
        [150, ">", "(content, 1,204 octets)"],
        [480, "*" if one.is_ambiguous else "<", one.reply],
    ]


_GREYLISTED = Try(
    reply="451 4.7.1 Greylisting in action, please come back later",
    phase="rcpt",
    reply_class="greylist",
    action="retry",
    scope="recipient",
    rule="greylist-words",
)

EXAMPLES: tuple[Fate, ...] = (
    Fate(address="taro@gmail.example", group="Gmail", tries=(Try(reply="250 2.0.0 OK 1764567100 a1-20si mx"),)),
    Fate(
        address="hana@docomo.example",
        group="docomo",
        state="deferred",
        next_attempt_in=timedelta(minutes=9),
        tries=(
            Try(
                reply="421 4.7.0 Try again later, too many messages from your address",
                phase="mail",
                reply_class="rate_limit",
                action="slow",
                scope="address_provider",
                rule="docomo-pace",
                host="mfsmax.docomo.example",
            ),
        )
        * 2,
    ),
    Fate(
        address="jiro@nosuch.example",
        state="bounced",
        tries=(
            Try(
                reply="550 5.1.2 the domain nosuch.example does not exist (NXDOMAIN)",
                phase="routing",
                origin="dns",
                reply_class="bad_domain",
                action="fail",
                scope="recipient",
                rule="dns-nxdomain",
                host="",
            ),
        ),
    ),
    Fate(
        address="unknown@corp.example",
        state="bounced",
        tries=(
            Try(
                reply="550 5.1.1 <unknown@corp.example>: Recipient address rejected: User unknown in local table",
                phase="rcpt",
                reply_class="bad_mailbox",
                action="fail_and_count",
                scope="recipient",
                rule="enhanced-5.1.1",
            ),
        ),
    ),
    Fate(
        address="ken@corp.example",
        tries=(Try(),),
        returned_after=timedelta(minutes=4),
        returned_class="mailbox_full",
    ),
    Fate(address="grey@school.example", state="deferred", next_attempt_in=timedelta(minutes=3), tries=(_GREYLISTED,)),
    Fate(
        address="dropped@old.example",
        state="deferred",
        next_attempt_in=timedelta(minutes=14),
        tries=(
            Try(
                reply="421 4.4.2 connection lost after the final dot",
                origin="network",
                reply_class="transient",
                action="retry",
                scope="message",
                rule="network",
                is_ambiguous=True,
            ),
        ),
    ),
    Fate(
        address="slow@tar.example",
        state="expired",
        tries=(
            Try(
                reply="451 4.3.2 System is busy",
                reply_class="transient",
                action="retry",
                scope="message",
                after=timedelta(seconds=30),
            ),
        )
        * 6,
    ),
    Fate(address="new@waiting.example", state="queued", tries=()),
    Fate(address="now@waiting.example", state="queued", tries=(), is_claimed=True),
    Fate(address="kept@lapsed.example", state="held", reason="domain_lapsed", tries=()),
    Fate(address="stop@quiet.example", state="suppressed", reason="suppression", tries=()),
    Fate(address="oops@acme.example", state="cancelled", reason="bob@acme.example", tries=()),
    Fate(
        address="blocked@icloud.example",
        group="iCloud",
        state="deferred",
        next_attempt_in=timedelta(minutes=29),
        tries=(
            Try(
                reply="550 5.7.1 Service unavailable; Client host [192.0.2.10] blocked using a DNSBL",
                phase="connect",
                reply_class="ip_block",
                action="suspend",
                scope="address_provider",
                rule="dnsbl-words",
            ),
        ),
    ),
    Fate(
        address="odd@strange.example",
        state="deferred",
        next_attempt_in=timedelta(minutes=5),
        tries=(Try(reply="499 Computer says no", reply_class="unclassified", action="retry", scope="message"),),
    ),
)


def write_examples(tenant: Tenant, *, now: datetime | None = None) -> list[Message]:
    """A day in the life of a tenant: every state, several reasons, odd names."""
    now = now or datetime.now(tz=UTC)
    credential = Credential.objects.create(
        tenant=tenant, kind="smtp", name="shop", username=f"{tenant.slug}.k3x9aa", secret_sha256=b"0" * 32
    )
    subjects = ("ご注文の確認 #1234", "ようこそ、アクミへ", "Your invoice for November", "", "見積書をお送りします")
    messages = [
        write_message(
            tenant,
            fate,
            accepted_at=now - timedelta(minutes=3 + 11 * index, seconds=index * 7),
            subject=subjects[index % len(subjects)],
            author="shop@acme.example" if index % 3 else "sales@acme.example",
            credential=credential,
        )
        for index, fate in enumerate(EXAMPLES)
    ]
    messages.append(
        write_message(
            tenant,
            *EXAMPLES[:5],
            *(replace(EXAMPLES[0], address=f"reader{number}@news.example") for number in range(30)),
            accepted_at=now - timedelta(minutes=1),
            subject="11月のニュースレター",
            credential=credential,
        )
    )
    messages.append(
        write_message(
            tenant,
            Fate(address="someone@anywhere.example", state="suppressed", reason="test", tries=()),
            accepted_at=now - timedelta(hours=3),
            subject="試験送信",
            is_test=True,
        )
    )
    for day in range(1, 5):
        for number in range(18):
            write_message(
                tenant,
                replace(EXAMPLES[number % 4 if number % 5 == 0 else 0], address=f"customer{number}@mail{day}.example"),
                accepted_at=now - timedelta(days=day, minutes=number * 13),
                subject=subjects[number % len(subjects)],
                content=None if number % 2 else CONTENT,
                credential=credential,
            )
    return messages


def write_rejections(tenant: Tenant) -> None:
    now = datetime.now(tz=UTC)
    for index, (code, enhanced, text, reason, domain) in enumerate(
        (
            (550, "5.7.1", "author domain not verified for this account", "author_not_verified", "gmail.com"),
            (535, "5.7.8", "authentication failed", "authentication_failed", ""),
            (552, "5.3.4", "message too large", "too_large", "acme.example"),
            (554, "5.6.0", "a line is longer than 998 octets", "line_too_long", "acme.example"),
            (451, "4.3.0", "temporary local problem, try again later", "local_trouble", ""),
        )
    ):
        moment = now - timedelta(minutes=7 * index)
        RejectionEntry.objects.create(
            id=uuid7(moment),
            tenant=tenant,
            minute=moment.replace(second=0, microsecond=0),
            last_at=moment,
            count=1 + index * 3,
            code=code,
            enhanced=enhanced,
            text=text,
            reason=reason,
            author_domain=domain,
            peer_address="192.0.2.77",
            reference=f"r{index}k3x9",
        )


def populate() -> None:
    """For looking at: ``manage.py shell -c "from tests.support import journeys; journeys.populate()"``."""
    cast = make_cast()
    write_examples(cast.acme)
    write_rejections(cast.acme)
