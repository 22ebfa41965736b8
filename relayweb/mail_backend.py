"""Django's e-mail backend for the service's own mail: it goes through acceptance like everybody's, for the system tenant.

So it is committed before the caller goes on, is signed, retried, and can be followed in the send log. A mail that is
refused or cannot be stored raises, unless the caller asked for silence; then it is logged.
"""

from __future__ import annotations

from collections.abc import Sequence
from email.utils import parseaddr

import psycopg
import structlog
from django.conf import settings
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.db import DatabaseError

from accounts.audit import Actor
from accounts.authentication import Principal
from accounts.models import Tenant
from delivery import domains, tenants
from delivery.acceptance.door import accept_from_thread
from delivery.acceptance.submission import Peer, Submission
from delivery.core.envelope import BODY_7BIT, BODY_8BITMIME, Envelope, EnvelopeRecipient
from delivery.core.mailbox import Mailbox, MailboxSyntaxError, parse_mailbox
from delivery.core.replies import Rejection

log = structlog.get_logger(__name__)

_TROUBLE = (Rejection, MailboxSyntaxError, TimeoutError, OSError, DatabaseError, psycopg.Error)


class EmailBackend(BaseEmailBackend):
    """``EMAIL_BACKEND``. Safe for several threads: it holds nothing."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """How many messages were accepted; those without recipients count as none."""
        accepted = 0
        for message in email_messages:
            if not message.recipients():
                continue
            try:
                message_id = accept_from_thread(submission_of(message, principal=system_principal()))
            except _TROUBLE as error:
                log.warning("system_mail_not_accepted", reason=getattr(error, "reason", type(error).__name__))
                if not self.fail_silently:
                    raise
                continue
            log.info("system_mail_accepted", message_id=str(message_id))
            accepted += 1
        return accepted


def submission_of(message: EmailMessage, *, principal: Principal) -> Submission:
    """Raises MailboxSyntaxError for an address that mail cannot be sent to."""
    # Django's own message classes take a line ending, which their stubs do not know.
    content = message.message().as_bytes(linesep="\r\n")  # type: ignore[call-arg]
    recipients = tuple(EnvelopeRecipient(_mailbox(address)) for address in message.recipients())
    envelope = Envelope(
        # What comes back goes to the service's address, whatever a single mail's From says.
        reverse_path=_mailbox(settings.MAIL_FROM),
        recipients=recipients,
        body=BODY_7BIT if content.isascii() else BODY_8BITMIME,
    )
    return Submission(
        principal=principal,
        envelope=envelope,
        content=content,
        peer=Peer(address=None, ehlo=settings.HOSTNAME, protocol="SYSTEM"),
    )


def system_principal() -> Principal:
    """The service itself, within the limits that its operator gave the system tenant."""
    tenant = Tenant.objects.get(is_system=True)
    _ensure_may_write(tenant)
    return tenants.principal_of(tenant)


def _ensure_may_write(system: Tenant) -> None:
    """A new installation's first mail may come before anybody ran ``relay database migrate``."""
    author = _mailbox(settings.MAIL_FROM).domain
    if not any(domain.name == author for domain in domains.list_domains(system)):
        domains.ensure_own_domains(actor=Actor.system("mail"))


def _mailbox(text: str) -> Mailbox:
    return parse_mailbox(parseaddr(text)[1])
