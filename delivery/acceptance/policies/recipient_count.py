"""How many recipients one message may have. Over SMTP the excess was already put off at RCPT."""

from __future__ import annotations

from delivery.acceptance.policies.draft import Draft
from delivery.acceptance.store import MessageStore
from delivery.core import replies
from delivery.core.replies import Rejection


async def check_content(draft: Draft, *, store: MessageStore) -> None:
    count = len(draft.submission.envelope.recipients)
    if count == 0:
        raise Rejection(replies.NO_VALID_RECIPIENTS)
    if count > draft.submission.principal.max_recipients:
        raise Rejection(replies.TOO_MANY_RECIPIENTS, detail=f"{count}")
