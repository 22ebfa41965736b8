"""The size limit: the tenant's, or the installation's. Announced sizes are refused at MAIL already (RFC 1870)."""

from __future__ import annotations

from accounts.authentication import Principal
from delivery.acceptance.policies.draft import Draft
from delivery.acceptance.store import MessageStore
from delivery.core import replies
from delivery.core.envelope import MailCommand
from delivery.core.replies import Rejection


async def check_mail(mail: MailCommand, *, principal: Principal, store: MessageStore) -> None:
    if mail.size is not None and mail.size > principal.max_message_bytes:
        raise Rejection(replies.TOO_LARGE, detail=f"announced {mail.size}")


async def check_content(draft: Draft, *, store: MessageStore) -> None:
    size = len(draft.submission.content)
    if size > draft.submission.principal.max_message_bytes:
        raise Rejection(replies.TOO_LARGE, detail=f"{size}")
