"""What a recipient's mail gets on its way out: fields of his own, and the signatures over all of it."""

from __future__ import annotations

from datetime import date
from typing import Protocol

from django.conf import settings

from delivery.core.mailbox import Mailbox
from delivery.core.recipient_fields import FeedbackId, Unsubscribe, recipient_fields
from delivery.core.unsubscribing import mailbox_for, make_token, url_for
from delivery.core.verp import make_feedback_token
from delivery.engine.assignments import Assignment
from delivery.engine.services import Services
from delivery.models import GroupKind, StreamKind
from delivery.shaping.providers import has_feedback_by_domain
from delivery.transport.rendering import Dressing, LoadedContent


class _Group(Protocol):
    @property
    def group_key(self) -> str: ...
    @property
    def group_kind(self) -> str: ...


async def dress(
    assignment: Assignment, loaded: LoadedContent, services: Services, *, group: _Group, reports_until: date
) -> Dressing:
    """Raises SealingError when the sending domain's key cannot be opened."""
    own = await services.signers.of(assignment.domain_id)
    operators = await services.signers.of_operator() if _may_have_loop(group) else None
    signers = tuple(signer for signer in (own, operators) if signer is not None)
    if operators is not None and own is not None and operators.domain == own.domain:
        signers = (own,)
    fields = recipient_fields(
        loaded.section,
        is_signed=bool(signers),
        unsubscribe=_unsubscribe(assignment, services),
        feedback_id=_feedback_id(assignment) if operators is not None else None,
        # Where our own reverse-path goes along, it identifies the mail already.
        feedback_token=make_feedback_token(assignment.recipient_id, key=services.feedback_key, expires_on=reports_until)
        if assignment.has_own_reverse_path or operators is not None
        else "",
    )
    return Dressing(signers, fields)


def _may_have_loop(group: _Group) -> bool:
    """Signing takes time; a smarthost may pass it on to anybody."""
    return has_feedback_by_domain(group.group_key) or group.group_kind == GroupKind.SMARTHOST


def _unsubscribe(assignment: Assignment, services: Services) -> Unsubscribe | None:
    if assignment.stream_kind != StreamKind.BULK or assignment.adds_unsubscribe is False:
        return None
    token = make_token(assignment.recipient_id, key=services.unsubscribe_key)
    domain = assignment.bounce_host or settings.BOUNCE_DOMAIN
    return Unsubscribe(url_for(token, public_url=settings.PUBLIC_URL), Mailbox(mailbox_for(token), domain))


def _feedback_id(assignment: Assignment) -> FeedbackId:
    return FeedbackId(
        stream=assignment.stream_name,
        domain=assignment.sending_domain or "",
        tenant=assignment.tenant_slug,
        sender=settings.FEEDBACK_DOMAIN,
    )
