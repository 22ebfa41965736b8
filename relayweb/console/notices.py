"""What happened to a tenant that its people must know, open and past; and which of it comes by mail."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext
from django.views.decorators.http import require_http_methods, require_safe

from accounts import notices
from accounts.models import NoticeKind
from relayweb.console import telling
from relayweb.console.access import Seat, tenant_page
from relayweb.console.forms import tell


@tenant_page()
@require_safe
def page(request: HttpRequest, seat: Seat) -> HttpResponse:
    context = {
        "section": "notices",
        "open": [telling.told(notice) for notice in _with_tenant(notices.open_notices(seat.tenant), seat)],
        "past": [telling.told(notice) for notice in _with_tenant(notices.past_notices(seat.tenant), seat)],
    }
    return render(request, "console/notices/list.html", context)


@tenant_page()
@require_http_methods(["GET", "HEAD", "POST"])
def choices(request: HttpRequest, seat: Seat) -> HttpResponse:
    """Each member for themselves; letters about signing in cannot be switched off."""
    assert seat.membership is not None
    if request.method == "POST":
        wanted = frozenset(NoticeKind(kind) for kind in request.POST.getlist("kind") if kind in NoticeKind.values)
        notices.choose(seat.membership, wanted)
        tell(request, gettext("Saved."))
        return redirect("notice-choices", slug=seat.tenant.slug)
    context = {
        "section": "notices",
        "kinds": [(kind, telling.KINDS[kind], chosen) for kind, chosen in notices.choices_of(seat.membership).items()],
        "is_confirmed": seat.person.email_confirmed_at is not None,
    }
    return render(request, "console/notices/choices.html", context)


def _with_tenant(found: list[notices.Notice], seat: Seat) -> list[notices.Notice]:
    for notice in found:
        notice.tenant = seat.tenant  # spares a question per row
    return found
