"""A mail as programs describe it, and the submission it becomes. Strict: what is not understood is refused, not ignored.

The structures here are read by msgspec straight from the body, which is what makes large batches cheap; the documentation
is made from the same structures. Every door (our own, and those compatible with other services) ends in `submission_of`.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.errors import MessageError
from email.utils import getaddresses
from typing import Annotated, Any

import msgspec
from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext_noop as _

from accounts.authentication import Principal
from delivery.acceptance import controls as acceptance_controls
from delivery.acceptance.controls import MOST_METADATA, MOST_TAGS, SCHEDULED_AT_MOST, ControlError
from delivery.acceptance.submission import Controls, Once, Peer, Submission, TlsRequirement
from delivery.core.compose import Attachment, ComposeError, Composition, Named, compose, refuse_breaks, substitute
from delivery.core.content import ContentError, HeaderField, author_of, read_header_section
from delivery.core.envelope import BODY_7BIT, BODY_8BITMIME, Envelope, EnvelopeRecipient
from delivery.core.mailbox import Mailbox, MailboxSyntaxError, parse_mailbox
from delivery.core.replies import Rejection
from relayweb.api.problems import Problem, invalid, of_validation

BATCH_AT_MOST = 500


class AddressObject(msgspec.Struct, forbid_unknown_fields=True, rename={"address": "email"}):
    address: Annotated[str, msgspec.Meta(max_length=400)]
    name: Annotated[str, msgspec.Meta(max_length=400)] = ""


Address = Annotated[str, msgspec.Meta(max_length=1000, description=_("`a@b.example` or `Name <a@b.example>`"))]
Addresses = Address | AddressObject | list[Address | AddressObject]


class File(msgspec.Struct, forbid_unknown_fields=True):
    content: Annotated[bytes, msgspec.Meta(description=_("base64"))]
    filename: Annotated[str, msgspec.Meta(max_length=255)] = ""
    content_type: Annotated[str, msgspec.Meta(max_length=255)] = "application/octet-stream"
    content_id: Annotated[
        str, msgspec.Meta(max_length=250, description=_("shown within the HTML that names it as `cid:`"))
    ] = ""


class Mail(msgspec.Struct, forbid_unknown_fields=True, rename={"author": "from"}, kw_only=True):
    """One mail. Either `raw`, or the parts it is written from."""

    author: Address | AddressObject | None = None
    to: Addresses = []
    cc: Addresses = []
    bcc: Addresses = []
    reply_to: Addresses = []
    subject: Annotated[str, msgspec.Meta(max_length=998)] = ""
    text: str | None = None
    html: str | None = None
    headers: dict[str, str] = {}
    attachments: Annotated[list[File], msgspec.Meta(max_length=500)] = []
    raw: Annotated[
        bytes | None, msgspec.Meta(description=_("a whole mail (RFC 5322) in base64; `to` is then its envelope"))
    ] = None
    variables: Annotated[
        dict[str, str], msgspec.Meta(description=_("fill `{{name}}` in subject, text and html of this mail"))
    ] = {}
    tags: Annotated[list[str], msgspec.Meta(max_length=MOST_TAGS)] = []
    metadata: Annotated[dict[str, str], msgspec.Meta(max_length=MOST_METADATA)] = {}
    stream: Annotated[str, msgspec.Meta(max_length=48)] = ""
    pool: Annotated[
        str, msgspec.Meta(max_length=48, description=_("one of the tenant's own, or one a stream uses"))
    ] = ""
    tls: (
        Annotated[TlsRequirement, msgspec.Meta(description=_("not without encryption, or not without a proved name"))]
        | None
    ) = None
    send_at: Annotated[datetime, msgspec.Meta(tz=True, description=_("at most 72 hours ahead"))] | None = None
    lifetime_seconds: Annotated[int, msgspec.Meta(ge=60, le=604_800)] | None = None


class Batch(msgspec.Struct, forbid_unknown_fields=True):
    """Many mails; `defaults` holds what they have in common, and each mail's own fields win."""

    messages: Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1, max_length=BATCH_AT_MOST)]
    defaults: dict[str, Any] = {}


class BatchOfMails(msgspec.Struct, forbid_unknown_fields=True):
    """As the document shows a batch: what is read later is written out."""

    messages: Annotated[list[Mail], msgspec.Meta(min_length=1, max_length=BATCH_AT_MOST)]
    defaults: Annotated[Mail | msgspec.UnsetType, msgspec.Meta(description=_("what the mails have in common"))] = (
        msgspec.UNSET
    )


def read_mail(body: bytes | msgspec.Raw) -> Mail:
    """Raises Problem."""
    return _read(lambda: msgspec.json.decode(body, type=Mail))


def read_batch(body: bytes) -> list[Mail | Problem]:
    """Raises Problem where the batch itself cannot be read; what a single mail has wrong stays its own."""
    batch = _read(lambda: msgspec.json.decode(body, type=Batch))
    return [_read_item(item, batch.defaults) for item in batch.messages]


def _read_item(item: msgspec.Raw, defaults: Mapping[str, Any]) -> Mail | Problem:
    try:
        if not defaults:
            return read_mail(item)
        own = _read(lambda: msgspec.json.decode(item, type=dict[str, Any]))
        return _read(lambda: msgspec.convert({**defaults, **own}, Mail))
    except Problem as problem:
        return problem


def decode_json(body: bytes, kind: Any) -> Any:
    """The body read into a structure. Raises Problem."""
    return _read(lambda: msgspec.json.decode(body, type=kind))


def _read(decode: Any) -> Any:
    try:
        return decode()
    except msgspec.ValidationError as error:
        raise of_validation(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, "malformed_request", f"The body is not JSON: {error}") from None


# ---------------------------------------------------------------- addresses


def read_address(given: str | AddressObject, *, part: str) -> Named:
    """``a@b``, ``Name <a@b>``, or the two apart. Raises Problem."""
    text, name = (given, "") if isinstance(given, str) else (given.address, given.name)
    try:
        refuse_breaks(text, part=part)
        refuse_breaks(name, part=part)
        if isinstance(given, str) and text.endswith(">"):
            name, _, text = text[:-1].rpartition("<")
            name = _unquoted(name.strip())
        return Named(parse_mailbox(text.strip(" ")), name)
    except ComposeError as error:
        raise invalid(part, error.sentence) from None
    except MailboxSyntaxError as error:
        raise invalid(part, str(error)) from None


def _unquoted(name: str) -> str:
    if len(name) >= 2 and name[0] == name[-1] == '"':
        return name[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    return name


def read_addresses(given: Addresses, *, part: str) -> list[Named]:
    if not isinstance(given, list):
        return [read_address(given, part=part)]
    return [read_address(one, part=f"{part}[{place}]") for place, one in enumerate(given)]


# ---------------------------------------------------------------- what is sent


@dataclass(frozen=True)
class Outgoing:
    """A mail in our own terms, whichever door it came through. ``raw`` stands in place of what follows it."""

    to: Sequence[Named] = ()
    cc: Sequence[Named] = ()
    bcc: Sequence[Named] = ()
    reverse_path: Mailbox | None = None
    raw: bytes | None = None
    author: Named | None = None
    reply_to: Sequence[Named] = ()
    subject: str = ""
    text: str | None = None
    html: str | None = None
    headers: Sequence[tuple[str, str]] = ()
    # X-Relay-* fields: how a door that has no members for them takes our controls all the same.
    control_fields: Sequence[tuple[str, str]] = ()
    attachments: Sequence[Attachment] = ()
    tags: Sequence[str] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    stream: str = ""
    pool: str = ""
    tls: TlsRequirement | None = None
    send_at: datetime | None = None
    lifetime: timedelta | None = None


def outgoing_of(mail: Mail) -> Outgoing:
    """Raises Problem."""
    controls: dict[str, Any] = {
        "tags": mail.tags,
        "metadata": mail.metadata,
        "stream": mail.stream,
        "pool": mail.pool,
        "tls": mail.tls,
        "send_at": mail.send_at,
        "lifetime": timedelta(seconds=mail.lifetime_seconds) if mail.lifetime_seconds else None,
    }
    to, cc, bcc = (
        read_addresses(given, part=part) for given, part in ((mail.to, "to"), (mail.cc, "cc"), (mail.bcc, "bcc"))
    )
    if mail.raw is not None:
        return _raw_outgoing(mail, to=[*to, *cc, *bcc], controls=controls)
    if mail.author is None:
        raise invalid("from", "a mail needs an author")
    subject, text, html = mail.subject, mail.text, mail.html
    if mail.variables:
        try:
            subject = substitute(subject, mail.variables, part="subject")
            text = text if text is None else substitute(text, mail.variables, part="text")
            html = html if html is None else substitute(html, mail.variables, part="html", is_html=True)
        except ComposeError as error:
            raise invalid(error.part, error.sentence) from None
    return Outgoing(
        to=to,
        cc=cc,
        bcc=bcc,
        author=read_address(mail.author, part="from"),
        reply_to=read_addresses(mail.reply_to, part="reply_to"),
        subject=subject,
        text=text,
        html=html,
        headers=list(mail.headers.items()),
        attachments=[
            Attachment(one.content, one.filename, one.content_type, one.content_id) for one in mail.attachments
        ],
        **controls,
    )


def _raw_outgoing(mail: Mail, *, to: Sequence[Named], controls: dict[str, Any]) -> Outgoing:
    written = {
        "cc": mail.cc, "bcc": mail.bcc, "reply_to": mail.reply_to, "subject": mail.subject, "text": mail.text,
        "html": mail.html, "headers": mail.headers, "attachments": mail.attachments, "variables": mail.variables,
    }  # fmt: skip
    for part, value in written.items():
        if value:
            raise invalid(part, "not together with raw")
    reverse_path = read_address(mail.author, part="from").mailbox if mail.author is not None else None
    assert mail.raw is not None
    return Outgoing(to=to, raw=mail.raw, reverse_path=reverse_path, **controls)


def submission_of(outgoing: Outgoing, *, principal: Principal, address: str, once: Once | None = None) -> Submission:
    """Raises Problem, or Rejection where the content of a raw mail cannot be read safely."""
    reverse_path, recipients, content = _written(outgoing) if outgoing.raw is None else _raw(outgoing)
    if not recipients:
        raise invalid("to", "a mail needs a recipient")
    mailboxes = [reverse_path, *recipients]
    envelope = Envelope(
        reverse_path=reverse_path,
        recipients=tuple(map(EnvelopeRecipient, recipients)),
        body=BODY_7BIT if content.isascii() else BODY_8BITMIME,
        smtputf8=not all(mailbox.is_ascii for mailbox in mailboxes),
    )
    return Submission(
        principal=principal,
        envelope=envelope,
        content=content,
        peer=peer_of(address),
        controls=_controls(outgoing, once),
    )


def peer_of(address: str) -> Peer:
    return Peer(address=address or None, ehlo="api", protocol="API")


def _controls(outgoing: Outgoing, once: Once | None) -> Controls:
    controls = Controls(
        tags=tuple(outgoing.tags),
        metadata=outgoing.metadata,
        stream=outgoing.stream,
        pool=outgoing.pool,
        tls=outgoing.tls,
        send_at=outgoing.send_at,
        lifetime=outgoing.lifetime,
        once=once,
    )
    try:
        return acceptance_controls.check(controls, now=timezone.now())
    except ControlError as error:
        raise invalid(error.part, error.sentence) from None


def check_send_at(moment: datetime) -> None:
    """Raises Problem."""
    if moment > timezone.now() + SCHEDULED_AT_MOST:
        raise invalid("send_at", "at most 72 hours ahead")


def _written(outgoing: Outgoing) -> tuple[Mailbox, list[Mailbox], bytes]:
    assert outgoing.author is not None
    if any(character in outgoing.author.name for character in "<>"):
        # Some readers would take it for another author; acceptance refuses it in raw mail as well.
        raise invalid("from", "the name may not hold angle brackets")
    try:
        content = compose(
            Composition(
                author=outgoing.author,
                boundary=f"=_{secrets.token_hex(12)}",
                to=outgoing.to,
                cc=outgoing.cc,
                reply_to=outgoing.reply_to,
                subject=outgoing.subject,
                text=outgoing.text,
                html=outgoing.html,
                headers=outgoing.headers,
                controls=outgoing.control_fields,
                attachments=outgoing.attachments,
            )
        )
    except ComposeError as error:
        raise invalid(error.part, error.sentence) from None
    recipients = [named.mailbox for named in (*outgoing.to, *outgoing.cc, *outgoing.bcc)]
    return outgoing.reverse_path or outgoing.author.mailbox, recipients, content


# ---------------------------------------------------------------- raw mail


def _raw(outgoing: Outgoing) -> tuple[Mailbox, list[Mailbox], bytes]:
    """A whole mail: its envelope as given, or else from its header; Bcc is never sent."""
    assert outgoing.raw is not None
    content = outgoing.raw
    if b"\r" not in content:
        content = content.replace(b"\n", b"\r\n")
    try:
        section = read_header_section(content)
        author = author_of(section)
    except ContentError as error:
        raise Rejection(error.reply, reason=error.reason) from None
    recipients = [named.mailbox for named in outgoing.to]
    if not recipients:
        recipients = list(_recipients_in(field for name in ("to", "cc", "bcc") for field in section.all(name)))
    if section.all("bcc"):
        kept = b"".join(field.raw for field in section.fields if field.name.lower() != "bcc")
        content = kept + b"\r\n" + content[section.body_start :]
    return outgoing.reverse_path or author.mailbox, recipients, content


def _recipients_in(fields: Iterable[HeaderField]) -> Iterable[Mailbox]:
    for one in fields:
        try:
            for _, address in getaddresses([one.value.decode("utf-8")]):
                yield parse_mailbox(address)
        except (MailboxSyntaxError, UnicodeDecodeError, MessageError, ValueError):
            raise invalid(one.name.lower(), "cannot be read; give the envelope's recipients in `to`") from None


def decode_base64(text: str, *, part: str) -> bytes:
    """Base64 as other clients write it: with line ends, perhaps without padding. Raises Problem."""
    compact = "".join(text.split()).rstrip("=")
    try:
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise invalid(part, "not base64") from None


def most_octets() -> int:
    """A body that holds the largest mail in base64, and some more."""
    return settings.MAX_MESSAGE_BYTES * 3 // 2 + 1024 * 1024
