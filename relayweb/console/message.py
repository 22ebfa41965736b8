"""The message page: what happened, why, what to do, for each recipient; then the proof.

While a recipient is open the page asks whether anything changed: one query as long as nothing has.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from csp.decorators import csp_replace
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import get_language, gettext, ngettext
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.http import require_safe

from delivery import history
from delivery.core.states import RecipientState
from delivery.history import MessageView
from delivery.models import Message
from relayweb.console import preview, stories, words
from relayweb.console.access import Seat, tenant_page
from relayweb.console.messages import LogQuery, unchanged

VIEWS = ("recipients", "headers", "preview", "identifiers")
RECIPIENTS_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Address:
    """What the page's own address says beside the id."""

    view: str
    states: tuple[RecipientState, ...]
    after: tuple[int, UUID] | None
    first: UUID | None  # the recipient whose row was opened
    log: LogQuery

    @classmethod
    def read(cls, given: QueryDict) -> Address:
        view = given.get("view", "")
        return cls(
            view=view if view in VIEWS else VIEWS[0],
            states=tuple(state for state in RecipientState if state in given.getlist("state")),
            after=_place(given.get("after", "")),
            first=_uuid(given.get("recipient", "")),
            log=LogQuery.read(QueryDict(given.get("log", "")[:2000])),
        )


@require_safe
@tenant_page()
def page(request: HttpRequest, seat: Seat, message_id: UUID) -> HttpResponse:
    about = _found(seat, message_id)
    address = Address.read(request.GET)
    context = {"section": "messages", "about": about, "message": about.message, "address": address, **_head(about)}
    if address.view == "recipients":
        context |= _recipients(about, address)
        context["seen"] = history.fingerprint_of(seat.tenant, message_id) if about.is_open else ""
    else:
        content = history.content_of(about.message)
        context["is_stored"] = content is not None
        if content is not None:
            context["read"] = preview.read(content)
    return render(request, "console/messages/message.html", context)


@require_safe
@tenant_page()
def live(request: HttpRequest, seat: Seat, message_id: UUID) -> HttpResponse:
    """The answer and the recipients, once something has changed; 204 before."""
    looks_like = history.fingerprint_of(seat.tenant, message_id)
    if looks_like is None:
        raise Http404
    if request.GET.get("seen") == looks_like:
        return unchanged(timezone.now())
    about, address = _found(seat, message_id), Address.read(request.GET)
    context = {"about": about, "message": about.message, "address": address, "is_refresh": True, "seen": looks_like}
    return render(request, "console/messages/_answer.html", {**context, **_head(about), **_recipients(about, address)})


@xframe_options_sameorigin
@csp_replace(
    {
        # The mail's own page: an opaque origin that runs nothing, loads nothing and leads nowhere.
        "default-src": ["'none'"],
        "style-src": ["'unsafe-inline'"],
        "img-src": ["data:"],
        "script-src": ["'none'"],
        "connect-src": ["'none'"],
        "font-src": ["'none'"],
        "frame-src": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": ["'self'"],
        "sandbox": True,
    }
)
@require_safe
@tenant_page()
def html_part(request: HttpRequest, seat: Seat, message_id: UUID) -> HttpResponse:
    """The HTML part, for a sandboxed frame."""
    read = _read(seat, message_id)
    return render(request, "console/messages/html_part.html", {"html": read.html})


@require_safe
@tenant_page()
def original(request: HttpRequest, seat: Seat, message_id: UUID) -> HttpResponse:
    """The message as received, to keep or to hand to a mail program."""
    message = _found(seat, message_id).message
    content = history.content_of(message)
    if content is None:
        raise Http404
    return HttpResponse(
        content,
        content_type="application/octet-stream",  # never opened in place
        headers={"Content-Disposition": f'attachment; filename="{message.id}.eml"'},
    )


def _found(seat: Seat, message_id: UUID) -> MessageView:
    about = history.find_message(seat.tenant, message_id)
    if about is None:
        raise Http404
    return about


def _read(seat: Seat, message_id: UUID) -> preview.Read:
    message: Message = _found(seat, message_id).message
    content = history.content_of(message)
    if content is None:
        raise Http404
    return preview.read(content)


def _head(about: MessageView) -> dict[str, object]:
    """The answer on top: how many recipients are in which state."""
    counted = [(words.STATES[state], state, number) for state, number in about.states.items()]
    leading = counted[0][0] if counted else words.STATES[RecipientState.QUEUED]
    title = gettext("Message {id}").format(id=about.message.id.hex[:8])
    return {
        "counted": counted,
        "answer": _answer(about),
        "title": f"{_sign(leading)} {leading.label} · {title}",
        "short_id": about.message.id.hex[:8],
    }


def _answer(about: MessageView) -> str:
    states, total = about.states, sum(about.states.values())
    failed = states.get(RecipientState.BOUNCED, 0) + states.get(RecipientState.EXPIRED, 0)
    waiting = sum(number for state, number in states.items() if not state.is_final)
    accepted = states.get(RecipientState.DELIVERED, 0)
    if total == 1:
        only = next(iter(states))
        return gettext("The one recipient of this mail: {state}.").format(state=words.STATES[only].label)
    sentences = []
    if failed:
        sentences.append(
            ngettext("{n} recipient was not reached.", "{n} recipients were not reached.", failed).format(
                n=f"{failed:,}"
            )
        )
    if waiting:
        sentences.append(
            ngettext("{n} is still under way.", "{n} are still under way.", waiting).format(n=f"{waiting:,}")
        )
    if accepted == total:
        sentences.append(gettext("All {n} recipients were accepted by the receiving servers.").format(n=f"{total:,}"))
    elif accepted:
        sentences.append(
            ngettext(
                "{n} was accepted by the receiving server.", "{n} were accepted by the receiving servers.", accepted
            ).format(n=f"{accepted:,}")
        )
    return ("" if get_language() == "ja" else " ").join(sentences)


_SIGNS = {"ok": "✓", "fail": "✕", "late": "✕", "retry": "↻", "wait": "…", "hold": "‖", "quiet": "–", "note": "↩"}


def _sign(mark: words.Mark) -> str:
    return _SIGNS[mark.tone]


def _recipients(about: MessageView, address: Address) -> dict[str, object]:
    found = history.recipients_of(about.message, states=address.states, after=address.after, size=RECIPIENTS_AT_ONCE)
    views = list(found.views)
    if address.first is not None and address.after is None:
        pinned = next((view for view in views if view.row.recipient_id == address.first), None)
        if pinned is not None:
            views.remove(pinned)
            views.insert(0, pinned)
        else:
            views[:0] = history.recipients_by_id(about.message, [address.first])
    reports = history.reports_of(about.message, [view.row.recipient_id for view in views])
    return {
        "told": [stories.tell(view, about.message, reports=reports.get(view.row.recipient_id, ())) for view in views],
        "next_place": f"{found.next_key[0]}.{found.next_key[1].hex}" if found.next_key else "",
    }


def _place(text: str) -> tuple[int, UUID] | None:
    rank, _, key = text.partition(".")
    found = _uuid(key)
    return (int(rank), found) if rank.isdecimal() and len(rank) < 3 and found is not None else None


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
