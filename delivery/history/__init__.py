"""SHOWN: what the console, the API and the command line read of mail, tenant first. Nothing here writes.

A query that the database ends at its statement timeout raises `delivery.time_limit.TookTooLong`; a database out of reach
raises Django's own errors.
"""

from delivery.history.log import (
    Choices,
    Tally,
    choices_of,
    has_recipients,
    page_of_recipients,
    rows_of,
    tally,
)
from delivery.history.message import (
    AttemptView,
    EventView,
    MessageView,
    RecipientsPage,
    RecipientView,
    TranscriptLine,
    content_of,
    find_message,
    fingerprint_of,
    has_content,
    read_transcript,
    recipients_by_id,
    recipients_of,
    reports_of,
    show_message,
)
from delivery.history.rejections import page_of_rejections, reply_codes_of_rejections
from delivery.history.rows import Page, RecipientRow

__all__ = [
    "AttemptView",
    "Choices",
    "EventView",
    "MessageView",
    "Page",
    "RecipientRow",
    "RecipientView",
    "RecipientsPage",
    "Tally",
    "TranscriptLine",
    "choices_of",
    "content_of",
    "find_message",
    "fingerprint_of",
    "has_content",
    "has_recipients",
    "page_of_recipients",
    "page_of_rejections",
    "read_transcript",
    "recipients_by_id",
    "recipients_of",
    "reply_codes_of_rejections",
    "reports_of",
    "rows_of",
    "show_message",
    "tally",
]
