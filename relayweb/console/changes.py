"""What a member does from the page of a message: retry, hold, release, cancel, and look at what keeps mail from an address."""

from __future__ import annotations

from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext, ngettext
from django.views.decorators.http import require_http_methods

from accounts.models import Role
from accounts.refusals import NotFound, Refused
from delivery import changes, suppression_search, suppressions
from delivery.acceptance import doorbell
from delivery.models import JobKind, Message, Recipient, Suppression, SuppressionScope
from delivery.queue.control import Changed
from relayweb.console import job_words, words
from relayweb.console.access import Seat, tenant_page
from relayweb.console.forms import tell, tell_refusal

_ASKED_FOR_BY_THE_RECIPIENT = frozenset({"complaint", "unsubscribe"})


@tenant_page(Role.DEVELOPER)
@require_http_methods(["GET", "HEAD", "POST"])
def change(request: HttpRequest, seat: Seat, message_id: UUID, verb: str) -> HttpResponse:
    """For a message's open recipients, or with ``recipient`` for one: says first what will happen to how many."""
    if verb not in changes.VERBS:
        raise Http404
    recipient_id = _uuid(request.GET.get("recipient", ""))
    try:
        waiting = changes.waiting(seat.tenant, message_id, recipient_id=recipient_id)
        if request.method == "POST":
            done = changes.change(seat.tenant, verb, message_id, recipient_id=recipient_id, actor=seat.actor)
            tell(request, _told(verb, done))
            if verb in {JobKind.RETRY, JobKind.RELEASE}:
                doorbell.ring()
            return redirect("message", slug=seat.tenant.slug, message_id=message_id)
    except NotFound:
        raise Http404 from None
    context = {
        "section": "messages",
        "about": job_words.JOBS[JobKind(verb)],
        "verb": verb,
        "waiting": waiting,
        "number": _concerned(verb, waiting),
        "message_id": message_id,
        "short_id": message_id.hex[:8],
        "recipient": _address(seat, recipient_id),
    }
    return render(request, "console/messages/change.html", context)


def _concerned(verb: str, waiting: changes.control.Waiting) -> int:
    match JobKind(verb):
        case JobKind.RETRY:
            return waiting.deferred
        case JobKind.HOLD:
            return max(0, waiting.can_change - waiting.held)
        case JobKind.RELEASE:
            return waiting.held
        case _:
            return waiting.can_change


def _told(verb: str, done: Changed) -> str:
    sentences = {
        JobKind.RETRY: ngettext("{n} recipient is tried now.", "{n} recipients are tried now.", done.changed),
        JobKind.HOLD: ngettext("{n} recipient is held.", "{n} recipients are held.", done.changed),
        JobKind.RELEASE: ngettext("{n} recipient is released.", "{n} recipients are released.", done.changed),
        JobKind.CANCEL: ngettext("{n} recipient is cancelled.", "{n} recipients are cancelled.", done.changed),
    }
    said = sentences[JobKind(verb)].format(n=f"{done.changed:,}")
    if done.in_hand:
        said += " " + gettext("{n} were being sent at that moment and stayed as they were.").format(
            n=f"{done.in_hand:,}"
        )
    return said


@tenant_page()
@require_http_methods(["GET", "HEAD", "POST"])
def suppressions_of(request: HttpRequest, seat: Seat, message_id: UUID) -> HttpResponse:
    """What keeps this tenant's mail from a recipient's address; its own suppressions can be removed here."""
    recipient = _recipient(seat, message_id, _uuid(request.GET.get("recipient", "")))
    path = reverse("message-suppressions", kwargs={"slug": seat.tenant.slug, "message_id": message_id})
    stream_id = Message.objects.of(seat.tenant).values_list("stream_id", flat=True).get(pk=message_id)
    found = suppression_search.matching(seat.tenant, address=recipient.address, domain=recipient.domain)
    if request.method == "POST":
        if not seat.may_set_up:
            raise PermissionDenied
        chosen = next((row for row in found if str(row.pk) == request.POST.get("suppression")), None)
        if chosen is None or chosen.scope == SuppressionScope.OPERATOR:
            raise Http404
        try:
            suppressions.remove(chosen, actor=seat.actor, reason=request.POST.get("reason", ""))
        except Refused as refusal:
            tell_refusal(request, refusal)
        else:
            tell(
                request,
                gettext("Sending to “{address}” is allowed again, from the next mail on.").format(address=chosen.value),
            )
        return redirect(f"{path}?recipient={recipient.pk}")
    context = {
        "section": "messages",
        "recipient": recipient,
        "message_id": message_id,
        "short_id": message_id.hex[:8],
        "rows": [_Row(seat, row, stream_id) for row in found],
    }
    return render(request, "console/messages/suppressions.html", context)


class _Row:
    def __init__(self, seat: Seat, row: Suppression, stream_id: UUID) -> None:
        self.row = row
        self.reason = words.reason(row.reason)
        self.is_operators = row.scope == SuppressionScope.OPERATOR
        self.is_of_another_stream = row.stream_id is not None and row.stream_id != stream_id
        self.may_remove = seat.may_set_up and not self.is_operators
        self.needs_reason = row.reason in _ASKED_FOR_BY_THE_RECIPIENT


def _recipient(seat: Seat, message_id: UUID, recipient_id: UUID | None) -> Recipient:
    found = None
    if recipient_id is not None:
        found = Recipient.objects.of(seat.tenant).filter(pk=recipient_id, message_id=message_id).first()
    if found is None:
        raise Http404
    return found


def _address(seat: Seat, recipient_id: UUID | None) -> str:
    if recipient_id is None:
        return ""
    return Recipient.objects.of(seat.tenant).filter(pk=recipient_id).values_list("address", flat=True).first() or ""


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
