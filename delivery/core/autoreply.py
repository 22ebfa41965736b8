"""Automatic replies: out of office, holiday, "we have received your mail". They say nothing about an address.

Recognised by the fields that programs set (RFC 3834, RFC 5436 and what came before them), then by how such replies are
called in many languages. Reports have to be told apart first: they carry some of the same fields.
"""

from __future__ import annotations

import re

from delivery.core.mime import Part
from delivery.core.report_words import alternatives

_SIGNS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(expression, re.IGNORECASE))
    for name, expression in (
        ("auto-submitted", r"auto-replied"),
        ("precedence", r"auto[-_ ]?reply"),
        ("x-precedence", r"auto[-_ ]?reply"),
        ("x-auto-reply", r"."),
        ("x-autoreply", r"(?!no\b)."),
        ("x-autoreply-from", r"."),
        ("x-autorespond", r"."),
        ("x-autoresponder", r"."),
        ("x-auto-response", r"."),
        ("x-mail-autoreply", r"."),
        ("x-mail-autoresponder", r"."),
        ("x-vacation", r"."),
        ("x-apple-action", r"vacation"),
        ("preference", r"auto[-_ ]?reply"),
        ("x-fc-machinegenerated", r"true"),
        ("x-post-messageclass", r".*autoresponder"),
        ("delivered-to", r"autoresponder"),
        ("x-mailer", r"vacation|auto-?respond|autoreply"),
        ("user-agent", r"vacation"),
    )
)
_SUBJECT = re.compile(rf"\s*(?:re:\s*|aw:\s*)?[\[(]?{alternatives('auto_reply_subject')}", re.IGNORECASE)


def is_auto_reply(mail: Part) -> bool:
    """Whether a program answered in somebody's name."""
    if any(expression.match(value) for name, expression in _SIGNS for value in mail.all(name)):
        return True
    return bool(_SUBJECT.match(mail.first("subject")[:300]))
