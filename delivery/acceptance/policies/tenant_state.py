"""A suspended tenant's mail is put off, not lost: 450, so that the client keeps it."""

from __future__ import annotations

from accounts.authentication import Principal
from accounts.models import TenantState
from delivery.acceptance.policies.draft import Draft
from delivery.acceptance.store import MessageStore
from delivery.core import replies
from delivery.core.envelope import MailCommand, RcptCommand
from delivery.core.replies import Rejection


async def check_mail(mail: MailCommand, *, principal: Principal, store: MessageStore) -> None:
    _check(principal)


async def check_recipient(recipient: RcptCommand, *, principal: Principal, store: MessageStore) -> None:
    _check(principal)


async def check_content(draft: Draft, *, store: MessageStore) -> None:
    _check(draft.submission.principal)


def _check(principal: Principal) -> None:
    if principal.tenant_state != TenantState.ACTIVE:
        raise Rejection(replies.TENANT_SUSPENDED)
