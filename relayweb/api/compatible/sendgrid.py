"""The door for clients of SendGrid: POST /v3/mail/send with ``Authorization: Bearer``.

Each personalization is a mail of its own, with its own To. All of them are checked before the first is stored, so that a
request is refused as a whole; with an ``Idempotency-Key`` what a limit or trouble of ours cut off is completed by a retry.
What our service cannot do (templates, tracking, unsubscribe groups) is refused, never left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

import msgspec
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from delivery.acceptance import door
from delivery.acceptance.submission import Once, Submission
from delivery.core.compose import Attachment, Named
from relayweb.api import problems
from relayweb.api.authentication import BearerKey
from relayweb.api.compatible.view import CompatibleView, split_headers
from relayweb.api.outgoing import AddressObject, Outgoing, decode_base64, decode_json, read_address
from relayweb.api.problems import FieldError, Problem, invalid
from relayweb.api.sending import Result, key_of, send_all
from relayweb.api.v1.sending import make_submission

MOST_PERSONALIZATIONS = MOST_RECIPIENTS = 1_000  # in one request, as in SendGrid
# Every personalization is written out with all attachments: a request must not become more than a few of the largest mails.
_MOST_WRITTEN = 4
_LONGEST_SUBSTITUTIONS = 10_000  # octets for each personalization, as in SendGrid

_ACCEPTED = 202
_SANDBOXED = 200

Addresses = Annotated[list[AddressObject], msgspec.Meta(max_length=1_000)]
Scalar = str | int | float | bool


class Personalization(msgspec.Struct, forbid_unknown_fields=True, rename={"author": "from"}, kw_only=True):
    to: Addresses = []
    cc: Addresses = []
    bcc: Addresses = []
    author: AddressObject | None = None
    subject: Annotated[str, msgspec.Meta(max_length=998)] | None = None
    headers: dict[str, str] = {}
    substitutions: dict[str, Scalar] = {}
    dynamic_template_data: dict[str, Any] = {}
    custom_args: dict[str, Scalar] = {}
    send_at: int | None = None


class Content(msgspec.Struct, forbid_unknown_fields=True):
    type: str
    value: str


class File(msgspec.Struct, forbid_unknown_fields=True):
    content: str
    filename: str
    type: str | None = None
    disposition: str | None = None
    content_id: str | None = None


class Switch(msgspec.Struct):
    """A setting of SendGrid's; what else it holds matters only while it is on."""

    enable: bool = False


class Mail(msgspec.Struct, forbid_unknown_fields=True, rename={"author": "from"}, kw_only=True):
    personalizations: Annotated[list[Personalization], msgspec.Meta(min_length=1, max_length=MOST_PERSONALIZATIONS)]
    author: AddressObject
    reply_to: AddressObject | None = None
    reply_to_list: Addresses = []
    subject: Annotated[str, msgspec.Meta(max_length=998)] = ""
    content: list[Content] = []
    attachments: Annotated[list[File], msgspec.Meta(max_length=500)] = []
    headers: dict[str, str] = {}
    categories: list[str] = []
    custom_args: dict[str, Scalar] = {}
    send_at: int | None = None
    ip_pool_name: str = ""
    mail_settings: dict[str, Switch] = {}
    tracking_settings: dict[str, Switch] = {}
    template_id: str | None = None
    sections: dict[str, str] = {}
    batch_id: str | None = None
    asm: Any = None


class Send(CompatibleView):
    authentication_classes = (BearerKey,)

    @extend_schema(exclude=True)
    def post(self, request: Request) -> Response | HttpResponse:
        body = self.body()
        mail: Mail = decode_json(body, Mail)
        _refuse_what_is_not_offered(mail)
        submissions = self._written(mail)
        if _is_on(mail.mail_settings, "sandbox_mode"):
            door.check_all_from_thread(submissions)
            return Response(None, status=_SANDBOXED)
        key = key_of(request._request, body)
        if len(submissions) > 1 and key is None:
            door.check_all_from_thread(submissions)
        results = send_all(
            [partial(_once, submission) for submission in submissions], principal=self.caller.principal, key=key
        )
        return _answer(results)

    def _written(self, mail: Mail) -> list[Submission]:
        """Every personalization as a submission, or a Problem for the first that cannot be one."""
        submissions: list[Submission] = []
        octets = 0
        for place, outgoing in enumerate(_outgoing(mail)):
            try:
                submissions.append(make_submission(outgoing, self.caller, None))
            except Problem as problem:
                raise _renamed(problem, place) from None
            octets += len(submissions[-1].content)
            if octets > _MOST_WRITTEN * settings.MAX_MESSAGE_BYTES:
                raise Problem(
                    413, "too_large", "All personalizations together are too large; send them in several requests."
                )
        return submissions

    def refusal(self, problem: Problem, reference: str) -> Response:
        status = 400 if problem.status == 422 else problem.status
        return Response(_document(problem, reference), status=_STATUS_OF.get(problem.word, status))


# As SendGrid answers: 400 whatever is wrong with the mail, 403 for an author that is not the sender's to use.
_STATUS_OF = {
    "author_not_verified": 403,
    "author_outside_credential": 403,
    "onboarding_over": 403,
    "sender_not_verified": 403,
}


def no_such_path(request: HttpRequest, **_path: Any) -> HttpResponse:
    """Whatever else SendGrid offers: told in the shape its clients read."""
    document = _document(problems.not_found(), getattr(request, "reference", ""))
    return HttpResponse(msgspec.json.encode(document), status=404, content_type="application/json")


no_such_path.csrf_exempt = True  # type: ignore[attr-defined]


# ---------------------------------------------------------------- answering


def _once(submission: Submission, once: Once | None) -> Submission:
    return replace(submission, controls=replace(submission.controls, once=once))


def _answer(results: Sequence[Result]) -> Response:
    refused = [(place, result.problem) for place, result in enumerate(results) if result.problem is not None]
    if refused:
        raise _partly(refused, of=len(results)) if len(results) > 1 else refused[0][1]
    receipt = results[0].receipt
    assert receipt is not None
    response = Response(None, status=_ACCEPTED)
    response["X-Message-Id"] = str(receipt.message_id)
    if all(result.is_repeated for result in results):
        response["Idempotent-Replayed"] = "true"
    return response


def _partly(refused: Sequence[tuple[int, Problem]], *, of: int) -> Problem:
    """A limit was reached, or there was trouble, in the middle: which were not accepted must be known to the letter."""
    first = refused[0][1]
    accepted = of - len(refused)
    errors = [
        FieldError(f"personalizations.{place}", f"not accepted: {one.detail or one.word}") for place, one in refused
    ]
    if accepted:
        said = f"{accepted} of {of} personalizations were accepted, these were not. A retry sends those again as well, "
        errors.insert(0, FieldError("", said + "unless both requests carry the same Idempotency-Key."))
    return Problem(first.status, first.word, first.detail, errors=errors, retry_after_s=first.retry_after_s)


def _document(problem: Problem, reference: str) -> dict[str, Any]:
    if problem.word == "authentication_required":
        found = [FieldError("", "The provided authorization grant is invalid, expired, or revoked")]
    else:
        found = list(problem.errors) or [FieldError("", problem.detail or problem.word.replace("_", " "))]
    document: dict[str, Any] = {
        "errors": [{"message": one.message, "field": _field(one.field) or None, "help": None} for one in found]
    }
    if reference:
        document["id"] = reference
    return document


_OUR_NAMES = {
    "text": "content",
    "html": "content",
    "tags": "categories",
    "metadata": "custom_args",
    "pool": "ip_pool_name",
}


def _field(path: str) -> str:
    """`tags[0]` is `categories.0` here."""
    head, *rest = re.sub(r"\[(\d+)\]", r".\1", path.replace("[...]", "")).split(".", 1)
    return ".".join([_OUR_NAMES.get(head, head), *rest])


def _renamed(problem: Problem, place: int) -> Problem:
    """A repeated field name does not tell in which personalization it is; the sentence does."""
    if place == 0 or not problem.errors:
        return problem
    errors = [
        error
        if error.field.startswith("personalizations")
        else FieldError(error.field, f"{error.message} (in personalizations.{place})")
        for error in problem.errors
    ]
    return Problem(problem.status, problem.word, problem.detail, errors=errors)


# ---------------------------------------------------------------- what is asked


def _is_on(switches: Mapping[str, Switch], name: str) -> bool:
    return name in switches and switches[name].enable


def _refuse_what_is_not_offered(mail: Mail) -> None:
    if mail.template_id:
        raise invalid("template_id", "templates are not offered; send content with substitutions")
    if mail.sections:
        raise invalid("sections", "sections are not offered; send substitutions")
    if mail.batch_id:
        raise invalid("batch_id", "batches are not offered; a mail that waits can be cancelled by its id")
    if mail.asm is not None:
        raise invalid(
            "asm",
            "unsubscribe groups are not offered; name a bulk stream in headers (X-Relay-Stream): its mail can be left",
        )
    for part, switches, honoured in (
        ("mail_settings", mail.mail_settings, {"sandbox_mode"}),
        ("tracking_settings", mail.tracking_settings, set[str]()),
    ):
        for name, switch in switches.items():
            if switch.enable and name not in honoured:
                raise invalid(f"{part}.{name}.enable", "this is not offered; leave it out or switch it off")
    for place, one in enumerate(mail.personalizations):
        if one.dynamic_template_data:
            raise invalid(f"personalizations.{place}.dynamic_template_data", "templates are not offered")


def _outgoing(mail: Mail) -> Iterator[Outgoing]:
    """Raises Problem."""
    if sum(len(one.to) + len(one.cc) + len(one.bcc) for one in mail.personalizations) > MOST_RECIPIENTS:
        raise invalid("personalizations", f"at most {MOST_RECIPIENTS} addresses in to, cc and bcc of all of them")
    texts = _texts(mail.content)
    if mail.reply_to is not None and mail.reply_to_list:
        raise invalid("reply_to_list", "not together with reply_to")
    reply_to = [_named(mail.reply_to, "reply_to")] if mail.reply_to else _all_named(mail.reply_to_list, "reply_to_list")
    attachments = [_attachment(file, place) for place, file in enumerate(mail.attachments)]
    if len(set(mail.categories)) != len(mail.categories):
        raise invalid("categories", "a category is repeated")
    for place, one in enumerate(mail.personalizations):
        part = f"personalizations.{place}"
        if not one.to:
            raise invalid(f"{part}.to", "every personalization needs at least one address in to")
        to, cc, bcc = (
            _all_named(given, f"{part}.{name}") for name, given in (("to", one.to), ("cc", one.cc), ("bcc", one.bcc))
        )
        _refuse_repeated({f"{part}.to": to, f"{part}.cc": cc, f"{part}.bcc": bcc})
        fill = _filler(one.substitutions, f"{part}.substitutions")
        subject = one.subject or mail.subject
        if not subject:
            raise invalid("subject", "a subject is needed, here or in each personalization")
        headers, control_fields = split_headers({**mail.headers, **one.headers})
        send_at = mail.send_at if one.send_at is None else one.send_at
        yield Outgoing(
            to=to,
            cc=cc,
            bcc=bcc,
            author=_named(one.author, f"{part}.from") if one.author else _named(mail.author, "from"),
            reply_to=reply_to,
            subject=fill(subject),
            text=fill(texts["text/plain"]) if "text/plain" in texts else None,
            html=fill(texts["text/html"]) if "text/html" in texts else None,
            headers=headers,
            control_fields=control_fields,
            attachments=attachments,
            tags=mail.categories,
            metadata={name: _text(value) for name, value in {**mail.custom_args, **one.custom_args}.items()},
            pool=mail.ip_pool_name,
            send_at=None if send_at is None else _moment(send_at),
        )


def _texts(content: Sequence[Content]) -> dict[str, str]:
    if not content:
        raise invalid("content", "at least one part is needed: text/plain, text/html or both")
    texts: dict[str, str] = {}
    for place, part in enumerate(content):
        kind = part.type.partition(";")[0].strip().lower()
        if kind not in {"text/plain", "text/html"}:
            raise invalid(
                f"content.{place}.type", "text/plain and text/html are offered; send the rest as an attachment"
            )
        if kind in texts:
            raise invalid(f"content.{place}.type", "a type is repeated")
        if not part.value:
            raise invalid(f"content.{place}.value", "the part is empty")
        texts[kind] = part.value
    return texts


def _named(given: AddressObject, part: str) -> Named:
    return read_address(given, part=f"{part}.email")


def _all_named(given: Sequence[AddressObject], part: str) -> list[Named]:
    return [_named(one, f"{part}.{place}") for place, one in enumerate(given)]


def _refuse_repeated(lists: Mapping[str, Sequence[Named]]) -> None:
    seen: set[str] = set()
    for part, found in lists.items():
        for place, named in enumerate(found):
            address = named.mailbox.address.lower()
            if address in seen:
                raise invalid(f"{part}.{place}.email", "each address may be in to, cc and bcc once")
            seen.add(address)


def _attachment(file: File, place: int) -> Attachment:
    part = f"attachments.{place}"
    disposition = (file.disposition or "attachment").lower()
    if disposition not in {"attachment", "inline"}:
        raise invalid(f"{part}.disposition", "attachment or inline")
    # A content id counts only where the file is shown inline, as in SendGrid.
    content_id = (file.content_id or "").strip("<>") if disposition == "inline" else ""
    content = decode_base64(file.content, part=f"{part}.content")
    if not content:
        raise invalid(f"{part}.content", "the file is empty")
    return Attachment(content, file.filename, file.type or "application/octet-stream", content_id)


def _filler(substitutions: Mapping[str, Scalar], part: str) -> Any:
    """Every tag replaced by its value at once, the longest tag first; values are put in as they are, as in SendGrid."""
    values = {tag: _text(value) for tag, value in substitutions.items() if tag}
    if sum(
        len(tag.encode("utf-8", "replace")) + len(value.encode("utf-8", "replace")) for tag, value in values.items()
    ) > (_LONGEST_SUBSTITUTIONS):
        raise invalid(part, f"at most {_LONGEST_SUBSTITUTIONS} octets")
    if not values:
        return lambda text: text
    tags = re.compile("|".join(re.escape(tag) for tag in sorted(values, key=len, reverse=True)))
    return lambda text: tags.sub(lambda match: values[match[0]], text)


def _text(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _moment(seconds: int) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, tz=UTC)
    except (ValueError, OverflowError, OSError):
        raise invalid("send_at", "not a time in seconds since 1970") from None
