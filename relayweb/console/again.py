"""Sending a message again from its page: says what will happen to whom, and makes the copy."""

from __future__ import annotations

from uuid import UUID

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext
from django.views.decorators.http import require_http_methods

from accounts.identifiers import uuid7
from accounts.models import Role
from accounts.refusals import Refused
from delivery import history, sending_again
from delivery.acceptance.submission import Peer
from delivery.core.states import RecipientState
from delivery.models import Message, Recipient
from delivery.sending_again import Chosen
from delivery.tenants import principal_of
from relayweb.console.access import Seat, tenant_page
from relayweb.console.forms import tell, tell_refusal
from relayweb.console.handing_over import hand_over

_NAMED = 20


@tenant_page(Role.DEVELOPER)
@require_http_methods(["GET", "HEAD", "POST"])
def send_again(request: HttpRequest, seat: Seat, message_id: UUID) -> HttpResponse:
    """To those who did not get it, to all, or with ``recipient`` to one."""
    message = Message.objects.of(seat.tenant).select_related("stream", "tenant").filter(pk=message_id).first()
    if message is None:
        raise Http404
    recipient_id = _one(request.GET.get("recipient", ""))
    chosen = _chosen(request.POST.get("to", ""))
    recipients = sending_again.recipients_for(message, chosen, recipient_id=recipient_id)
    if recipient_id is not None and not recipients:
        raise Http404
    if request.method == "POST":
        try:
            copy_id = _make(request, seat, message, recipients)
        except Refused as refusal:
            tell_refusal(request, refusal)
        else:
            tell(request, gettext("This is the copy of message {id}.").format(id=message.id.hex[:8]))
            return redirect("message", slug=seat.tenant.slug, message_id=copy_id)
    return render(request, "console/messages/again.html", _context(message, recipients, recipient_id))


def _make(request: HttpRequest, seat: Seat, message: Message, recipients: list[Recipient]) -> UUID:
    submission = sending_again.copy_of(
        message,
        recipients,
        principal=principal_of(seat.tenant),
        peer=Peer(address=seat.peer_address, ehlo=settings.HOSTNAME, protocol="SYSTEM"),
        # Of the page that was shown: pressed twice, it is one copy.
        key=f"again {request.POST.get('once', '')[:64] or uuid7().hex}",
    )
    copy_id = hand_over(submission)
    sending_again.note_sent_again(message, recipients, copy_id=copy_id, actor=seat.actor)
    return copy_id


def _context(message: Message, recipients: list[Recipient], recipient_id: UUID | None) -> dict[str, object]:
    everyone = recipients if recipient_id else sending_again.recipients_for(message, Chosen.ALL)
    missed = [one for one in everyone if one.state != RecipientState.DELIVERED]
    return {
        "section": "messages",
        "message": message,
        "short_id": message.id.hex[:8],
        "is_stored": history.has_content(message),
        "one": recipients[0] if recipient_id else None,
        "everyone": len(everyone),
        "missed": len(missed),
        "named": (missed or everyone)[:_NAMED],
        "unnamed": max(0, len(missed or everyone) - _NAMED),
        "is_suppressed": any(one.state == RecipientState.SUPPRESSED for one in everyone),
        "may_double": len(missed) < len(everyone),
        "once": uuid7().hex,
    }


def _chosen(text: str) -> Chosen:
    return Chosen.ALL if text == Chosen.ALL else Chosen.NOT_ACCEPTED


def _one(text: str) -> UUID | None:
    if not text:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise Http404 from None
