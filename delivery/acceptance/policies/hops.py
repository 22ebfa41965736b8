"""Mail that goes in circles (RFC 5321 §6.3): it has passed too many relays, or us, on its way to the same recipient before.

Passing through us again is no loop by itself: what we delivered may be forwarded to somebody else.
"""

from __future__ import annotations

from django.conf import settings

from delivery.acceptance.policies.draft import Draft
from delivery.acceptance.store import MessageStore
from delivery.core import replies
from delivery.core.content import display_text
from delivery.core.replies import Rejection
from delivery.core.trace import count_received, own_id_within, own_message_ids

# Whoever takes our trace fields out of what it passes on hides the loop from them, and leaves the Message-ID we made.
MOST_TIMES_SEEN = 10


async def check_content(draft: Draft, *, store: MessageStore) -> None:
    count = count_received(draft.section)
    if count > settings.MAX_HOPS:
        raise Rejection(replies.MAIL_LOOP, detail=f"{count} Received fields")
    await _check_message_id(draft, store=store)
    submission = draft.submission
    earlier = own_message_ids(draft.section, settings.HOSTNAME)
    if not earlier:
        return
    addresses = [recipient.mailbox.address for recipient in submission.envelope.recipients]
    if await store.went_to(submission.principal.tenant_id, message_ids=earlier, addresses=addresses):
        raise Rejection(replies.MAIL_LOOP, reason="own_loop", detail=f"it was message {earlier[0]} before")


async def _check_message_id(draft: Draft, *, store: MessageStore) -> None:
    value = draft.section.first_value("message-id") or b""
    own = own_id_within(value)
    if own is None:
        return
    seen = await store.times_seen(
        draft.submission.principal.tenant_id,
        own,
        header_message_id=display_text(value),
        addresses=[recipient.mailbox.address for recipient in draft.submission.envelope.recipients],
        most=MOST_TIMES_SEEN,
    )
    if seen >= MOST_TIMES_SEEN:
        raise Rejection(replies.MAIL_LOOP, reason="own_loop", detail=f"the Message-ID of message {own} again and again")
