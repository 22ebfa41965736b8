"""Is a mail a report at all? People's mail quotes reports, so one sign is not enough."""

from __future__ import annotations

import re

from delivery.core.mime import Part
from delivery.core.report_words import pattern
from delivery.core.surroundings import failed_field, notice_of

# So many make a report.
ENOUGH = 2

_MACHINE_SENDER = pattern("machine_sender")
_FAILURE_SUBJECT = pattern("failure_subject")
_FAILURE_TEXT = pattern("failure_text")
_NULL_PATH = re.compile(r"<\s*>|<?\s*(?:mailer-daemon|null)\b|^$", re.IGNORECASE)


def is_report(mail: Part) -> bool:
    """Whether a mail system reports a failure in prose; a person who quotes or forwards a report does not."""
    if count_signs(mail) < ENOUGH:
        return False
    return is_from_machine(mail) or bool(failed_field(mail)) or _has_report_type(mail)


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


def _has_report_type(mail: Part) -> bool:
    return mail.parameters.get("report-type", "").lower() == "delivery-status"


def is_from_machine(mail: Part) -> bool:
    """Whether the From field is a mail system's, or the reverse-path is null."""
    if _MACHINE_SENDER.search(mail.first("from")[:300]):
        return True
    return any(_NULL_PATH.match(value) for value in mail.all("return-path"))
