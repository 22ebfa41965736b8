"""Reports about a mail go to its reverse-path: it must lie in a domain of the tenant's."""

from __future__ import annotations

from accounts.authentication import Principal
from delivery.acceptance.policies.draft import Draft
from delivery.acceptance.store import MessageStore
from delivery.core import replies
from delivery.core.envelope import MailCommand
from delivery.core.mailbox import Mailbox
from delivery.core.replies import Rejection


async def check_mail(mail: MailCommand, *, principal: Principal, store: MessageStore) -> None:
    await _check(mail.reverse_path, principal, store)


async def check_content(draft: Draft, *, store: MessageStore) -> None:
    await _check(draft.submission.envelope.reverse_path, draft.submission.principal, store)


async def _check(reverse_path: Mailbox | None, principal: Principal, store: MessageStore) -> None:
    if reverse_path is None or store.is_onboarding_domain(reverse_path.domain):
        return
    if await store.domain_of(principal.tenant_id, reverse_path.domain) is None:
        raise Rejection(replies.REVERSE_PATH_NOT_VERIFIED, detail=reverse_path.domain)
