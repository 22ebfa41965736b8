"""Nobody writes in another's name: the domains of From and Sender must be verified for this tenant.

The one exception is the operator's onboarding domain: with it a tenant that has no domain yet may write to its own members,
so that a first mail can be sent and followed before any DNS is set up.
"""

from __future__ import annotations

from delivery.acceptance.policies.draft import Draft
from delivery.acceptance.store import MessageStore
from delivery.core import replies
from delivery.core.replies import Rejection


async def check_content(draft: Draft, *, store: MessageStore) -> None:
    principal = draft.submission.principal
    author, sender = draft.author.mailbox, draft.author.sender
    if principal.only_domain and not _is_within(author.domain, principal.only_domain):
        raise Rejection(replies.AUTHOR_NOT_VERIFIED, reason="author_outside_credential", detail=author.domain)
    if store.is_onboarding_domain(author.domain) and not principal.tenant_is_system:
        await _check_onboarding(draft, store)
        return
    domain = await store.domain_of(principal.tenant_id, author.domain)
    if domain is None:
        raise Rejection(replies.AUTHOR_NOT_VERIFIED, detail=author.domain)
    if sender is not None and await store.domain_of(principal.tenant_id, sender.domain) is None:
        raise Rejection(replies.SENDER_NOT_VERIFIED, detail=sender.domain)
    draft.signing_domain_id = domain.id
    draft.keeps_reverse_path = domain.keeps_reverse_path


async def _check_onboarding(draft: Draft, store: MessageStore) -> None:
    principal = draft.submission.principal
    if await store.has_verified_domain(principal.tenant_id):
        raise Rejection(replies.AUTHOR_NOT_VERIFIED, reason="onboarding_over", detail=draft.author.mailbox.domain)
    if draft.author.sender is not None and not store.is_onboarding_domain(draft.author.sender.domain):
        raise Rejection(replies.SENDER_NOT_VERIFIED, detail=draft.author.sender.domain)
    members = await store.confirmed_members(principal.tenant_id)
    for recipient in draft.submission.envelope.recipients:
        if recipient.mailbox.address.lower() not in members:
            raise Rejection(replies.RECIPIENT_NOT_ALLOWED_YET, detail=recipient.mailbox.address)
    onboarding = await store.onboarding_domain()
    draft.signing_domain_id = onboarding.id if onboarding else None


def _is_within(domain: str, parent: str) -> bool:
    return domain == parent or domain.endswith("." + parent)
