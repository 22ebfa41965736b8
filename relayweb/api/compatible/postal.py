"""The door for clients of Postal: POST /api/v1/send/message and /api/v1/send/raw with ``X-Server-API-Key``.

As in Postal an answer is 200 and says in ``status`` whether it was one; only where trying again later helps, or there is a
fault of ours, does the status code say so too. What our service cannot do is refused, never left out.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any
from urllib.parse import parse_qs

import msgspec
from drf_spectacular.utils import extend_schema
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from delivery.core.compose import Attachment, Named
from delivery.core.mailbox import Mailbox
from delivery.models import Message
from relayweb.api.compatible.view import CompatibleView, KeyInHeader, split_headers
from relayweb.api.outgoing import Outgoing, decode_base64, decode_json, read_address
from relayweb.api.problems import Problem
from relayweb.api.sending import key_of, send_one
from relayweb.api.v1.sending import JsonOctets, make_submission

MOST_ADDRESSES = 50  # in each of To, Cc and Bcc, as in Postal

_CODES = {
    "authentication_required": "InvalidServerAPIKey",
    "tenant_suspended": "ServerSuspended",
    "no_recipients": "NoRecipients",
    "author_not_verified": "UnauthenticatedFromAddress",
    "author_outside_credential": "UnauthenticatedFromAddress",
    "onboarding_over": "UnauthenticatedFromAddress",
    "sender_not_verified": "UnauthenticatedFromAddress",
    "from_not_single": "FromAddressMissing",
}
# Beside these every refusal is a 200: Postal's clients look into the body.
_STATUS_CODES = frozenset({405, 411, 413, 415, 429, 500, 503})
_PARAMETER_WORDS = frozenset({"malformed_request", "invalid_request", "idempotency_key_malformed"})

_Texts = list[str] | str | None


class File(msgspec.Struct):
    name: str | None = None
    data: str | None = None
    content_type: str | None = None


class Mail(msgspec.Struct, forbid_unknown_fields=True, rename={"author": "from"}, kw_only=True):
    """What the real service reads. ``bounce`` is understood and cannot be honoured."""

    to: _Texts = None
    cc: _Texts = None
    bcc: _Texts = None
    author: str | None = None
    sender: str | None = None
    subject: Annotated[str, msgspec.Meta(max_length=998)] | None = None
    tag: str | None = None
    reply_to: str | None = None
    plain_body: str | None = None
    html_body: str | None = None
    attachments: Annotated[list[File], msgspec.Meta(max_length=500)] | None = None
    headers: dict[str, str] | None = None
    bounce: bool | None = None


class Raw(msgspec.Struct, forbid_unknown_fields=True):
    mail_from: str | None = None
    rcpt_to: _Texts = None
    data: str | None = None
    bounce: bool | None = None


class Refusal(Problem):
    """A refusal that Postal has a code for."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(400, "refused", message)
        self.code = code


@dataclass(frozen=True, slots=True)
class _Recipient:
    """``given`` is the address as the client wrote it: the key under which it looks for its answer."""

    given: str
    named: Named


class ServerKey(KeyInHeader):
    field = "X-Server-API-Key"

    def authenticate_header(self, request: Request) -> str:
        return "X-Server-API-Key"


class FormOctets(JsonOctets):
    """Old clients post a form whose ``params`` holds the JSON."""

    media_type = "application/x-www-form-urlencoded"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        try:
            found = parse_qs(stream.read().decode("ascii"), max_num_fields=10)
        except ValueError:
            found = {}
        return found.get("params", [""])[0].encode()


class PostalView(CompatibleView):
    authentication_classes = (ServerKey,)  # type: ignore[assignment]
    parser_classes: Sequence[type[BaseParser]] = (JsonOctets, FormOctets)

    def initialize_request(self, request: Any, *args: Any, **kwargs: Any) -> Request:
        self._began = time.monotonic()
        return super().initialize_request(request, *args, **kwargs)

    def send(self, outgoing: Outgoing, recipients: Iterable[_Recipient], body: bytes) -> Response:
        result = send_one(
            partial(make_submission, outgoing, self.caller),
            principal=self.caller.principal,
            key=key_of(self.request._request, body),
        )
        assert result.receipt is not None
        receipt = result.receipt
        ids = {address: key for key, address in receipt.recipients}
        stored = Message.objects.of(self.tenant).values_list("header_message_id", flat=True)
        response = self._answer(
            "success",
            {
                "message_id": str(stored.get(pk=receipt.message_id)).strip("<> "),
                "messages": {one.given: _entry(ids[one.named.mailbox.address]) for one in recipients},
            },
        )
        if result.is_repeated:
            response["Idempotent-Replayed"] = "true"
        return response

    def refusal(self, problem: Problem, reference: str) -> Response:
        said = problem.detail or problem.word.replace("_", " ")
        code = problem.code if isinstance(problem, Refusal) else _CODES.get(problem.word)
        if problem.word == "authentication_required":
            is_given = bool(self.request.headers.get(ServerKey.field))
            code = code if is_given else "AccessDenied"
            said = f"Send a valid key in {ServerKey.field}"
        data: dict[str, Any] = {"message": said}
        if code is None and problem.word in _PARAMETER_WORDS:
            status = "parameter-error"
        else:
            status = "error"
            data["code"] = code or "".join(word.capitalize() for word in problem.word.split("_"))
        if reference:
            data["reference"] = reference
        return self._answer(status, data, code=problem.status if problem.status in _STATUS_CODES else 200)

    def _answer(self, status: str, data: dict[str, Any], *, code: int = 200) -> Response:
        passed_s = round(time.monotonic() - self._began, 3)
        return Response({"status": status, "time": passed_s, "flags": {}, "data": data}, status=code)


class SendMessage(PostalView):
    @extend_schema(exclude=True)
    def post(self, request: Request) -> Response:
        body = self.body()
        mail = _read(body, Mail)
        to, cc, bcc = (
            _recipients(given, part=part, too_many=too_many)
            for given, part, too_many in (
                (mail.to, "to", "TooManyToAddresses"),
                (mail.cc, "cc", "TooManyCCAddresses"),
                (mail.bcc, "bcc", "TooManyBCCAddresses"),
            )
        )
        return self.send(_outgoing(mail, to, cc, bcc), [*to, *cc, *bcc], body)


class SendRaw(PostalView):
    @extend_schema(exclude=True)
    def post(self, request: Request) -> Response:
        body = self.body()
        raw = _read(body, Raw)
        _refuse_bounce(raw.bounce)
        for name in ("mail_from", "rcpt_to", "data"):
            if not getattr(raw, name):
                raise Problem(400, "invalid_request", f"`{name}` parameter is required but is missing")
        recipients = _recipients(raw.rcpt_to, part="rcpt_to")
        outgoing = Outgoing(
            raw=decode_base64(raw.data or "", part="data"),
            to=[one.named for one in recipients],
            reverse_path=read_address(raw.mail_from or "", part="mail_from").mailbox,
        )
        return self.send(outgoing, recipients, body)


def _entry(recipient_id: Any) -> dict[str, str]:
    return {"id": str(recipient_id), "token": recipient_id.hex[-16:]}


def _read(body: bytes, kind: Any) -> Any:
    if not body:
        raise Problem(400, "malformed_request", "Send JSON with Content-Type: application/json")
    return decode_json(body, kind)


def _outgoing(mail: Mail, to: Sequence[_Recipient], cc: Sequence[_Recipient], bcc: Sequence[_Recipient]) -> Outgoing:
    _refuse_bounce(mail.bounce)
    if not (to or cc or bcc):
        raise Refusal("NoRecipients", "There are no recipients defined to receive this message")
    if not (mail.plain_body or mail.html_body or mail.attachments):
        raise Refusal("NoContent", "There is no content defined for this e-mail")
    if not mail.author:
        raise Refusal("FromAddressMissing", "The From address is missing and is required")
    headers, control_fields = split_headers(mail.headers or {})
    reverse_path: Mailbox | None = None
    if mail.sender:
        reverse_path = read_address(mail.sender, part="sender").mailbox
        if reverse_path != read_address(mail.author, part="from").mailbox:
            headers.append(("Sender", reverse_path.quoted))
    return Outgoing(
        to=[one.named for one in to],
        cc=[one.named for one in cc],
        bcc=[one.named for one in bcc],
        author=read_address(mail.author, part="from"),
        reverse_path=reverse_path,
        reply_to=[read_address(one, part="reply_to") for one in _split(mail.reply_to or "")],
        subject=mail.subject or "",
        text=mail.plain_body or None,
        html=mail.html_body or None,
        headers=headers,
        control_fields=control_fields,
        attachments=[_attachment(file, place) for place, file in enumerate(mail.attachments or [])],
        tags=[mail.tag] if mail.tag else [],
    )


def _attachment(file: File, place: int) -> Attachment:
    if not file.name:
        raise Refusal("AttachmentMissingName", f"An attachment is missing a name (attachments[{place}])")
    if not file.data:
        raise Refusal("AttachmentMissingData", f"An attachment is missing data (attachments[{place}])")
    content = decode_base64(file.data, part=f"attachments[{place}].data")
    return Attachment(content, file.name, file.content_type or "application/octet-stream")


def _recipients(given: _Texts, *, part: str, too_many: str = "") -> list[_Recipient]:
    texts = _split(given) if isinstance(given, str) else given or []
    if too_many and len(texts) > MOST_ADDRESSES:
        raise Refusal(too_many, f"At most {MOST_ADDRESSES} addresses are allowed in {part}")
    return [
        _Recipient(_bare(text), read_address(text.strip(), part=f"{part}[{place}]"))
        for place, text in enumerate(texts)
    ]  # fmt: skip


def _split(text: str) -> list[str]:
    """A list with commas; those within quotes or brackets belong to an address."""
    parts, current, is_quoted, is_escaped = [], "", False, False
    for character in text:
        if character == "," and not is_quoted:
            parts.append(current)
            current = ""
            continue
        if character == '"' and not is_escaped:
            is_quoted = not is_quoted
        is_escaped = character == "\\" and not is_escaped
        current += character
    return [part.strip() for part in [*parts, current] if part.strip()]


def _bare(text: str) -> str:
    text = text.strip()
    return text[:-1].rpartition("<")[2].strip() if text.endswith(">") else text


def _refuse_bounce(is_bounce: bool | None) -> None:
    if is_bounce:
        raise Problem(400, "invalid_request", "`bounce` is not offered: reports need a credential for mail servers")
