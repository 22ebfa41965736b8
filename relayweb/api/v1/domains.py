"""Sending domains with the records they need, what was found of them, and what is wrong."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from django.utils.translation import gettext_noop as _
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.refusals import Refused
from delivery import domain_records, domain_watch, domains
from delivery.domain_checks import RecordCheck, level_of
from delivery.models import DomainState, SendingDomain
from relayweb.api.pagination import cursor_of, read_cursor
from relayweb.api.problems import not_found
from relayweb.api.resources import NoParameters, ResourceView, operation
from relayweb.api.structures import Input, Moment, Query, Shape, given_of, in_utc, page, page_of

_LEVELS = {"P": "problem", "W": "warning", "N": "note"}


class RecordShape(Shape, frozen=True):
    purpose: Annotated[str, msgspec.Meta(description=_("ownership, dkim, bounce, spf, dmarc or domain"))]
    type: str
    name: str
    value: Annotated[str, msgspec.Meta(description=_("what should stand there"))]
    found: str | None
    is_ok: bool
    finding: Annotated[str | None, msgspec.Meta(description=_("what is wrong, a machine word"))]
    level: Annotated[str | None, msgspec.Meta(description=_("problem, warning or note"))]


class DomainShape(Shape, frozen=True):
    id: UUID
    name: str
    state: Annotated[str, msgspec.Meta(description=_("pending, verified, lapsed or removed"))]
    is_assumed: Annotated[bool, msgspec.Meta(description=_("verified by the operator's word"))]
    signs: bool
    covers_subdomains: bool
    keeps_reverse_path: bool
    created_at: Moment
    verified_at: Moment | None
    checked_at: Moment | None
    next_check_at: Moment | None
    failing_since: Moment | None
    removed_at: Moment | None


class DomainDetail(DomainShape, frozen=True):
    records: list[RecordShape]


DomainPage = page_of(DomainShape)


class DomainQuery(Query, frozen=True):
    removed: Annotated[bool, msgspec.Meta(description=_("also those that were removed"))] = False


class NewDomain(Input, frozen=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class DomainChange(Input, frozen=True):
    signs: bool | msgspec.UnsetType = msgspec.UNSET
    covers_subdomains: bool | msgspec.UnsetType = msgspec.UNSET
    keeps_reverse_path: Annotated[
        bool | msgspec.UnsetType, msgspec.Meta(description=_("the mail's own reverse-path stays, and gets the bounces"))
    ] = msgspec.UNSET


class Domains(ResourceView):
    @operation(
        "list_domains", tag="domains", says=_("Sending domains, newest first"), query=DomainQuery, answer=DomainPage
    )
    def get(self, request: Request) -> Response:
        asked = self.asked(DomainQuery)
        found = SendingDomain.objects.of(self.tenant).order_by("-id")
        if not asked.removed:
            found = found.exclude(state=DomainState.REMOVED)
        if asked.cursor:
            found = found.filter(id__lt=read_cursor(asked.cursor)[0])
        rows = list(found[: asked.limit + 1])
        more, rows = len(rows) > asked.limit, rows[: asked.limit]
        return Response(page(map(_domain, rows), cursor_of(rows[-1].id if more else None)))

    @operation(
        "add_domain",
        tag="domains",
        says=_("Claim a domain; the answer has the records to publish"),
        body=NewDomain,
        answer=DomainDetail,
        status=201,
    )
    def post(self, request: Request) -> Response:
        given = self.given(NewDomain)
        return Response(_detail(domains.add_domain(self.tenant, given.name, actor=self.caller.actor)), status=201)


class DomainOne(ResourceView):
    @operation(
        "get_domain", tag="domains", says=_("One domain, by name or id"), query=NoParameters, answer=DomainDetail
    )
    def get(self, request: Request, domain: str) -> Response:
        self.asked(NoParameters)
        return Response(_detail(_found(self, domain)))

    @operation("change_domain", tag="domains", says=_("Its switches"), body=DomainChange, answer=DomainDetail)
    def patch(self, request: Request, domain: str) -> Response:
        given = self.given(DomainChange)
        found = _found(self, domain)
        return Response(_detail(domains.update_domain(found, actor=self.caller.actor, **given_of(given))))

    @operation(
        "remove_domain",
        tag="domains",
        says=_("Give a domain up: new mail is refused, open mail held"),
        query=NoParameters,
        answer=DomainDetail,
    )
    def delete(self, request: Request, domain: str) -> Response:
        self.asked(NoParameters)
        found = _found(self, domain)
        return Response(_detail(domains.remove_domain(found, actor=self.caller.actor)))


class CheckDomain(ResourceView):
    @operation("check_domain", tag="domains", says=_("Look the DNS up now"), answer=DomainDetail)
    def post(self, request: Request, domain: str) -> Response:
        self.given(NoParameters)
        found = _found(self, domain)
        return Response(_detail(domain_watch.check_domain(found, actor=self.caller.actor)))


class RestoreDomain(ResourceView):
    @operation("restore_domain", tag="domains", says=_("Take a removal back within 7 days"), answer=DomainDetail)
    def post(self, request: Request, domain_id: UUID) -> Response:
        self.given(NoParameters)
        found = domains.find_domain(domain_id, tenant=self.tenant, is_removed=True)
        return Response(_detail(domains.restore_domain(found, actor=self.caller.actor)))


def _found(view: ResourceView, key: str) -> SendingDomain:
    try:
        return domains.find_domain(key, tenant=view.tenant)
    except Refused:
        raise not_found() from None


def _domain(domain: SendingDomain) -> DomainShape:
    return DomainShape(**_fields(domain))


def _detail(domain: SendingDomain) -> DomainDetail:
    return DomainDetail(**_fields(domain), records=[_record(record) for record in domain_records.records_of(domain)])


def _fields(domain: SendingDomain) -> dict[str, Any]:
    return {
        "id": domain.id,
        "name": domain.name,
        "state": domain.state,
        "is_assumed": domain.is_assumed,
        "signs": domain.signs,
        "covers_subdomains": domain.covers_subdomains,
        "keeps_reverse_path": domain.keeps_reverse_path,
        "created_at": in_utc(domain.created_at),
        "verified_at": in_utc(domain.verified_at),
        "checked_at": in_utc(domain.checked_at),
        "next_check_at": in_utc(domain.next_check_at),
        "failing_since": in_utc(domain.failing_since),
        "removed_at": in_utc(domain.removed_at),
    }


def _record(record: RecordCheck) -> RecordShape:
    return RecordShape(
        purpose=record.purpose,
        type=record.type,
        name=record.name,
        value=record.value,
        found=record.found,
        is_ok=record.ok,
        finding=record.finding.value if record.finding else None,
        level=_LEVELS[level_of(record.finding).value] if record.finding else None,
    )
