"""The envelope: MAIL and RCPT parsed from the raw bytes of the command, by the grammar of RFC 5321 and nothing wider.

Address literals, source routes, comments, missing brackets and spaces inside brackets are refused. Taken beyond the
grammar are one space after the colon, trailing blanks (RFC 5321 §4.1.1 asks for that), and local parts whose only fault
is the place of their dots. Bytes outside ASCII need SMTPUTF8 (RFC 6531 §3.4). What is outside raises
`EnvelopeSyntaxError` with the reply to give; nothing else is ever raised.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from delivery.core import replies
from delivery.core.mailbox import Mailbox, MailboxSyntaxError, parse_mailbox
from delivery.core.replies import OwnReply

BODY_7BIT = "7BIT"
BODY_8BITMIME = "8BITMIME"

_PATH = re.compile(
    rb' ?<(?P<mailbox>(?:[^"<>@\x00-\x20\x7f]+|"(?:[^"\\\x00-\x1f\x7f]|\\[ -~])*")@[^"<>@\x00-\x20\x7f]+|)>'
    rb"(?P<parameters>(?: .*)?)",
    re.DOTALL,
)
_KEYWORD = re.compile(rb"[A-Za-z0-9][A-Za-z0-9-]*")
_VALUE = re.compile(rb"[!-<>-~]+")
_SIZE = re.compile(r"[0-9]{1,20}")
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_XTEXT_HEX = re.compile(r"\+([0-9A-F]{2})")
_PRINTABLE_ASCII = re.compile(r"[ -~]*")
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9-]+")
_NOTIFY_EVENTS = frozenset({"SUCCESS", "FAILURE", "DELAY"})
# RFC 3461 §5.4.
_MAX_ENVID_OCTETS = 100
# RFC 3461 §5.4, for the whole value of ORCPT.
_MAX_ORCPT_OCTETS = 500


class EnvelopeSyntaxError(ValueError):
    """The command is outside the grammar; `reply` says how to refuse it."""

    def __init__(self, reply: OwnReply) -> None:
        super().__init__(reply.line)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class MailCommand:
    """`reverse_path` is None for the null reverse-path; `size` is what the client announced, in octets."""

    reverse_path: Mailbox | None
    size: int | None = None
    body: str = BODY_7BIT
    smtputf8: bool = False
    ret: str | None = None
    envid: str | None = None


@dataclass(frozen=True, slots=True)
class RcptCommand:
    """`notify` is None where the client left it to RFC 3461's defaults; `orcpt` is decoded: `rfc822;a@b`."""

    mailbox: Mailbox
    notify: frozenset[str] | None = None
    orcpt: str | None = None


@dataclass(frozen=True, slots=True)
class EnvelopeRecipient:
    mailbox: Mailbox
    notify: frozenset[str] | None = None
    orcpt: str | None = None


@dataclass(frozen=True, slots=True)
class Envelope:
    """Reverse-path and recipients of one mail transaction."""

    reverse_path: Mailbox | None
    recipients: tuple[EnvelopeRecipient, ...]
    body: str = BODY_7BIT
    smtputf8: bool = False
    ret: str | None = None
    envid: str | None = None

    def merged(self) -> Envelope:
        """The same envelope with every mailbox once, in the order of first mention.

        Whoever repeats a recipient gets every notification asked for in any of the mentions.
        """
        first_mentions: dict[str, EnvelopeRecipient] = {}
        for recipient in self.recipients:
            key = recipient.mailbox.address
            earlier = first_mentions.get(key)
            first_mentions[key] = recipient if earlier is None else _merge(earlier, recipient)
        return replace(self, recipients=tuple(first_mentions.values()))


@dataclass(frozen=True, slots=True)
class DsnParameters:
    """What a client asked for by RFC 3461, to be passed on to the next host; the texts begin with a blank or are empty."""

    ret: str = ""
    envid: str = ""
    notify: tuple[str, ...] = ()
    orcpt: str = ""

    @property
    def of_mail(self) -> str:
        ret = f" RET={self.ret}" if self.ret else ""
        return ret + (f" ENVID={encode_xtext(self.envid)}" if self.envid else "")

    @property
    def of_recipient(self) -> str:
        notify = f" NOTIFY={','.join(self.notify)}" if self.notify else ""
        address_type, _, address = self.orcpt.partition(";")
        return notify + (f" ORCPT={address_type};{encode_xtext(address)}" if address else "")


def parse_mail(argument: bytes) -> MailCommand:
    """Parse what follows `MAIL `: `FROM:<a@b> SIZE=10`. Raises `EnvelopeSyntaxError`."""
    path, parameters = _split(argument, b"FROM:", malformed=replies.BAD_REVERSE_PATH)
    values = _read_parameters(parameters, _MAIL_PARAMETERS)
    smtputf8 = "SMTPUTF8" in values
    return MailCommand(
        reverse_path=_read_mailbox(
            path, smtputf8, malformed=replies.BAD_REVERSE_PATH, domain_refused=replies.BAD_REVERSE_PATH
        )
        if path
        else None,
        size=int(values["SIZE"]) if "SIZE" in values else None,
        body=values.get("BODY", BODY_7BIT),
        smtputf8=smtputf8,
        ret=values.get("RET"),
        envid=values.get("ENVID"),
    )


def parse_rcpt(argument: bytes, *, smtputf8: bool = False) -> RcptCommand:
    """Parse what follows `RCPT `: `TO:<a@b> NOTIFY=NEVER`. Raises `EnvelopeSyntaxError`.

    `smtputf8` says whether the transaction's MAIL command gave that parameter.
    """
    path, parameters = _split(argument, b"TO:", malformed=replies.BAD_RECIPIENT)
    if not path:
        raise EnvelopeSyntaxError(replies.BAD_RECIPIENT)
    mailbox = _read_mailbox(
        path, smtputf8, malformed=replies.BAD_RECIPIENT, domain_refused=replies.RECIPIENT_DOMAIN_REFUSED
    )
    values = _read_parameters(parameters, _RCPT_PARAMETERS)
    notify = frozenset(values["NOTIFY"].split(",")) if "NOTIFY" in values else None
    return RcptCommand(mailbox=mailbox, notify=notify, orcpt=values.get("ORCPT"))


def encode_xtext(text: str) -> str:
    """Write printable ASCII as RFC 3461 §4 xtext, as ENVID and ORCPT travel."""
    return "".join(char if "!" <= char <= "~" and char not in "+=" else f"+{ord(char):02X}" for char in text)


def _split(argument: bytes, keyword: bytes, *, malformed: OwnReply) -> tuple[bytes, bytes]:
    if argument[: len(keyword)].upper() != keyword:
        raise EnvelopeSyntaxError(malformed)
    match = _PATH.fullmatch(argument[len(keyword) :].rstrip(b" \t"))
    if match is None:
        raise EnvelopeSyntaxError(malformed)
    return match["mailbox"], match["parameters"]


def _read_mailbox(path: bytes, smtputf8: bool, *, malformed: OwnReply, domain_refused: OwnReply) -> Mailbox:
    if not (smtputf8 or path.isascii()):
        raise EnvelopeSyntaxError(replies.SMTPUTF8_REQUIRED)
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError as error:
        raise EnvelopeSyntaxError(malformed) from error
    try:
        return parse_mailbox(text)
    except MailboxSyntaxError as error:
        reply = domain_refused if _has_unreachable_domain(text) else malformed
        raise EnvelopeSyntaxError(reply) from error


def _has_unreachable_domain(text: str) -> bool:
    # Within RFC 5321's grammar, yet nothing mail is relayed to: a single label or an address.
    domain = text.rpartition("@")[2]
    return domain.startswith("[") or "." not in domain or domain.rpartition(".")[2].isdigit()


def _read_parameters(parameters: bytes, known: dict[str, Callable[[str], str | None]]) -> dict[str, str]:
    values: dict[str, str] = {}
    # Each parameter is led by exactly one space, so the first part is empty.
    for parameter in parameters.split(b" ")[1:]:
        raw_keyword, has_value, raw_value = parameter.partition(b"=")
        if not _KEYWORD.fullmatch(raw_keyword) or (has_value and not _VALUE.fullmatch(raw_value)):
            raise EnvelopeSyntaxError(replies.PARAMETER_MALFORMED)
        keyword = raw_keyword.decode("ascii").upper()
        if keyword not in known:
            raise EnvelopeSyntaxError(replies.PARAMETER_UNKNOWN)
        value = known[keyword](raw_value.decode("ascii"))
        if value is None or keyword in values:
            raise EnvelopeSyntaxError(replies.PARAMETER_MALFORMED)
        values[keyword] = value
    return values


# A reader gives the value as we keep it, or None where it is malformed.


def _read_size(value: str) -> str | None:
    return value if _SIZE.fullmatch(value) else None


def _read_body(value: str) -> str | None:
    body = value.upper()
    return body if body in (BODY_7BIT, BODY_8BITMIME) else None


def _read_smtputf8(value: str) -> str | None:
    return None if value else ""


def _read_auth(value: str) -> str | None:
    # RFC 4954 §5: we trust nobody to vouch for another identity, so it is checked for form and forgotten.
    return value if value and _XTEXT.fullmatch(value) else None


def _read_ret(value: str) -> str | None:
    ret = value.upper()
    return ret if ret in ("FULL", "HDRS") else None


def _read_envid(value: str) -> str | None:
    return _decode_xtext(value) if value and len(value) <= _MAX_ENVID_OCTETS else None


def _read_notify(value: str) -> str | None:
    events = value.upper().split(",")
    if events == ["NEVER"]:
        return "NEVER"
    return ",".join(events) if _NOTIFY_EVENTS.issuperset(events) else None


def _read_orcpt(value: str) -> str | None:
    address_type, _, encoded = value.partition(";")
    address = _decode_xtext(encoded)
    if len(value) > _MAX_ORCPT_OCTETS or not _ADDRESS_TYPE.fullmatch(address_type) or not address:
        return None
    return f"{address_type};{address}"


def _decode_xtext(value: str) -> str | None:
    if not _XTEXT.fullmatch(value):
        return None
    decoded = _XTEXT_HEX.sub(lambda match: chr(int(match[1], 16)), value)
    # RFC 3461 §4.4 allows printable ASCII alone; anything else would later break out of a DSN's field.
    return decoded if _PRINTABLE_ASCII.fullmatch(decoded) else None


_MAIL_PARAMETERS: dict[str, Callable[[str], str | None]] = {
    "SIZE": _read_size,
    "BODY": _read_body,
    "SMTPUTF8": _read_smtputf8,
    "AUTH": _read_auth,
    "RET": _read_ret,
    "ENVID": _read_envid,
}
_RCPT_PARAMETERS: dict[str, Callable[[str], str | None]] = {"NOTIFY": _read_notify, "ORCPT": _read_orcpt}


def _merge(first: EnvelopeRecipient, second: EnvelopeRecipient) -> EnvelopeRecipient:
    return EnvelopeRecipient(
        mailbox=first.mailbox,
        notify=_merge_notify(first.notify, second.notify),
        orcpt=first.orcpt or second.orcpt,
    )


def _merge_notify(first: frozenset[str] | None, second: frozenset[str] | None) -> frozenset[str] | None:
    if first == second:
        return first
    default = frozenset({"FAILURE", "DELAY"})
    wanted = (default if first is None else first) | (default if second is None else second)
    return wanted - {"NEVER"} or frozenset({"NEVER"})
