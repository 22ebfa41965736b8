"""The null reverse-path is for reports; only a customer's own mail server makes these."""

from __future__ import annotations

from accounts.authentication import Principal
from accounts.models import CredentialUse
from delivery.acceptance.policies.draft import Draft
from delivery.acceptance.store import MessageStore
from delivery.core import replies
from delivery.core.envelope import MailCommand
from delivery.core.mailbox import Mailbox
from delivery.core.replies import Rejection


async def check_mail(mail: MailCommand, *, principal: Principal, store: MessageStore) -> None:
    _check(mail.reverse_path, principal)


async def check_content(draft: Draft, *, store: MessageStore) -> None:
    _check(draft.submission.envelope.reverse_path, draft.submission.principal)


def _check(reverse_path: Mailbox | None, principal: Principal) -> None:
    if reverse_path is None and principal.credential_use != CredentialUse.MAIL_SERVER:
        raise Rejection(replies.NULL_REVERSE_PATH_REFUSED)
