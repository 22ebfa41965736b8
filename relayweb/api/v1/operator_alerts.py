"""Alerts, for keys with the scope ``operate``: what is wrong, taking it, and muting it."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

import msgspec
from django.utils import timezone
from django.utils.translation import gettext_noop as _
from rest_framework.request import Request
from rest_framework.response import Response

from delivery.alerts import episodes
from delivery.models import Alert
from relayweb.api.pagination import cursor_of, read_cursor
from relayweb.api.resources import NoParameters, operation
from relayweb.api.structures import Input, Moment, Query, Shape, in_utc, page, page_of
from relayweb.api.v1.operator import OperatorView


class AlertShape(Shape, frozen=True):
    id: UUID
    kind: Annotated[str, msgspec.Meta(description=_("a rule's name, or test"))]
    subject: Annotated[str, msgspec.Meta(description=_("what it is about: an address, a node"))]
    severity: Annotated[str, msgspec.Meta(description=_("warning or critical"))]
    evidence: dict[str, Any]
    seen_at: Moment
    last_seen_at: Moment
    opened_at: Moment
    closed_at: Moment | None
    acknowledged_at: Moment | None
    acknowledged_by: str | None
    acknowledged_note: str | None
    muted_until: Moment | None
    muted_by: str | None
    mute_reason: str | None


AlertPage = page_of(AlertShape)


class AlertQuery(Query, frozen=True):
    closed: Annotated[bool, msgspec.Meta(description=_("those that are over instead"))] = False


class Note(Input, frozen=True):
    note: Annotated[str, msgspec.Meta(max_length=500)] = ""


class Mute(Input, frozen=True):
    hours: Annotated[float, msgspec.Meta(ge=0.1, le=2160.0, description=_("from now"))]
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


class Alerts(OperatorView):
    @operation("list_alerts", tag="operator", says=_("Alerts, newest first"), query=AlertQuery, answer=AlertPage)
    def get(self, request: Request) -> Response:
        asked = self.asked(AlertQuery)
        before = read_cursor(asked.cursor)[0] if asked.cursor else None
        found, further = episodes.page(is_past=asked.closed, before=before, size=asked.limit)
        return Response(page(map(_alert, found), cursor_of(further)))


class AlertOne(OperatorView):
    @operation("get_alert", tag="operator", says=_("One alert"), query=NoParameters, answer=AlertShape)
    def get(self, request: Request, alert_id: UUID) -> Response:
        self.asked(NoParameters)
        return Response(_alert(episodes.find(alert_id)))


class AcknowledgeAlert(OperatorView):
    @operation(
        "acknowledge_alert", tag="operator", says=_("Take it: no reminders any more"), body=Note, answer=AlertShape
    )
    def post(self, request: Request, alert_id: UUID) -> Response:
        given = self.given(Note)
        return Response(_alert(episodes.acknowledge(episodes.find(alert_id), note=given.note, actor=self.caller.actor)))


class TakeBackAlert(OperatorView):
    @operation("give_back_alert", tag="operator", says=_("Give it back: it is nobody's again"), answer=AlertShape)
    def post(self, request: Request, alert_id: UUID) -> Response:
        self.given(NoParameters)
        return Response(_alert(episodes.take_back(episodes.find(alert_id), actor=self.caller.actor)))


class MuteAlert(OperatorView):
    @operation("mute_alert", tag="operator", says=_("Tell nobody of it for a while"), body=Mute, answer=AlertShape)
    def post(self, request: Request, alert_id: UUID) -> Response:
        given = self.given(Mute)
        # The clock that judges it goes on: the longest is cut by what the answer takes.
        until = timezone.now() + min(timedelta(hours=given.hours), episodes.MOST_MUTED - timedelta(seconds=60))
        found = episodes.find(alert_id)
        return Response(_alert(episodes.mute(found, until=until, reason=given.reason, actor=self.caller.actor)))


class UnmuteAlert(OperatorView):
    @operation("unmute_alert", tag="operator", says=_("Tell of it again"), answer=AlertShape)
    def post(self, request: Request, alert_id: UUID) -> Response:
        self.given(NoParameters)
        return Response(_alert(episodes.unmute(episodes.find(alert_id), actor=self.caller.actor)))


def _alert(alert: Alert) -> AlertShape:
    return AlertShape(
        id=alert.id,
        kind=alert.kind,
        subject=alert.subject,
        severity=alert.severity,
        evidence=alert.evidence,
        seen_at=alert.seen_at,
        last_seen_at=alert.last_seen_at,
        opened_at=alert.opened_at or alert.seen_at,
        closed_at=in_utc(alert.closed_at),
        acknowledged_at=in_utc(alert.acknowledged_at),
        acknowledged_by=alert.acknowledged_by or None,
        acknowledged_note=alert.acknowledged_note or None,
        muted_until=in_utc(alert.muted_until),
        muted_by=alert.muted_by or None,
        mute_reason=alert.mute_reason or None,
    )
