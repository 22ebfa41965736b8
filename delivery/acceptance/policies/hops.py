"""Mail that goes in circles (RFC 5321 §6.3): it has passed too many relays, or us, on its way to the same recipient before.

Passing through us again is no loop by itself: what we delivered may be forwarded to somebody else.
"""

from __future__ import annotations

from django.conf import settings

from delivery.acceptance.policies.draft import Draft
from delivery.acceptance.store import MessageStore
from delivery.core import replies
from delivery.core.replies import Rejection
from delivery.core.trace import count_received, own_message_ids


async def check_content(draft: Draft, *, store: MessageStore) -> None:
    count = count_received(draft.section)
    if count > settings.MAX_HOPS:
        raise Rejection(replies.MAIL_LOOP, detail=f"{count} Received fields")
    submission = draft.submission
    earlier = own_message_ids(draft.section, settings.HOSTNAME)
    if not earlier:
        return
    addresses = [recipient.mailbox.address for recipient in submission.envelope.recipients]
    if await store.went_to(submission.principal.tenant_id, message_ids=earlier, addresses=addresses):
        raise Rejection(replies.MAIL_LOOP, reason="own_loop", detail=f"it was message {earlier[0]} before")
