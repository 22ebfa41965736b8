"""Whom mail must not go to: the list, one entry with its cause, adding and removing, lists as files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import chain, islice
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, QueryDict, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import Role
from accounts.refusals import NotFound, Refused
from delivery import suppression_files, suppression_search, suppressions
from delivery.core.classification import ReplyClass
from delivery.models import Message, Stream, Suppression, SuppressionKind, SuppressionReason, SuppressionScope
from delivery.suppression_search import ListFilter
from delivery.suppressions import Cause, Owner
from relayweb.console import class_words, suppression_words, words
from relayweb.console.access import Seat, tenant_page
from relayweb.console.forms import ConsoleForm, tell, tell_refusal
from relayweb.console.keysets import key_of

WHICH: dict[str, str | Promise] = {
    "active": _("In force"),
    "expiring": _("Ending within 30 days"),
    "expired": _("Past their end"),
    "removed": _("Removed"),
}
ENDS = {"": _("Never"), "30": _("After 30 days"), "90": _("After 90 days"), "365": _("After a year")}
MOST_COUNTED = 10_000
MOST_CHARACTERS = 320
_LINES_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Query:
    """The filter as it stands in the address of the page. What cannot be read is left out, never an error."""

    wanted: ListFilter

    @classmethod
    def read(cls, given: QueryDict) -> Query:
        def one_of(name: str, known: object) -> str:
            value = given.get(name, "")
            return value if value in known else ""  # type: ignore[operator]

        return cls(
            ListFilter(
                query=given.get("q", "").replace("\0", "").strip()[:MOST_CHARACTERS],
                scope=one_of("scope", SuppressionScope.values),
                reason=one_of("reason", SuppressionReason.values),
                reply_class=one_of("class", [known.value for known in ReplyClass]),
                stream=given.get("stream", "").replace("\0", "")[:120],
                which=one_of("which", WHICH) or "active",
            )
        )

    @property
    def encoded(self) -> str:
        wanted = self.wanted
        pairs = [
            ("q", wanted.query),
            ("scope", wanted.scope),
            ("reason", wanted.reason),
            ("class", wanted.reply_class),
            ("stream", wanted.stream),
            ("which", "" if wanted.which == "active" else wanted.which),
        ]
        return urlencode([(name, value) for name, value in pairs if value])

    @property
    def is_narrowed(self) -> bool:
        return bool(self.encoded)

    def without(self, **names: str) -> str:
        return Query(replace(self.wanted, **names)).encoded


@dataclass(frozen=True, slots=True)
class Chip:
    """One criterion in force, and the address without it."""

    name: str | Promise
    value: str | Promise
    without: str


@dataclass(frozen=True, slots=True)
class Line:
    row: Suppression
    reason: words.Mark
    kind: words.Text
    reach: words.Text
    class_label: words.Text
    is_active: bool


class AddForm(ConsoleForm):
    address = forms.CharField(
        label=_("Address, domain or pattern"),
        max_length=MOST_CHARACTERS,
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
        help_text=_("bob@example.com, example.com for everybody there, or *@*.example.com with * for anything."),
    )
    stream = forms.ChoiceField(
        label=_("Whose mail"), required=False, help_text=_("Whether all mail of this tenant stops, or one stream.")
    )
    ends = forms.ChoiceField(label=_("Ends"), required=False, choices=list(ENDS.items()))
    note = forms.CharField(
        label=pgettext_lazy("remark", "Note"),
        required=False,
        max_length=500,
        help_text=_("For your colleagues: who asked, and where."),
    )

    def __init__(self, seat: Seat, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        streams = Stream.objects.of(seat.tenant).order_by("-is_default", "name")
        self._streams = {str(stream.pk): stream for stream in streams}
        self.fields["stream"].choices = [  # type: ignore[attr-defined]
            ("", gettext("all mail of this tenant")),
            *((key, f"{stream.name} ({words.STREAM_KINDS[stream.kind]})") for key, stream in self._streams.items()),
        ]

    @property
    def chosen_stream(self) -> Stream | None:
        return self._streams.get(self.cleaned_data["stream"])


class RemoveForm(ConsoleForm):
    reason = forms.CharField(label=_("Reason"), required=False, max_length=500)


# ---------------------------------------------------------------- the list


@tenant_page()
@require_safe
def suppression_list(request: HttpRequest, seat: Seat) -> HttpResponse:
    query = Query.read(request.GET)
    page = suppression_search.page_of(
        seat.tenant, query.wanted, before=key_of(request, "before"), after=key_of(request, "after")
    )
    is_first = "before" not in request.GET and "after" not in request.GET
    exact = suppression_search.exact_matches(seat.tenant, query.wanted.query) if query.wanted.query and is_first else []
    shown_exactly = {row.pk for row in exact}
    total = suppression_search.count_up_to(seat.tenant, query.wanted, most=MOST_COUNTED)
    context = {
        "section": "suppressions",
        "query": query,
        "page": page,
        "exact": [line_of(row) for row in exact],
        "lines": [line_of(row) for row in page.rows if row.pk not in shown_exactly],
        "total": min(total, MOST_COUNTED),
        "is_more": total > MOST_COUNTED,
        "is_unused": not total and not query.is_narrowed,
        "chips": _chips(query),
        "reasons": suppression_words.SUPPRESSION_REASONS,
        "scopes": {scope: suppression_words.SUPPRESSION_SCOPES[scope] for scope in ("tenant", "stream")},  # type: ignore[index]
        "classes": class_words.CLASSES,
        "streams": Stream.objects.of(seat.tenant).order_by("name").values_list("name", flat=True),
        "which": WHICH,
    }
    return render(request, "console/suppressions/list.html", context)


def line_of(row: Suppression) -> Line:
    known = row.reply_class and class_words.CLASSES.get(ReplyClass(row.reply_class))
    return Line(
        row,
        suppression_words.SUPPRESSION_REASONS[SuppressionReason(row.reason)],
        suppression_words.SUPPRESSION_KINDS[SuppressionKind(row.kind)],
        row.stream.name if row.stream else suppression_words.SUPPRESSION_SCOPES[SuppressionScope(row.scope)],
        known.label if known else "",
        row.is_active(),
    )


def _chips(query: Query) -> list[Chip]:
    wanted = query.wanted
    possible = (
        (_("Address"), wanted.query, "query", wanted.query),
        (
            _("Reach"),
            wanted.scope,
            "scope",
            wanted.scope and suppression_words.SUPPRESSION_SCOPES[SuppressionScope(wanted.scope)],
        ),
        (
            _("Reason"),
            wanted.reason,
            "reason",
            wanted.reason and suppression_words.SUPPRESSION_REASONS[SuppressionReason(wanted.reason)].label,
        ),
        (
            _("Class"),
            wanted.reply_class,
            "reply_class",
            wanted.reply_class and class_words.CLASSES[ReplyClass(wanted.reply_class)].label,
        ),
        (_("Stream"), wanted.stream, "stream", wanted.stream),
        (_("State"), wanted.which != "active", "which", WHICH[wanted.which]),
    )
    return [
        Chip(name, shown, query.without(**{field: "active" if field == "which" else ""}))
        for name, value, field, shown in possible
        if value
    ]


@tenant_page()
@require_safe
def export(request: HttpRequest, seat: Seat) -> HttpResponseBase:
    """What the filter finds, however long, as CSV."""
    lines = suppression_files.export_csv(seat.tenant, Query.read(request.GET).wanted)
    return csv_answer(lines, name=f"suppressions-{seat.tenant.slug}")


def csv_answer(lines: Iterable[str], *, name: str) -> HttpResponseBase:
    """A file of any length. Spreadsheets take it for UTF-8 only when it says so at its beginning."""
    today = timezone.localdate().isoformat()
    return StreamingHttpResponse(
        _in_chunks(chain(["\ufeff"], lines)),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}-{today}.csv"'},
    )


def _in_chunks(lines: Iterable[str]) -> Iterator[str]:
    """Each chunk passes every layer of the server; a line is too little for that."""
    lines = iter(lines)
    while chunk := "".join(islice(lines, _LINES_AT_ONCE)):
        yield chunk


# ---------------------------------------------------------------- one of them


@tenant_page()
@require_safe
def page(request: HttpRequest, seat: Seat, suppression_id: UUID) -> HttpResponse:
    row = _found(seat, suppression_id)
    message = Message.objects.of(seat.tenant).filter(pk=row.message_id).first() if row.message_id else None
    context = {
        "section": "suppressions",
        "line": line_of(row),
        "row": row,
        "message": message,
        "restorable_until": row.removed_at + suppressions.RESTORABLE if row.removed_at else None,
        "may_restore": row.removed_at is not None and timezone.now() < row.removed_at + suppressions.RESTORABLE,
        "mail_query": urlencode({"recipient": row.value.lstrip("@*")}),
    }
    return render(request, "console/suppressions/page.html", context)


@tenant_page(Role.DEVELOPER)
@require_http_methods(["GET", "HEAD", "POST"])
def add(request: HttpRequest, seat: Seat) -> HttpResponse:
    form = AddForm(seat, request.POST or None, initial={"address": request.GET.get("address", "")[:MOST_CHARACTERS]})
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        until = timezone.now() + timedelta(days=int(given["ends"])) if given["ends"] else None
        try:
            row, changed = suppressions.add(
                Owner(seat.tenant, form.chosen_stream),
                suppressions.read_target(given["address"]),
                Cause(SuppressionReason.MANUAL, detail=given["note"], expires_at=until),
                actor=seat.actor,
            )
        except Refused as refusal:
            form.refuse(refusal)
        else:
            said = (
                gettext("Mail to “{address}” is kept back from now on.")
                if changed
                else gettext("“{address}” was on the list already, for as long or longer.")
            )
            tell(request, said.format(address=row.value))
            return redirect("suppression", slug=seat.tenant.slug, suppression_id=row.pk)
    return render(request, "console/suppressions/add.html", {"section": "suppressions", "form": form})


@tenant_page(Role.DEVELOPER)
@require_http_methods(["GET", "HEAD", "POST"])
def remove(request: HttpRequest, seat: Seat, suppression_id: UUID) -> HttpResponse:
    row = _found(seat, suppression_id)
    form = RemoveForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            suppressions.remove(row, actor=seat.actor, reason=form.cleaned_data["reason"])
        except Refused as refusal:
            if refusal.field:
                form.refuse(refusal)
                return _ask_to_remove(request, row, form)
            tell_refusal(request, refusal)
        else:
            tell(
                request,
                gettext("Sending to “{address}” is allowed again, from the next mail on.").format(address=row.value),
            )
        return redirect("suppression", slug=seat.tenant.slug, suppression_id=row.pk)
    return _ask_to_remove(request, row, form)


def _ask_to_remove(request: HttpRequest, row: Suppression, form: RemoveForm) -> HttpResponse:
    needs_reason = row.reason in (SuppressionReason.COMPLAINT, SuppressionReason.UNSUBSCRIBE)
    context = {"section": "suppressions", "row": row, "line": line_of(row), "form": form, "needs_reason": needs_reason}
    return render(request, "console/suppressions/remove.html", context)


@tenant_page(Role.DEVELOPER)
@require_POST
def restore(request: HttpRequest, seat: Seat, suppression_id: UUID) -> HttpResponse:
    row = _found(seat, suppression_id)
    try:
        suppressions.restore(row, actor=seat.actor)
    except Refused as refusal:
        tell_refusal(request, refusal)
    else:
        tell(request, gettext("Mail to “{address}” is kept back again.").format(address=row.value))
    return redirect("suppression", slug=seat.tenant.slug, suppression_id=row.pk)


def _found(seat: Seat, key: UUID) -> Suppression:
    try:
        return suppression_search.find_by_id(seat.tenant, key)
    except NotFound:
        raise Http404 from None
