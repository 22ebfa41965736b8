"""Mail that a page hands over itself goes through the door that every mail takes; a refusal is told in the page's words."""

from __future__ import annotations

from uuid import UUID

import psycopg
import structlog
from django.db import DatabaseError
from django.utils.translation import gettext

from accounts.refusals import Refused
from delivery.acceptance.door import accept_from_thread
from delivery.acceptance.submission import Submission
from delivery.core.replies import Rejection
from relayweb.console import rejection_words, words

log = structlog.get_logger(__name__)

_TROUBLE = (TimeoutError, OSError, DatabaseError, psycopg.Error)


def hand_over(submission: Submission) -> UUID:
    """The id of the message, once it is committed. Raises Refused."""
    try:
        return accept_from_thread(submission)
    except Rejection as rejection:
        raise Refused(_in_words(rejection), reason=rejection.reason) from None
    except _TROUBLE as error:
        log.warning("mail_not_accepted", tenant=submission.principal.tenant_slug, reason=type(error).__name__)
        raise Refused(
            gettext("The mail could not be taken just now. Please try again."), reason="ours"
        ) from None  # fmt: skip


def _in_words(rejection: Rejection) -> str:
    known = rejection_words.REJECTIONS.get(rejection.reason)
    if known is None:
        return rejection.reply.line
    values = {"domain": rejection.detail, "address": rejection.detail, "reference": "–"}
    return f"{words.fill(known.what, **values)} {words.fill(known.remedy, **values)}"
