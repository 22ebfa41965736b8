"""Webhooks: added, changed, tested, replayed; their calls read. A secret is in one answer and nowhere else."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import msgspec
from django.utils.translation import gettext_noop as _
from django.views.decorators.debug import sensitive_variables
from rest_framework.request import Request
from rest_framework.response import Response

from delivery.core import webhooks as vocabulary
from delivery.core.states import EVENT_TYPES
from delivery.models import Webhook, WebhookCall, WebhookEvent
from delivery.models.webhook import MOST_IN_A_CALL
from delivery.webhooks import endpoints, log, replay
from delivery.webhooks.log import Backlog, CallFilter
from relayweb.api.pagination import cursor_of, read_cursor
from relayweb.api.problems import invalid
from relayweb.api.resources import NoParameters, ResourceView, operation
from relayweb.api.structures import Input, Moment, MomentGiven, Query, Shape, given_of, in_utc, page, page_of

EventType = StrEnum("EventType", {kind: kind for kind in EVENT_TYPES})  # type: ignore[misc]
ToldType = StrEnum("ToldType", {kind: kind for kind in (*EVENT_TYPES, vocabulary.TEST)})  # type: ignore[misc]


class WebhookFormatName(StrEnum):
    STANDARD = "standard"
    POSTAL = "postal"


class WebhookStateName(StrEnum):
    ACTIVE = "active"
    DISABLED = "disabled"
    REMOVED = "removed"


class WebhookShape(Shape, frozen=True):
    id: UUID
    name: str
    url: str
    events: list[str]
    format: str
    most_in_a_call: Annotated[int, msgspec.Meta(description=_("events; more than one makes batches"))]
    state: WebhookStateName
    disabled_at: Moment | None
    disabled_reason: Annotated[str | None, msgspec.Meta(description=_("person, gone (it answered 410) or failing"))]
    failing_since: Moment | None
    failures: Annotated[int, msgspec.Meta(description=_("calls that failed since the last good one"))]
    last_called_at: Moment | None
    last_outcome: Annotated[str | None, msgspec.Meta(description=_("as of calls"))]
    last_status: int | None
    waiting: Annotated[int, msgspec.Meta(description=_("events to be told; counted to 10,000"))]
    dead: Annotated[int, msgspec.Meta(description=_("events that could not be told; counted to 10,000"))]
    former_secret_until: Moment | None
    created_at: Moment


class WebhookWithSecret(WebhookShape, frozen=True):
    secret: Annotated[str, msgspec.Meta(description=_("shown this once; of the format postal the public key"))]


class WebhookListShape(Shape, frozen=True):
    data: list[WebhookShape]


class WebhookCallShape(Shape, frozen=True):
    id: UUID
    called_at: Moment
    duration_ms: int
    type: Annotated[str, msgspec.Meta(description=_("of the first event"))]
    event_ids: list[UUID]
    recipient: Annotated[str | None, msgspec.Meta(description=_("of the first event"))]
    number: Annotated[int, msgspec.Meta(description=_("how many calls the first event has had, this one counted"))]
    outcome: Annotated[
        str, msgspec.Meta(description=_("ok, status, redirect, timeout, connection, tls, dns or refused"))
    ]
    status: int | None
    error: str | None


class WebhookCallInFull(WebhookCallShape, frozen=True):
    url: str
    address: Annotated[str | None, msgspec.Meta(description=_("that was dialled"))]
    request_headers: dict[str, str]
    request_body: str
    response_headers: dict[str, str]
    response_body: str
    is_body_cut: bool


class DeadEventShape(Shape, frozen=True):
    id: Annotated[UUID, msgspec.Meta(description=_("the event's"))]
    type: str
    occurred_at: Moment
    message_id: UUID | None
    calls: int
    died_at: Moment


class TestAsked(Shape, frozen=True):
    test_id: Annotated[UUID, msgspec.Meta(description=_("the call's webhook-id; found among `event_ids` of the calls"))]


class ReplayedShape(Shape, frozen=True):
    events: Annotated[int, msgspec.Meta(description=_("that are told again"))]


WebhookCallPage = page_of(WebhookCallShape)
DeadEventPage = page_of(DeadEventShape)

Url = Annotated[
    str, msgspec.Meta(max_length=2000, description=_("https on 443 or http on 80, not in a private network"))
]
Name = Annotated[str, msgspec.Meta(max_length=120)]
Events = Annotated[list[EventType], msgspec.Meta(min_length=1, max_length=len(EVENT_TYPES))]
MostInACall = Annotated[int, msgspec.Meta(ge=1, le=MOST_IN_A_CALL)]


class NewWebhook(Input, frozen=True):
    url: Url
    events: Events
    name: Name = ""
    format: WebhookFormatName = WebhookFormatName.STANDARD
    most_in_a_call: MostInACall = 1


class WebhookChange(Input, frozen=True):
    """What is not given stays."""

    url: Url | msgspec.UnsetType = msgspec.UNSET
    events: Events | msgspec.UnsetType = msgspec.UNSET
    name: Name | msgspec.UnsetType = msgspec.UNSET
    most_in_a_call: MostInACall | msgspec.UnsetType = msgspec.UNSET


class WebhookRotation(Input, frozen=True):
    overlap_hours: Annotated[
        float, msgspec.Meta(ge=0, le=720, description=_("how long the former secret signs too"))
    ] = 24.0


class CallQuery(Query, frozen=True):
    failed: Annotated[bool, msgspec.Meta(description=_("only those that were not taken"))] = False
    type: Annotated[ToldType | None, msgspec.Meta(description=_("of the first event"))] = None


class WebhookReplay(Input, frozen=True):
    """One of: the events of a call, a period, all that could not be told."""

    call: UUID | None = None
    since: MomentGiven | None = None
    until: MomentGiven | None = None
    dead: bool = False


class Webhooks(ResourceView):
    @operation(
        "list_webhooks",
        tag="webhooks",
        says=_("All webhooks, oldest first"),
        query=NoParameters,
        answer=WebhookListShape,
    )
    def get(self, request: Request) -> Response:
        self.asked(NoParameters)
        found = endpoints.list_webhooks(self.tenant)
        backlogs = log.backlogs(found) if found else {}
        return Response(WebhookListShape(data=[_shape(webhook, backlogs[webhook.id]) for webhook in found]))

    @operation(
        "add_webhook",
        tag="webhooks",
        says=_("A new webhook; the secret that signs its calls is in this answer alone"),
        body=NewWebhook,
        answer=WebhookWithSecret,
        status=201,
    )
    @sensitive_variables("made")
    def post(self, request: Request) -> Response:
        given = self.given(NewWebhook)
        made = endpoints.add_webhook(
            self.tenant,
            url=given.url,
            events=[str(kind) for kind in given.events],
            name=given.name,
            form=given.format,
            most_in_a_call=given.most_in_a_call,
            actor=self.caller.actor,
        )
        return Response(_with_secret(made.webhook, made.secret), status=201)


class WebhookView(ResourceView):
    """Of one webhook."""

    def found(self, webhook_id: UUID, *, removed: bool = False) -> Webhook:
        """Raises NotFound."""
        return endpoints.find_webhook(webhook_id, tenant=self.tenant, removed=removed)


class WebhookOne(WebhookView):
    @operation("get_webhook", tag="webhooks", says=_("One webhook"), query=NoParameters, answer=WebhookShape)
    def get(self, request: Request, webhook_id: UUID) -> Response:
        self.asked(NoParameters)
        return Response(_shape(self.found(webhook_id)))

    @operation(
        "update_webhook", tag="webhooks", says=_("Change what is given"), body=WebhookChange, answer=WebhookShape
    )
    def patch(self, request: Request, webhook_id: UUID) -> Response:
        given = given_of(self.given(WebhookChange))
        if "events" in given:
            given["events"] = [str(kind) for kind in given["events"]]
        webhook = endpoints.update_webhook(self.found(webhook_id), actor=self.caller.actor, **given)
        return Response(_shape(webhook))

    @operation(
        "remove_webhook",
        tag="webhooks",
        says=_("Not called any more; can be restored for 7 days"),
        query=NoParameters,
        answer=WebhookShape,
    )
    def delete(self, request: Request, webhook_id: UUID) -> Response:
        self.asked(NoParameters)
        return Response(_shape(endpoints.remove_webhook(self.found(webhook_id), actor=self.caller.actor)))


class RestoreWebhook(WebhookView):
    @operation("restore_webhook", tag="webhooks", says=_("Take a removal back"), body=NoParameters, answer=WebhookShape)
    def post(self, request: Request, webhook_id: UUID) -> Response:
        self.given(NoParameters)
        webhook = self.found(webhook_id, removed=True)
        return Response(_shape(endpoints.restore_webhook(webhook, actor=self.caller.actor)))


class EnableWebhook(WebhookView):
    @operation("enable_webhook", tag="webhooks", says=_("Call it again"), body=NoParameters, answer=WebhookShape)
    def post(self, request: Request, webhook_id: UUID) -> Response:
        self.given(NoParameters)
        return Response(_shape(endpoints.enable_webhook(self.found(webhook_id), actor=self.caller.actor)))


class DisableWebhook(WebhookView):
    @operation("disable_webhook", tag="webhooks", says=_("Call it no more"), body=NoParameters, answer=WebhookShape)
    def post(self, request: Request, webhook_id: UUID) -> Response:
        self.given(NoParameters)
        return Response(_shape(endpoints.disable_webhook(self.found(webhook_id), actor=self.caller.actor)))


class RotateWebhook(WebhookView):
    @operation(
        "rotate_webhook",
        tag="webhooks",
        says=_("A new secret, in this answer alone; the former one signs too for a while"),
        body=WebhookRotation,
        answer=WebhookWithSecret,
    )
    @sensitive_variables("secret")
    def post(self, request: Request, webhook_id: UUID) -> Response:
        given = self.given(WebhookRotation)
        webhook = self.found(webhook_id)
        overlap = timedelta(hours=given.overlap_hours)
        secret = endpoints.rotate_secret(webhook, actor=self.caller.actor, overlap=overlap)
        return Response(_with_secret(webhook, secret))


class TestWebhook(WebhookView):
    @operation(
        "test_webhook", tag="webhooks", says=_("Have a test call made"), body=NoParameters, answer=TestAsked, status=202
    )
    def post(self, request: Request, webhook_id: UUID) -> Response:
        self.given(NoParameters)
        test_id = endpoints.request_test(self.found(webhook_id), actor=self.caller.actor)
        return Response(TestAsked(test_id=test_id), status=202)


class ReplayWebhook(WebhookView):
    @operation(
        "replay_webhook",
        tag="webhooks",
        says=_("Tell events again, with the ids they had; at most 50,000 at a time"),
        body=WebhookReplay,
        answer=ReplayedShape,
        status=202,
    )
    def post(self, request: Request, webhook_id: UUID) -> Response:
        given = self.given(WebhookReplay)
        webhook = self.found(webhook_id)
        return Response(ReplayedShape(events=self._replay(webhook, given)), status=202)

    def _replay(self, webhook: Webhook, given: WebhookReplay) -> int:
        actor = self.caller.actor
        has_period = given.since is not None or given.until is not None
        if (given.call is not None) + given.dead + has_period != 1:
            raise invalid("body", "name a call, a period or dead: one of them")
        if given.call is not None:
            return replay.replay_call(log.find_call(self.tenant, webhook, given.call), webhook, actor=actor)
        if given.dead:
            return replay.replay_dead(webhook, actor=actor)
        if given.since is None or given.until is None:
            raise invalid("since" if given.since is None else "until", "a period has two ends")
        return replay.replay_period(webhook, since=given.since, until=given.until, actor=actor)


class WebhookCalls(WebhookView):
    @operation(
        "list_webhook_calls", tag="webhooks", says=_("Calls, newest first"), query=CallQuery, answer=WebhookCallPage
    )
    def get(self, request: Request, webhook_id: UUID) -> Response:
        asked = self.asked(CallQuery)
        webhook = self.found(webhook_id)
        rows, cursor = _cut(
            log.calls_of(
                webhook,
                CallFilter(failed=asked.failed, kind=str(asked.type or "")),
                before=read_cursor(asked.cursor)[0] if asked.cursor else None,
                most=asked.limit,
            ),
            asked.limit,
        )
        return Response(page((WebhookCallShape(**_call_fields(call)) for call in rows), cursor_of(cursor)))


class WebhookCallOne(WebhookView):
    @operation(
        "get_webhook_call",
        tag="webhooks",
        says=_("One call with its request and its answer"),
        query=NoParameters,
        answer=WebhookCallInFull,
    )
    def get(self, request: Request, webhook_id: UUID, call_id: UUID) -> Response:
        self.asked(NoParameters)
        call = log.find_call(self.tenant, self.found(webhook_id), call_id)
        names = (
            "url",
            "address",
            "request_headers",
            "request_body",
            "response_headers",
            "response_body",
            "is_body_cut",
        )
        return Response(WebhookCallInFull(**_call_fields(call), **{name: getattr(call, name) for name in names}))


class DeadEvents(WebhookView):
    @operation(
        "list_dead_events",
        tag="webhooks",
        says=_("Events that could not be told, newest first"),
        query=Query,
        answer=DeadEventPage,
    )
    def get(self, request: Request, webhook_id: UUID) -> Response:
        asked = self.asked(Query)
        webhook = self.found(webhook_id)
        before = read_cursor(asked.cursor)[0].int % 2**63 if asked.cursor else None
        rows = log.dead_events(webhook, before=before, most=asked.limit)
        shown = rows[: asked.limit]
        last = UUID(int=shown[-1].id) if len(rows) > asked.limit else None
        return Response(page((_dead_shape(event) for event in shown), cursor_of(last)))


def _cut(rows: list[WebhookCall], limit: int) -> tuple[list[WebhookCall], UUID | None]:
    shown = rows[:limit]
    return shown, shown[-1].id if len(rows) > limit else None


def _shape(webhook: Webhook, backlog: Backlog | None = None) -> WebhookShape:
    return WebhookShape(**_fields(webhook, backlog or log.backlog_of(webhook)))


def _with_secret(webhook: Webhook, secret: str) -> WebhookWithSecret:
    return WebhookWithSecret(**_fields(webhook, log.backlog_of(webhook)), secret=secret)


def _fields(webhook: Webhook, backlog: Backlog) -> dict[str, Any]:
    return {
        "id": webhook.id,
        "name": webhook.name,
        "url": webhook.url,
        "events": webhook.events,
        "format": webhook.format,
        "most_in_a_call": webhook.most_in_a_call,
        "state": WebhookStateName(webhook.state),
        "disabled_at": in_utc(webhook.disabled_at),
        "disabled_reason": webhook.disabled_reason or None,
        "failing_since": in_utc(webhook.failing_since),
        "failures": webhook.failures,
        "last_called_at": in_utc(webhook.last_called_at),
        "last_outcome": webhook.last_outcome or None,
        "last_status": webhook.last_status,
        "waiting": backlog.waiting,
        "dead": backlog.dead,
        "former_secret_until": in_utc(webhook.former_secret_until),
        "created_at": in_utc(webhook.created_at),
    }


def _call_fields(call: WebhookCall) -> dict[str, Any]:
    return {
        "id": call.id,
        "called_at": in_utc(call.called_at),
        "duration_ms": call.duration_ms,
        "type": call.kind,
        "event_ids": call.event_ids,
        "recipient": call.recipient or None,
        "number": call.number,
        "outcome": call.outcome,
        "status": call.status,
        "error": call.error or None,
    }


def _dead_shape(event: WebhookEvent) -> DeadEventShape:
    occurred_at, died_at = in_utc(event.occurred_at), in_utc(event.died_at)
    assert isinstance(occurred_at, datetime) and isinstance(died_at, datetime)
    return DeadEventShape(
        id=event.event_id,
        type=event.kind,
        occurred_at=occurred_at,
        message_id=event.message_id,
        calls=event.calls,
        died_at=died_at,
    )
