"""Whom the tenant's mail must not go to: found, added, removed and restored, one by one or a thousand at once."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from uuid import UUID

import msgspec
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_noop as _
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.refusals import NotFound, Refused
from delivery import suppressions
from delivery.models import Suppression, SuppressionKind, SuppressionReason
from delivery.suppression_list import key_of
from delivery.suppressions import Cause, Owner, Target
from delivery.tenants import find_stream
from relayweb.api.pagination import cursor_of, read_cursor
from relayweb.api.problems import not_found, unknown_value
from relayweb.api.resources import NoParameters, ResourceView, operation
from relayweb.api.structures import Input, Moment, MomentGiven, Query, Shape, in_utc, page, page_of

MOST_AT_ONCE = 1000


class SuppressionScopeName(StrEnum):
    TENANT = "tenant"
    STREAM = "stream"


class SuppressionReasonName(StrEnum):
    BOUNCE = "bounce"
    COMPLAINT = "complaint"
    UNSUBSCRIBE = "unsubscribe"
    MANUAL = "manual"
    IMPORT = "import"


class SuppressionShape(Shape, rename={"reply_class": "class"}, frozen=True):
    id: UUID
    address: Annotated[str, msgspec.Meta(description=_("an address, a domain, or a pattern with *"))]
    kind: Annotated[str, msgspec.Meta(description=_("address, domain or pattern"))]
    scope: Annotated[str, msgspec.Meta(description=_("tenant or stream"))]
    stream: str | None
    reason: SuppressionReasonName
    reply_class: str | None
    detail: str | None
    message_id: UUID | None
    recipient_id: UUID | None
    hits: Annotated[int, msgspec.Meta(description=_("mails it kept back"))]
    created_at: Moment
    created_by: str | None
    expires_at: Moment | None
    removed_at: Moment | None
    removed_by: str | None
    removed_reason: str | None


SuppressionPage = page_of(SuppressionShape)


class SuppressionQuery(Query, frozen=True):
    search: Annotated[str, msgspec.Meta(max_length=320, description=_("a part of the address"))] = ""
    scope: SuppressionScopeName | msgspec.UnsetType = msgspec.UNSET
    reason: SuppressionReasonName | msgspec.UnsetType = msgspec.UNSET
    removed: Annotated[bool, msgspec.Meta(description=_("what was removed, instead of what is in force"))] = False


Address = Annotated[str, msgspec.Meta(min_length=1, max_length=320)]
StreamName = Annotated[str, msgspec.Meta(max_length=48, description=_("only for mail of this stream"))]
Note = Annotated[str, msgspec.Meta(max_length=500)]


class NewSuppression(Input, frozen=True):
    address: Annotated[
        str, msgspec.Meta(min_length=1, max_length=320, description=_("an address, a domain, or a pattern with *"))
    ]
    stream: StreamName = ""
    expires_at: MomentGiven | None = None
    note: Note = ""


class RemovalQuery(Input, frozen=True):
    reason: Annotated[
        str, msgspec.Meta(max_length=500, description=_("needed where the recipient asked not to get mail"))
    ] = ""


class BulkAddition(Input, frozen=True):
    addresses: Annotated[
        list[Address], msgspec.Meta(min_length=1, max_length=MOST_AT_ONCE, description=_("addresses and domains"))
    ]
    stream: StreamName = ""
    expires_at: MomentGiven | None = None
    note: Note = ""


class BulkRemoval(Input, frozen=True):
    addresses: Annotated[list[Address], msgspec.Meta(min_length=1, max_length=MOST_AT_ONCE)]
    stream: StreamName = ""
    reason: Annotated[
        str, msgspec.Meta(max_length=500, description=_("without it, those whose recipient asked stay"))
    ] = ""


class BulkStatus(StrEnum):
    SUPPRESSED = "suppressed"
    REMOVED = "removed"
    NOT_FOUND = "not_found"  # or kept, because the recipient asked and no reason was given
    REFUSED = "refused"


class BulkResult(Shape, frozen=True):
    address: str
    status: BulkStatus
    detail: str | None


class BulkResults(Shape, frozen=True):
    changed: int
    results: Annotated[list[BulkResult], msgspec.Meta(description=_("one for each address, in order"))]


class Suppressions(ResourceView):
    @operation(
        "list_suppressions", tag="suppressions", says=_("Suppressions, newest first"), query=SuppressionQuery,
        answer=SuppressionPage,
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        asked = self.asked(SuppressionQuery)
        found = Suppression.objects.of(self.tenant).select_related("stream").order_by("-id")
        found = found.filter(removed_at__isnull=not asked.removed)
        if not asked.removed:
            found = found.filter(Q(expires_at=None) | Q(expires_at__gt=timezone.now()))
        if asked.search:
            found = found.filter(value__contains=key_of(asked.search.strip()))
        if asked.scope is not msgspec.UNSET:
            found = found.filter(scope=asked.scope)
        if asked.reason is not msgspec.UNSET:
            found = found.filter(reason=asked.reason)
        if asked.cursor:
            found = found.filter(id__lt=read_cursor(asked.cursor)[0])
        rows = list(found[: asked.limit + 1])
        more, rows = len(rows) > asked.limit, rows[: asked.limit]
        return Response(page(map(_shape, rows), cursor_of(rows[-1].id if more else None)))

    @operation(
        "add_suppression",
        tag="suppressions",
        says=_("Let no mail go there; what stands for longer is left as it is"),
        body=NewSuppression,
        answer=SuppressionShape,
        status=201,
    )
    def post(self, request: Request) -> Response:
        given = self.given(NewSuppression)
        row, _is_changed = suppressions.add(
            _owner(self, given.stream),
            suppressions.read_target(given.address),
            Cause(SuppressionReason.MANUAL, detail=given.note, expires_at=given.expires_at),
            actor=self.caller.actor,
        )
        return Response(_shape(row), status=201)


class SuppressionOne(ResourceView):
    @operation(
        "get_suppression", tag="suppressions", says=_("One suppression"), query=NoParameters, answer=SuppressionShape
    )
    def get(self, request: Request, suppression_id: UUID) -> Response:
        self.asked(NoParameters)
        return Response(_shape(_found(self, suppression_id)))

    @operation(
        "remove_suppression",
        tag="suppressions",
        says=_("Let mail go there again"),
        query=RemovalQuery,
        answer=SuppressionShape,
    )
    def delete(self, request: Request, suppression_id: UUID) -> Response:
        asked = self.asked(RemovalQuery)
        found = _found(self, suppression_id)
        return Response(_shape(suppressions.remove(found, actor=self.caller.actor, reason=asked.reason)))


class RestoreSuppression(ResourceView):
    @operation(
        "restore_suppression", tag="suppressions", says=_("Take a removal back within 30 days"), answer=SuppressionShape
    )
    def post(self, request: Request, suppression_id: UUID) -> Response:
        self.given(NoParameters)
        found = _found(self, suppression_id)
        return Response(_shape(suppressions.restore(found, actor=self.caller.actor)))


class AddMany(ResourceView):
    @operation(
        "add_suppressions", tag="suppressions", says=_("Up to 1000 at once"), body=BulkAddition, answer=BulkResults
    )
    def post(self, request: Request) -> Response:
        given = self.given(BulkAddition)
        owner = _owner(self, given.stream)
        cause = Cause(SuppressionReason.MANUAL, detail=given.note, expires_at=given.expires_at)
        read = [_read(text) for text in given.addresses]
        wanted = {target: cause for target in read if isinstance(target, Target)}
        changed = suppressions.add_many(owner, wanted, actor=self.caller.actor)
        results = [
            BulkResult(address=target.value, status=BulkStatus.SUPPRESSED, detail=None)
            if isinstance(target, Target)
            else target
            for target in read
        ]
        return Response(BulkResults(changed=changed, results=results))


class RemoveMany(ResourceView):
    @operation(
        "remove_suppressions", tag="suppressions", says=_("Up to 1000 at once"), body=BulkRemoval, answer=BulkResults
    )
    def post(self, request: Request) -> Response:
        given = self.given(BulkRemoval)
        owner = _owner(self, given.stream)
        read = [_read(text) for text in given.addresses]
        targets = [target for target in read if isinstance(target, Target)]
        removed = suppressions.remove_many(owner, targets, actor=self.caller.actor, reason=given.reason)
        results = [
            BulkResult(
                address=target.value,
                status=BulkStatus.REMOVED if target in removed else BulkStatus.NOT_FOUND,
                detail=None,
            )
            if isinstance(target, Target)
            else target
            for target in read
        ]
        return Response(BulkResults(changed=len(removed), results=results))


def _read(text: str) -> Target | BulkResult:
    try:
        target = suppressions.read_target(text)
    except Refused as refusal:
        return BulkResult(address=text, status=BulkStatus.REFUSED, detail=refusal.sentence)
    if target.kind == SuppressionKind.PATTERN:
        return BulkResult(address=text, status=BulkStatus.REFUSED, detail="Patterns are added one by one.")
    return target


def _owner(view: ResourceView, stream: str) -> Owner:
    if not stream:
        return Owner(tenant=view.tenant)
    try:
        return Owner(tenant=view.tenant, stream=find_stream(view.tenant, stream))
    except NotFound:
        raise unknown_value("stream", "there is no such stream") from None


def _found(view: ResourceView, key: UUID) -> Suppression:
    found = Suppression.objects.of(view.tenant).select_related("stream", "tenant").filter(pk=key).first()
    if found is None:
        raise not_found()
    return found


def _shape(row: Suppression) -> SuppressionShape:
    return SuppressionShape(
        id=row.id,
        address=row.value,
        kind=row.kind,
        scope=row.scope,
        stream=row.stream.name if row.stream else None,
        reason=SuppressionReasonName(row.reason),
        reply_class=row.reply_class or None,
        detail=row.detail or None,
        message_id=row.message_id,
        recipient_id=row.recipient_id,
        hits=row.hits,
        created_at=row.created_at,
        created_by=row.created_by or None,
        expires_at=in_utc(row.expires_at),
        removed_at=in_utc(row.removed_at),
        removed_by=row.removed_by or None,
        removed_reason=row.removed_reason or None,
    )
