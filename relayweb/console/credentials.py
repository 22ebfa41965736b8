"""Credentials: issued by kind, shown once, rotated with an overlap, revoked for good."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_safe

from accounts import credentials
from accounts.models import Credential, CredentialKind, CredentialUse, Role
from accounts.refusals import NotFound, Refused
from delivery.models import DomainState, SendingDomain, Stream
from delivery.pools import pool_of_credential
from relayweb.console import credential_words, moments, once, snippets, words
from relayweb.console.access import Seat, tenant_page
from relayweb.console.forms import ConsoleForm, tell, tell_refusal
from relayweb.console.words import Mark

LIFETIMES = {"": _("Never"), "30": _("After 30 days"), "90": _("After 90 days"), "365": _("After a year")}
OVERLAPS = {"24": _("Works on for 24 hours"), "168": _("Works on for 7 days"), "0": _("Stops at once")}
UNUSED_FOR = timedelta(days=90)
SCOPES = {
    "send": _("Send mail"),
    "read": _("Read what became of mail"),
    "manage": _("Manage domains and suppressions"),
    "members": _("Invite and remove members, and change their roles"),
}


class IssueForm(ConsoleForm):
    """The fields that a kind of credential has; the others are taken away."""

    name = forms.CharField(label=_("Name"), max_length=120, help_text=_("For yourself, such as “shop” or “billing”."))
    network = forms.CharField(
        label=_("Network"),
        max_length=50,
        help_text=_("The public addresses your machines connect from, such as 192.0.2.0/28. At most a /24, or a /48."),
    )
    use = forms.ChoiceField(
        label=_("Used by"),
        choices=[(use.value, label) for use, (label, _sentence) in credential_words.CREDENTIAL_USES.items()],
    )
    stream = forms.ChoiceField(label=_("Stream"), help_text=_("Keeps urgent mail apart from mailings."))
    scopes = forms.MultipleChoiceField(
        label=_("May"),
        choices=list(SCOPES.items()),
        widget=forms.CheckboxSelectMultiple,
        initial=list(credentials.API_SCOPES),
    )
    only_domain = forms.ChoiceField(
        label=_("Only for authors of"), required=False, help_text=_("A leaked key can then write in no other name.")
    )
    only_networks = forms.CharField(
        label=_("Only from"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false"}),
        help_text=_("Addresses or networks, one a line. Empty: from anywhere."),
    )
    daily_limit = forms.IntegerField(
        label=_("Recipients a day"),
        required=False,
        min_value=1,
        max_value=2**31 - 1,
        help_text=_("Empty: the tenant's limit."),
    )
    rate_per_second = forms.FloatField(
        label=_("Recipients a second"),
        required=False,
        min_value=0.001,
        max_value=1e6,
        help_text=_("Sent at most so fast; the rest waits. Empty: the tenant's rate."),
    )
    expires = forms.ChoiceField(label=_("Ends"), required=False, choices=list(LIFETIMES.items()))
    is_test = forms.BooleanField(
        label=_("Only for tests"),
        required=False,
        help_text=_("Mail is taken and shown like any other, and never leaves the service."),
    )

    def __init__(self, seat: Seat, kind: CredentialKind, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        left_out = {
            CredentialKind.SMTP: ("network", "scopes"),
            CredentialKind.API: ("network", "use"),
            CredentialKind.NETWORK: ("scopes", "only_networks"),
        }[kind]
        for name in left_out:
            del self.fields[name]
        if "scopes" in self.fields and not seat.may_manage:
            self.fields["scopes"].choices = [  # type: ignore[attr-defined]
                (scope, label) for scope, label in SCOPES.items() if scope != credentials.MEMBERS
            ]
        streams = Stream.objects.of(seat.tenant).order_by("-is_default", "name")
        self._streams = {str(stream.id): stream.id for stream in streams}
        domains = SendingDomain.objects.of(seat.tenant).exclude(state=DomainState.REMOVED).order_by("name")
        self.fields["stream"].choices = [  # type: ignore[attr-defined]
            (str(stream.id), f"{stream.name} ({words.STREAM_KINDS[stream.kind]})") for stream in streams
        ]
        self.fields["only_domain"].choices = [  # type: ignore[attr-defined]
            ("", gettext("all domains of the tenant")),
            *((domain.name, domain.name) for domain in domains),
        ]

    @property
    def basics(self) -> list[forms.BoundField]:
        return [self[name] for name in ("name", "network", "use", "stream", "scopes") if name in self.fields]

    @property
    def limits(self) -> list[forms.BoundField]:
        names = ("only_domain", "only_networks", "daily_limit", "rate_per_second", "expires")
        return [self[name] for name in names if name in self.fields]

    @property
    def has_wrong_limit(self) -> bool:
        return any(field.errors for field in self.limits)

    @property
    def stream_id(self) -> UUID:
        return self._streams[self.cleaned_data["stream"]]

    @property
    def expires_at(self) -> datetime | None:
        days = self.cleaned_data.get("expires")
        return timezone.now() + timedelta(days=int(days)) if days else None


class RotateForm(ConsoleForm):
    overlap = forms.ChoiceField(label=_("The present secret"), choices=list(OVERLAPS.items()))


@dataclass(frozen=True, slots=True)
class Line:
    credential: Credential
    kind: words.Text
    mark: Mark
    is_neglected: bool
    stream: str


# ---------------------------------------------------------------- pages


@tenant_page()
@require_safe
def credential_list(request: HttpRequest, seat: Seat) -> HttpResponse:
    with_revoked = "revoked" in request.GET
    found = credentials.list_credentials(seat.tenant, with_revoked=True)
    streams = dict(Stream.objects.of(seat.tenant).values_list("id", "name"))
    lines = [_line(credential, streams) for credential in found if with_revoked or credential.revoked_at is None]
    context = {
        "section": "credentials",
        "lines": lines,
        "with_revoked": with_revoked,
        "revoked": sum(1 for credential in found if credential.revoked_at is not None),
        "neglected": sum(1 for line in lines if line.is_neglected),
    }
    return render(request, "console/credentials/list.html", context)


@tenant_page(Role.DEVELOPER)
@require_http_methods(["GET", "HEAD", "POST"])
def issue(request: HttpRequest, seat: Seat) -> HttpResponse:
    """The kind first; then only its fields."""
    wanted = request.GET.get("kind", "")
    if wanted not in CredentialKind.values:
        return render(
            request,
            "console/credentials/kinds.html",
            {"section": "credentials", "kinds": credential_words.CREDENTIAL_KINDS},
        )
    kind = CredentialKind(wanted)
    form = IssueForm(seat, kind, request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            return _issue(request, seat, kind, form)
        except Refused as refusal:
            form.refuse(refusal)
    context = {"section": "credentials", "form": form, "kind": kind, "about": credential_words.CREDENTIAL_KINDS[kind]}
    return render(request, "console/credentials/issue.html", context)


@sensitive_variables("issued")
def _issue(request: HttpRequest, seat: Seat, kind: CredentialKind, form: IssueForm) -> HttpResponse:
    """Raises Refused."""
    given = form.cleaned_data
    issued = credentials.issue_credential(
        seat.tenant,
        kind=kind,
        actor=seat.actor,
        name=given["name"],
        use=given.get("use") or CredentialUse.APPLICATION,
        is_test=given["is_test"],
        network=given.get("network"),
        stream_id=form.stream_id,
        only_domain=given["only_domain"],
        only_networks=given.get("only_networks", "").split(),
        scopes=given.get("scopes") or credentials.API_SCOPES,
        daily_limit=given["daily_limit"],
        rate_per_second=given["rate_per_second"],
        expires_at=form.expires_at,
    )
    if issued.secret is None:
        tell(request, gettext("“{name}” works as soon as an operator agrees.").format(name=issued.credential.name))
        return redirect("credential", slug=seat.tenant.slug, credential_id=issued.credential.id)
    once.put(request, issued.credential.id, issued.secret)
    return redirect("credential-secret", slug=seat.tenant.slug, credential_id=issued.credential.id)


@tenant_page(Role.DEVELOPER)
@require_safe
@sensitive_variables("secret")
def secret_page(request: HttpRequest, seat: Seat, credential_id: UUID) -> HttpResponse:
    """The one look at a new secret. Afterwards this address leads to the credential."""
    credential = _found(seat, credential_id)
    secret = once.take(request, credential_id) if request.method == "GET" else None
    if secret is None:
        tell_refusal(request, Refused(gettext("The secret was shown once and cannot be shown again."), reason="shown"))
        return redirect("credential", slug=seat.tenant.slug, credential_id=credential_id)
    is_key = credential.kind == CredentialKind.API
    context = {
        "section": "credentials",
        "credential": credential,
        "secret": credentials.api_key(credential, secret) if is_key else secret,
        "is_key": is_key,
        "snippets": snippets.for_credential(credential, secret=secret),
        "access": snippets.access_for(seat.tenant),
    }
    return render(request, "console/credentials/secret.html", context)


@tenant_page()
@require_safe
def page(request: HttpRequest, seat: Seat, credential_id: UUID) -> HttpResponse:
    credential = _found(seat, credential_id)
    context = {
        "section": "credentials",
        "line": _line(credential, dict(Stream.objects.of(seat.tenant).values_list("id", "name"))),
        "credential": credential,
        "pool": pool_of_credential(credential),
        "scopes": [SCOPES[scope] for scope in credential.scopes if scope in SCOPES],
        "last_use": _last_use(credential),
        "use": credential_words.CREDENTIAL_USES[CredentialUse(credential.use)][0],
        "has_overlap": credential.former_secret_until is not None and credential.former_secret_until > timezone.now(),
        "snippets": snippets.for_credential(credential),
    }
    return render(request, "console/credentials/credential.html", context)


@tenant_page(Role.DEVELOPER)
@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_variables("secret")
def rotate(request: HttpRequest, seat: Seat, credential_id: UUID) -> HttpResponse:
    credential = _found(seat, credential_id)
    if credential.revoked_at is not None or credential.kind == CredentialKind.NETWORK:
        raise Http404
    form = RotateForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        overlap = timedelta(hours=int(form.cleaned_data["overlap"]))
        try:
            secret = credentials.rotate_credential(credential, actor=seat.actor, overlap=overlap)
        except Refused as refusal:
            form.refuse(refusal)
        else:
            once.put(request, credential.id, secret)
            return redirect("credential-secret", slug=seat.tenant.slug, credential_id=credential.id)
    context = {"section": "credentials", "credential": credential, "form": form}
    return render(request, "console/credentials/rotate.html", context)


@tenant_page(Role.DEVELOPER)
@require_http_methods(["GET", "HEAD", "POST"])
def revoke(request: HttpRequest, seat: Seat, credential_id: UUID) -> HttpResponse:
    credential = _found(seat, credential_id)
    if request.method == "POST":
        try:
            credentials.revoke_credential(credential, actor=seat.actor)
        except Refused as refusal:
            tell_refusal(request, refusal)
        else:
            tell(request, gettext("“{name}” is revoked.").format(name=credential.name))
        return redirect("credentials", slug=seat.tenant.slug)
    context = {"section": "credentials", "credential": credential, "last_use": _last_use(credential)}
    return render(request, "console/credentials/revoke.html", context)


# ---------------------------------------------------------------- small parts


def _found(seat: Seat, credential_id: UUID) -> Credential:
    try:
        return credentials.find_credential(credential_id, tenant=seat.tenant)
    except NotFound:
        raise Http404 from None


def _line(credential: Credential, streams: dict[UUID, str]) -> Line:
    now = timezone.now()
    begun = credential.last_used_at or credential.created_at
    return Line(
        credential,
        credential_words.CREDENTIAL_KINDS[CredentialKind(credential.kind)][0],
        credential_words.CREDENTIAL_MARKS[_state(credential, now)],
        credential.revoked_at is None and now - begun > UNUSED_FOR,
        streams.get(credential.stream_id, "") if credential.stream_id else "",
    )


def _state(credential: Credential, now: datetime) -> str:
    if credential.revoked_at is not None:
        return "revoked"
    if credential.expires_at is not None and credential.expires_at <= now:
        return "expired"
    if credential.kind == CredentialKind.NETWORK and credential.approved_at is None:
        return "waiting"
    return "active" if credential.last_used_at else "unused"


def _last_use(credential: Credential) -> str:
    if credential.last_used_at is None:
        return ""
    return words.fill(
        _("Last used {time} from {ip}."),
        time=moments.time_tag(credential.last_used_at, style="full"),
        ip=credential.last_used_from or "?",
    )
