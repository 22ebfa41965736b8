"""Is a mail a report at all? People's mail quotes reports, so one sign is not enough."""

from __future__ import annotations

import re

from delivery.core.autoreply import is_auto_reply
from delivery.core.mime import Part
from delivery.core.report_words import pattern
from delivery.core.surroundings import failed_field, notice_of

# So many make a report.
ENOUGH = 2

_MACHINE_SENDER = pattern("machine_sender")
_FAILURE_SUBJECT = pattern("failure_subject")
_FAILURE_TEXT = pattern("failure_text")
_SUCCESS = pattern("success")
_NO_SUCCESS = re.compile(
    r"\b(?:not|un(?:able|successful\w*)|fail\w*|rejected)\b|n't\b|(?<![\d.])[45]\d\d[ -]", re.IGNORECASE
)
_OTHER_SUBJECT = pattern("other_notice_subject")
# RFC 2369, RFC 2919: what goes to readers; a report is written to one author.
_LIST_FIELDS = ("list-id", "list-post", "list-unsubscribe")
# Names that nobody writes to readers under.
_DAEMON = re.compile(r"mailer[-_ .]?d(?:a|ae)emon|mail delivery (?:sub)?system", re.IGNORECASE)
_NULL_PATH = re.compile(r"<\s*>|<?\s*(?:mailer-daemon|null)\b|^$", re.IGNORECASE)


def is_report(mail: Part) -> bool:
    """Whether a mail system reports a failure in prose; a person who quotes or forwards a report does not."""
    if count_signs(mail) < ENOUGH:
        return False
    if failed_field(mail) or _has_report_type(mail):
        return True
    return is_from_machine(mail) and not is_for_readers(mail)


def is_for_readers(mail: Part) -> bool:
    """Whether a mail is one of a list or newsletter, or a notice of another kind, or answers in somebody's name."""
    if any(mail.first(name) for name in _LIST_FIELDS) and not _DAEMON.search(mail.first("from")[:300]):
        return True
    if _OTHER_SUBJECT.match(mail.first("subject")[:300]):
        return True
    return not is_named_machine(mail) and is_auto_reply(mail)


def count_signs(mail: Part) -> int:
    """Signs that a mail reports a failure: its sender, subject, words and fields."""
    notice, _ = notice_of(mail)
    return (
        ENOUGH * bool(failed_field(mail))
        + is_from_machine(mail)
        + bool(_FAILURE_SUBJECT.search(mail.first("subject")[:300]))
        + bool(_FAILURE_TEXT.search(notice[:8000]))
        + _has_report_type(mail)
    )


def is_news_of_success(mail: Part) -> bool:
    """Whether a report says that the mail arrived."""
    notice, _ = notice_of(mail)
    return bool(
        _SUCCESS.search(mail.first("subject")[:300]) or _SUCCESS.search(notice[:1000])
    ) and not _NO_SUCCESS.search(f"{mail.first('subject')[:300]}\n{notice[:8000]}")


def _has_report_type(mail: Part) -> bool:
    return mail.parameters.get("report-type", "").lower() == "delivery-status"


def is_named_machine(mail: Part) -> bool:
    """Whether the From field is a mail system's."""
    return bool(_MACHINE_SENDER.search(mail.first("from")[:300]))


def is_from_machine(mail: Part) -> bool:
    """Whether the From field is a mail system's, or the reverse-path is null."""
    return is_named_machine(mail) or any(_NULL_PATH.match(value) for value in mail.all("return-path"))
