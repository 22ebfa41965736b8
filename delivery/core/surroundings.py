"""What a report says in its own words: the notice, whom it names, what it quotes, and whom the returned mail was for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from delivery.core import dsn, freetext
from delivery.core.dialogue import NOTHING, Said, find_said, read_transcript
from delivery.core.mime import Part, read_mail, strip_markup

# `host mx.example[192.0.2.1] said:`, `host mx.example [192.0.2.1]:`
_SPEAKER = re.compile(r"\bhosts?:? [\w.-]{1,255} ?\[[\d.:a-fA-F]{2,45}\](?::\d{1,5})?(?: said)?:")
MAX_NOTICE_CHARACTERS = 64 * 1024
MAX_ADDRESSES = 100
MAX_REPLY_LINES = 10


@dataclass(frozen=True, slots=True)
class Surroundings:
    notice: str
    subject: str
    mentions: tuple[freetext.Mention, ...]
    failed_field: tuple[str, ...]
    transcript: Mapping[str, Said]
    standing_reply: Said
    own_addresses: tuple[str, ...]
    authors: tuple[str, ...]
    original_recipients: list[str]

    def is_about_author(self, said: str, recipient: str) -> bool:
        """Whether words name an address of the author, and not that of the recipient."""
        words = said.lower()
        return recipient.lower() not in words and any(author.lower() in words for author in self.authors)

    @property
    def context(self) -> str:
        """All words of the report, without the names of the hosts that say them."""
        return f"{_SPEAKER.sub('said:', self.notice)}\n{self.subject}"

    def named_addresses(self) -> list[str]:
        """The addresses the report names as failed, in a field of its own or plainly in the notice."""
        if self.failed_field:
            return list(self.failed_field)
        return [mention.address for mention in self.mentions if mention.strength > freetext.IN_SENTENCE]

    def reasons_for(self, address: str) -> list[Said]:
        """What is said about an address, the closest first."""
        wanted = address.lower()
        own = self.transcript.get(wanted) or self.transcript.get(address) or NOTHING
        blocks = [find_said(one.reason) for one in self.mentions if one.address.lower() == wanted and one.reason]
        general = self.transcript.get("", NOTHING)
        others = {one.address.lower() for one in self.mentions} - {wanted}
        is_for_others = any(other in self.standing_reply.text.lower() for other in others)
        if not is_for_others and not any(said.code for said in (own, general, *blocks)):
            # Some programs put the reply before the addresses it is about.
            blocks.append(self.standing_reply)
        ordered = (own, general, *blocks) if len(self.mentions) == 1 else (own, *blocks, general)
        return [said for said in ordered if said]


def read_surroundings(mail: Part) -> Surroundings:
    notice, original = notice_of(mail)
    subject = mail.first("subject")
    own = [dsn.read_address(mail.first(name)) for name in ("from", "to", "reply-to", "return-path")]
    own_addresses = tuple(address for address in own if address)
    enclosed = _returned_mail(mail, original)
    mentions = tuple(freetext.find_mentions(notice, not_these=own_addresses))
    return Surroundings(
        notice=notice,
        subject=subject,
        mentions=mentions,
        failed_field=tuple(failed_field(mail)),
        transcript=read_transcript(notice),
        standing_reply=_standing_reply(notice, [mention.address for mention in mentions]),
        own_addresses=own_addresses,
        authors=tuple(filter(None, (*own_addresses, *_addresses_of(enclosed, ("from", "sender", "return-path"))))),
        original_recipients=_original_recipients(enclosed, own_addresses),
    )


# A reply on lines of its own.
_REPLY_LINE = re.compile(r"[ \t]{0,16}[45]\d\d[- ](?:#?[45]\.\d{1,3}\.\d{1,3}\s|[A-Za-z<\"']).{3,}")


def _standing_reply(notice: str, addresses: Sequence[str]) -> Said:
    """What is about the only address of a notice, or about all that it names afterwards."""
    lines = notice.split("\n")
    start = next((number for number, line in enumerate(lines) if _REPLY_LINE.match(line)), len(lines))
    before = "\n".join(lines[:start]).lower()
    if len(addresses) > 1 and any(address.lower() in before for address in addresses):
        return NOTHING
    paragraph: list[str] = []
    for line in lines[start : start + MAX_REPLY_LINES]:
        if not line.strip():
            break
        paragraph.append(line)
    return find_said(" ".join(paragraph)) if paragraph else NOTHING


def notice_of(mail: Part) -> tuple[str, str]:
    texts: list[str] = []
    original = ""
    plain = [part for part in mail.walk() if _is_notice(part, "text/plain")]
    for part in plain or [part for part in mail.walk() if _is_notice(part, "text/html")]:
        text = part.text()[:MAX_NOTICE_CHARACTERS]
        notice = freetext.split_notice(strip_markup(text) if part.media_type == "text/html" else text)
        texts.append(notice.text)
        original = original or notice.original
    return "\n".join(texts)[:MAX_NOTICE_CHARACTERS], original


def _is_notice(part: Part, media_type: str) -> bool:
    return not part.is_enclosed and not part.children and part.media_type == media_type


def failed_field(mail: Part) -> list[str]:
    values = (value for name in ("x-failed-recipients", "x-failed-recipient") for value in mail.all(name))
    addresses = (dsn.read_address(item) for value in values for item in value.split(",")[:MAX_ADDRESSES])
    return list(dict.fromkeys(address for address in addresses if address))


def _returned_mail(mail: Part, original: str) -> Part | None:
    enclosed = next((part for part in mail.walk() if part.is_enclosed), None)
    if enclosed is None and original:
        return read_mail(freetext.header_of(original).encode("utf-8", "replace"))
    return enclosed


def _original_recipients(enclosed: Part | None, own: Sequence[str]) -> list[str]:
    """Whom the returned mail had been written to: the last resort."""
    found = _addresses_of(enclosed, ("x-envelope-to", "envelope-to", "x-original-to", "delivered-to", "to"))
    return [address for address in found if address and address not in own]


def _addresses_of(mail: Part | None, names: Sequence[str]) -> list[str]:
    return [dsn.read_address(mail.first(name)) for name in names] if mail is not None else []
