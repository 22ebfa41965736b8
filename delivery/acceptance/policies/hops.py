"""Mail that has passed too many relays is going in circles (RFC 5321 §6.3)."""

from __future__ import annotations

from django.conf import settings

from delivery.acceptance.policies.draft import Draft
from delivery.acceptance.store import MessageStore
from delivery.core import replies
from delivery.core.replies import Rejection
from delivery.core.trace import count_received


async def check_content(draft: Draft, *, store: MessageStore) -> None:
    count = count_received(draft.section)
    if count > settings.MAX_HOPS:
        raise Rejection(replies.MAIL_LOOP, detail=f"{count} Received fields")
