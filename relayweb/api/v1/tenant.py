"""The tenant a key belongs to: its state, people and limits, what it used of them, and numbers of its mail by time."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

import msgspec
from django.utils import timezone
from django.utils.translation import gettext_noop as _
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import quotas
from accounts.models import Tenant
from delivery import history
from delivery.models import RejectionEntry, Stream
from delivery.statistics import series
from delivery.statistics.figures import names_of
from delivery.statistics.series import Bucket, Grouping, Row
from relayweb.api.pagination import cursor_of, read_cursor
from relayweb.api.problems import Problem, invalid
from relayweb.api.resources import NoParameters, ResourceView, operation
from relayweb.api.structures import Input, Moment, MomentGiven, Query, Shape, in_utc, page, page_of


class StreamShape(Shape, frozen=True):
    id: UUID
    name: str
    kind: Annotated[str, msgspec.Meta(description=_("transactional or bulk"))]
    is_default: bool


class LimitsShape(Shape, frozen=True):
    hourly_limit: Annotated[int | None, msgspec.Meta(description=_("recipients accepted in an hour; null: no limit"))]
    daily_limit: int | None
    monthly_limit: int | None
    rate_per_second: Annotated[float | None, msgspec.Meta(description=_("recipients sent in a second"))]
    max_message_bytes: int
    max_recipients: Annotated[int, msgspec.Meta(description=_("of one message"))]


class TenantShape(Shape, frozen=True):
    id: UUID
    slug: str
    name: str
    state: Annotated[str, msgspec.Meta(description=_("active, suspended or closed"))]
    state_reason: str | None
    created_at: Moment
    limits: LimitsShape
    streams: list[StreamShape]
    content_retention_days: int
    keeps_content_after_delivery: bool
    log_retention_days: int


class PeriodUsage(Shape, frozen=True):
    used: Annotated[int, msgspec.Meta(description=_("recipients accepted"))]
    limit: int | None
    remaining: int | None
    resets_at: Moment


class UsageShape(Shape, frozen=True):
    hour: PeriodUsage
    day: PeriodUsage
    month: PeriodUsage


class CountShape(Shape, frozen=True):
    at: Annotated[datetime, msgspec.Meta(tz=True, description=_("when the bucket begins"))]
    group: Annotated[
        str | None,
        msgspec.Meta(description=_("null where nothing is grouped by, or for all without a name of their own")),
    ]
    name: Annotated[str | None, msgspec.Meta(description=_("what people call the group, where it is an id or a key"))]
    accepted: Annotated[int, msgspec.Meta(description=_("by us, in this bucket; the others when they happened"))]
    delivered: int
    deferred: Annotated[int, msgspec.Meta(description=_("put off at least once, counted with their acceptance"))]
    bounced: int
    expired: int
    suppressed: int
    cancelled: int
    returned: Annotated[int, msgspec.Meta(description=_("reported back after delivery, among those delivered"))]
    complained: int
    unsubscribed: int
    p50_seconds: Annotated[
        float | None, msgspec.Meta(description=_("from our acceptance to the receiving server's, for half of them"))
    ]
    p95_seconds: Annotated[float | None, msgspec.Meta(description=_("the same for 95 of 100; within 9 %"))]


class ClassCountShape(Shape, rename={"reply_class": "class"}, frozen=True):
    reply_class: str
    failed: Annotated[int, msgspec.Meta(description=_("bounced or expired"))]
    returned: int


class StatisticsShape(Shape, frozen=True):
    since: Annotated[datetime, msgspec.Meta(tz=True, description=_("of the whole hours that were counted"))]
    until: Moment
    bucket: Bucket
    group_by: Grouping | None
    data: Annotated[list[CountShape], msgspec.Meta(description=_("oldest first; an empty bucket has no row"))]
    classes: Annotated[
        list[ClassCountShape], msgspec.Meta(description=_("why mail of the period failed or came back, most first"))
    ]


class StatisticsQuery(Input, frozen=True):
    since: (
        Annotated[datetime, msgspec.Meta(tz=True, description=_("7 days before until if not given"))]
        | msgspec.UnsetType
    ) = msgspec.UNSET
    until: MomentGiven | msgspec.UnsetType = msgspec.UNSET
    bucket: Bucket = Bucket.DAY
    group_by: Grouping | msgspec.UnsetType = msgspec.UNSET


class RejectionShape(Shape, frozen=True):
    id: UUID
    code: int
    enhanced: str | None
    text: str
    reason: Annotated[str, msgspec.Meta(description=_("a machine word, the same as in a problem's type"))]
    count: Annotated[int, msgspec.Meta(description=_("how often within that minute"))]
    last_at: Moment
    credential_id: UUID | None
    author_domain: str | None
    peer_address: str | None
    reference: str | None


RejectionPage = page_of(RejectionShape)


class RejectionQuery(Query, frozen=True):
    since: MomentGiven | msgspec.UnsetType = msgspec.UNSET


class TenantView(ResourceView):
    @operation("get_tenant", tag="tenant", says=_("Who the key belongs to"), query=NoParameters, answer=TenantShape)
    def get(self, request: Request) -> Response:
        self.asked(NoParameters)
        tenant = self.tenant
        return Response(
            TenantShape(
                id=tenant.id,
                slug=tenant.slug,
                name=tenant.name,
                state=tenant.state,
                state_reason=tenant.state_reason or None,
                created_at=tenant.created_at,
                limits=limits_shape(tenant),
                streams=[
                    StreamShape(id=stream.id, name=stream.name, kind=stream.kind, is_default=stream.is_default)
                    for stream in Stream.objects.of(tenant).order_by("-is_default", "name")
                ],
                content_retention_days=tenant.content_retention_days,
                keeps_content_after_delivery=tenant.keeps_content_after_delivery,
                log_retention_days=tenant.log_retention_days,
            )
        )


class Usage(ResourceView):
    @operation(
        "get_usage", tag="tenant", says=_("What was used of the limits (UTC)"), query=NoParameters, answer=UsageShape
    )
    def get(self, request: Request) -> Response:
        self.asked(NoParameters)
        return Response(usage_shape(self.tenant))


class Statistics(ResourceView):
    @operation(
        "get_statistics",
        tag="tenant",
        says=_("The statistics page's figures by time (UTC)"),
        query=StatisticsQuery,
        answer=StatisticsShape,
    )
    def get(self, request: Request) -> Response:
        asked = self.asked(StatisticsQuery)
        until = timezone.now() if asked.until is msgspec.UNSET else asked.until
        since = until - timedelta(days=7) if asked.since is msgspec.UNSET else asked.since
        assert isinstance(until, datetime)
        assert isinstance(since, datetime)
        if not timedelta(0) <= until - since <= series.LONGEST:
            raise invalid("since", f"before until, and at most {series.LONGEST.days} days before it")
        grouping = None if asked.group_by is msgspec.UNSET else Grouping(asked.group_by)
        found = series.series(self.tenant, since=since, until=until, bucket=asked.bucket, grouping=grouping)
        if len(found.rows) > series.MOST_ROWS:
            raise Problem(422, "query_too_wide", f"More than {series.MOST_ROWS} rows. Ask for a shorter period.")
        names = names_of(self.tenant, grouping or "", {row.value for row in found.rows})
        return Response(
            StatisticsShape(
                since=found.since,
                until=found.until,
                bucket=asked.bucket,
                group_by=grouping,
                data=[_count(row, names.get(row.value)) for row in found.rows],
                classes=[
                    ClassCountShape(reply_class=one.reply_class, failed=one.failed, returned=one.returned)
                    for one in found.classes
                ],
            )
        )


class Rejections(ResourceView):
    @operation(
        "list_rejections",
        tag="tenant",
        says=_("What was refused at submission, over SMTP and HTTP, newest first"),
        query=RejectionQuery,
        answer=RejectionPage,
    )
    def get(self, request: Request) -> Response:
        asked = self.asked(RejectionQuery)
        before = read_cursor(asked.cursor)[0] if asked.cursor else None
        since = None if asked.since is msgspec.UNSET else asked.since
        found = history.page_of_rejections(
            self.tenant,
            since=since,
            before=before,
            size=asked.limit,
        )
        return Response(page(map(_rejection, found.rows), cursor_of(found.older)))


def limits_shape(tenant: Tenant) -> LimitsShape:
    return LimitsShape(**quotas.as_mapping(quotas.limits_of(tenant)))  # type: ignore[arg-type]


def usage_shape(tenant: Tenant) -> UsageShape:
    now = timezone.now()
    used, limits = quotas.usage_of(tenant, now=now), quotas.limits_of(tenant)
    of_period = {"hour": limits.hourly_limit, "day": limits.daily_limit, "month": limits.monthly_limit}
    return UsageShape(
        **{
            period: PeriodUsage(
                used=used[period],
                limit=limit,
                remaining=None if limit is None else max(0, limit - used[period]),
                resets_at=quotas.window_end(period, now),
            )
            for period, limit in of_period.items()
        }
    )


def _count(row: Row, name: str | None) -> CountShape:
    p50, p95 = row.waits.p50, row.waits.p95
    return CountShape(
        at=in_utc(row.at),  # type: ignore[arg-type]
        group=row.value or None,
        name=name,
        **asdict(row.totals),
        p50_seconds=None if p50 is None else round(p50.total_seconds(), 3),
        p95_seconds=None if p95 is None else round(p95.total_seconds(), 3),
    )


def _rejection(row: RejectionEntry) -> RejectionShape:
    return RejectionShape(
        id=row.id,
        code=row.code,
        enhanced=row.enhanced or None,
        text=row.text,
        reason=row.reason,
        count=row.count,
        last_at=row.last_at,
        credential_id=row.credential_id,
        author_domain=row.author_domain or None,
        peer_address=row.peer_address,
        reference=row.reference or None,
    )
