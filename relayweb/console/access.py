"""Who may open a page. Another tenant's address and one that does not exist are the same 404.

Refreshes come every few seconds, so person, membership and tenant are read in one query where the session is plainly
valid; everything else about sessions (a changed password ends the others) is Django's own way, which then follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache

from accounts.audit import Actor
from accounts.models import Membership, Role, Tenant, TenantState, User
from accounts.refusals import NotFound
from accounts.tenants import find_tenant
from relayweb.console import acting, visits

UTC_COOKIE = "relay_clock"

View = Callable[..., HttpResponseBase]


def found_tenant(slug: str) -> Tenant:
    """For an operator's page about a tenant; 404 where there is none. An id in the slug's place is none."""
    try:
        tenant = find_tenant(slug)
    except NotFound:
        raise Http404 from None
    if tenant.slug != slug:
        raise Http404
    return tenant


@dataclass(frozen=True, slots=True)
class Seat:
    """A signed-in person's place in the tenant whose page is asked for."""

    tenant: Tenant
    person: User
    role: Role
    peer_address: str | None = None
    membership: Membership | None = None
    acts_for: User | None = None  # the member whose place an operator takes

    @property
    def actor(self) -> Actor:
        """Who the audit log names for what is done here. A tenant's page gives nobody an operator's rights."""
        for_whom = self.acts_for.email if self.acts_for else ""
        return Actor(self.person.email, user=self.person, on_behalf_of=for_whom, peer_address=self.peer_address)

    @property
    def sees_content(self) -> bool:
        """Subjects and contents of mail."""
        return self.acts_for is None or self.tenant.lets_operators_read

    @property
    def may_set_up(self) -> bool:
        return self.role.includes(Role.DEVELOPER)

    @property
    def may_manage(self) -> bool:
        return self.role.includes(Role.ADMIN)


def tenant_page(role: Role = Role.ANALYST) -> Callable[[View], View]:
    """For a view below /t/<slug>/: signed in, member, with at least this role. The view gets the Seat."""

    def wrap(view: View) -> View:
        @never_cache
        @wraps(view)
        def within(request: HttpRequest, slug: str, **kwargs: Any) -> HttpResponseBase:
            membership = _membership_at_once(request, slug)
            if not request.user.is_authenticated:
                return _signed_out(request)
            represented = acting.member_for(request, slug)
            if represented is not None:
                seat = _take_seat(request, represented, acts_for=represented.user)
                if acting.is_refused(request, seat.tenant):
                    return acting.refusal(request, seat.tenant)
            else:
                seat = _take_seat(request, membership or _membership(request, slug))
            if seat.tenant.requires_two_factors and not seat.person.has_second_factor:
                return _to_second_factor(request)
            if not seat.role.includes(role):
                raise PermissionDenied
            return view(request, seat, **kwargs)

        within.is_tenant_page = True  # type: ignore[attr-defined]
        within.role = role  # type: ignore[attr-defined]
        return within

    return wrap


def operator_page(view: View) -> View:
    """For a view below /operator/: to everybody else the page does not exist."""

    @never_cache
    @wraps(view)
    def within(request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return _signed_out(request)
        if not request.user.is_operator:
            raise Http404
        use_clock_of(request, request.user.time_zone)
        visits.note(request)
        return view(request, **kwargs)

    return within


def person_page(view: View) -> View:
    """For a view that needs a person and no tenant."""

    @never_cache
    @wraps(view)
    def within(request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return _signed_out(request)
        use_clock_of(request, request.user.time_zone)
        visits.note(request)
        return view(request, **kwargs)

    return within


def use_clock_of(request: HttpRequest, zone: str) -> None:
    """Times are shown in the reader's zone, or in UTC where the reader has switched to it."""
    if request.COOKIES.get(UTC_COOKIE) == "utc":
        zone = "UTC"
    try:
        timezone.activate(ZoneInfo(zone or timezone.get_default_timezone_name()))
    except (ZoneInfoNotFoundError, ValueError):
        timezone.deactivate()


@contextmanager
def in_clock_of(zone: str) -> Iterator[None]:
    """For what is written outside a request: times in this zone, or the installation's if there is none of that name."""
    try:
        chosen = ZoneInfo(zone or timezone.get_default_timezone_name())
    except (ZoneInfoNotFoundError, ValueError):
        chosen = ZoneInfo(timezone.get_default_timezone_name())
    with timezone.override(chosen):
        yield


def _signed_out(request: HttpRequest) -> HttpResponse:
    if request.headers.get("HX-Request"):
        # A part that refreshes must not be filled with the sign-in page: it keeps its content and says that it is old.
        return HttpResponse(status=401)
    return redirect_to_login(request.get_full_path())


def _to_second_factor(request: HttpRequest) -> HttpResponse:
    """The tenant demands a second factor that this member has not: the page that sets one up says so."""
    return HttpResponse(status=401) if request.headers.get("HX-Request") else redirect("security")


def _membership_at_once(request: HttpRequest, slug: str) -> Membership | None:
    if SESSION_KEY not in request.session:
        return None
    membership = (
        Membership.objects.select_related("tenant", "user")
        .filter(tenant__slug=slug, user_id=request.session[SESSION_KEY], user__is_active=True)
        .first()
    )
    if membership is None:
        return None
    if not constant_time_compare(request.session.get(HASH_SESSION_KEY, ""), membership.user.get_session_auth_hash()):
        return None
    request.user = membership.user
    return membership


def _membership(request: HttpRequest, slug: str) -> Membership | None:
    return Membership.objects.select_related("tenant").filter(tenant__slug=slug, user=request.user.pk).first()


def _take_seat(request: HttpRequest, membership: Membership | None, *, acts_for: User | None = None) -> Seat:
    """Raises Http404 for a stranger, and for a tenant that is closed or does not exist."""
    if membership is None or membership.tenant.state == TenantState.CLOSED:
        raise Http404
    assert isinstance(request.user, User)
    seat = Seat(
        membership.tenant,
        request.user,
        Role(membership.role),
        request.META.get("REMOTE_ADDR") or None,
        membership,
        acts_for,
    )
    request.seat = seat  # type: ignore[attr-defined]
    use_clock_of(request, seat.person.time_zone or seat.tenant.time_zone)
    visits.note(request)
    return seat
