"""Mail to postmaster and abuse (RFC 5321 §4.5.1, RFC 2142): kept, and forwarded to the operators.

What programs wrote (reports, automatic replies) is kept and not forwarded, so that two machines never write to each other
through us; and no more than some an hour are, so that a flood fills our own table and nobody's inbox.
"""

from __future__ import annotations

from datetime import timedelta

from django.core.mail import EmailMessage
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import override

from accounts.models import User
from delivery.core.content import ContentError, display_text, read_header_section
from delivery.models import ReturnedKind, ReturnedMail

MOST_FORWARDED_PER_HOUR = 50
_FORWARDED = "forwarded"


def forward(row: ReturnedMail, content: bytes) -> str:
    """Inside a transaction; returns what became of it, as a machine word."""
    operators = list(User.objects.filter(is_operator=True, is_active=True).order_by("created_at"))
    if not operators:
        return "kept"
    try:
        section = read_header_section(content)
    except ContentError:
        return "kept"
    auto_submitted = (section.first_value("auto-submitted") or b"no").strip().lower()
    if not row.reverse_path or not auto_submitted.startswith(b"no"):
        return "automatic"
    recently = ReturnedMail.objects.filter(
        kind__in=(ReturnedKind.POSTMASTER, ReturnedKind.ABUSE),
        received_at__gt=timezone.now() - timedelta(hours=1),
        outcome=_FORWARDED,
    )
    if recently.count() >= MOST_FORWARDED_PER_HOUR:
        return "kept"
    subject = display_text(section.first_value("subject") or b"")[:200]
    for operator in operators:
        with override(operator.language or "ja"):
            mail = EmailMessage(
                subject=_("Mail to {mailbox}: {subject}").format(mailbox=row.mailbox, subject=subject),
                body=_("{sender} wrote to {mailbox}. The mail is attached as it came.").format(
                    sender=row.reverse_path, mailbox=row.mailbox
                ),
                to=[operator.email],
                headers={"Auto-Submitted": "auto-generated"},
            )
        # In base64, since nobody knows what a stranger's octets do to a mail around them.
        mail.attach("mail.eml", content, "application/octet-stream")
        mail.send()
    return _FORWARDED
