"""Some tenants want to hear at RCPT that a recipient is suppressed; for the others it is accepted and shown as such."""

from __future__ import annotations

from accounts.authentication import Principal
from accounts.identifiers import uuid7
from delivery import suppression_list
from delivery.acceptance.store import MessageStore
from delivery.core import replies
from delivery.core.envelope import RcptCommand
from delivery.core.replies import Rejection
from delivery.suppression_list import Asked


async def check_recipient(recipient: RcptCommand, *, principal: Principal, store: MessageStore) -> None:
    if principal.is_test or not await store.directory.refuses_suppressed(principal.tenant_id):
        return
    mailbox = recipient.mailbox
    asked = Asked(uuid7(), principal.tenant_id, principal.stream_id, mailbox.address, mailbox.domain)
    async with store.pool.connection() as connection:
        found = await suppression_list.find(connection, [asked])
    if found:
        raise Rejection(replies.RECIPIENT_SUPPRESSED, detail=mailbox.address)
