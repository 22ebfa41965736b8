"""Messages and their recipients: found, read to the last line of the conversation, and acted on while they wait."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, ClassVar
from uuid import UUID

import msgspec
from django.http import HttpResponse
from django.utils.translation import gettext_noop as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.credentials import find_credential
from delivery import history, interventions, message_log, sending_again
from delivery.acceptance.submission import Once, Submission
from delivery.core.classification import ReplyClass
from delivery.core.states import EventKind, RecipientState
from delivery.history import AttemptView, EventView, RecipientRow, RecipientView
from delivery.log_filters import LogFilter
from delivery.message_log import MessageFilter
from delivery.models import Message
from delivery.queue.control import Changed, Which
from delivery.sending_again import Chosen
from delivery.tenants import find_stream
from relayweb.api.outgoing import check_send_at, peer_of
from relayweb.api.pagination import cursor_of, read_cursor
from relayweb.api.permissions import READ, SEND
from relayweb.api.problems import not_found
from relayweb.api.resources import NoParameters, ResourceView, operation
from relayweb.api.schema import PROBLEMS
from relayweb.api.sending import key_of, send_one
from relayweb.api.structures import (
    Input,
    Moment,
    MomentGiven,
    Query,
    Shape,
    in_utc,
    page,
    page_of,
    parameters_of,
    read_query,
)
from relayweb.api.v1.sending import IDEMPOTENCY_KEY, RFC822, AcceptedSerializer, Send, accepted_response

# ---------------------------------------------------------------- shapes


class MessageShape(Shape, rename={"author": "from"}, frozen=True):
    id: UUID
    author: Annotated[str, msgspec.Meta(description=_("the mailbox in From"))]
    reverse_path: Annotated[str | None, msgspec.Meta(description=_("null: the null reverse-path"))]
    subject: str
    message_id_field: Annotated[str, msgspec.Meta(description=_("the mail's own Message-ID"))]
    stream: str
    credential_id: UUID | None
    protocol: Annotated[str, msgspec.Meta(description=_("how it came: API, ESMTPSA, …"))]
    size_bytes: int
    recipient_count: int
    recipients_by_state: dict[str, int]
    tags: list[str]
    metadata: dict[str, str]
    tls: Annotated[str | None, msgspec.Meta(description=_("what it asks of its way: required or verified"))]
    is_test: bool
    accepted_at: Moment
    expires_at: Annotated[datetime, msgspec.Meta(tz=True, description=_("when the last attempt is made"))]


class RecipientShape(Shape, rename={"author": "from", "reply_class": "class"}, frozen=True):
    id: UUID
    message_id: UUID
    recipient: str
    domain: str
    state: RecipientState
    state_since: Moment
    reason: Annotated[str | None, msgspec.Meta(description=_("why it is held or suppressed, a machine word"))]
    attempts: int
    next_attempt_at: Moment | None
    phase: str | None
    reply_code: int | None
    reply: Annotated[str | None, msgspec.Meta(description=_("the last reply on one line"))]
    reply_class: str | None
    action: str | None
    scope: str | None
    rule: str | None
    host: str | None
    is_maybe_duplicate: Annotated[
        bool, msgspec.Meta(description=_("an attempt ended after the data was sent and before its reply was known"))
    ]
    returned_at: (
        Annotated[
            datetime, msgspec.Meta(tz=True, description=_("reported back after the receiving server had accepted it"))
        ]
        | None
    )
    returned_class: str | None
    author: str
    subject: str
    accepted_at: Moment | None
    is_test: bool


class TranscriptLineShape(Shape, frozen=True):
    after_ms: int
    direction: Annotated[str, msgspec.Meta(description=_("`>` sent, `<` received, `*` what happened beside it"))]
    text: str


class AttemptShape(Shape, rename={"reply_class": "class"}, frozen=True):
    id: UUID
    number: int
    started_at: Moment
    ended_at: Moment
    phase: str
    host: str | None
    host_address: str | None
    port: int | None
    source_address: str | None
    reply_code: int
    reply: str
    reply_class: str | None
    action: str | None
    scope: str | None
    rule: str | None
    is_ambiguous: bool
    tls_version: str | None
    tls_cipher: str | None
    transcript: list[TranscriptLineShape]


class EventShape(Shape, rename={"kind": "type"}, frozen=True):
    id: UUID
    kind: EventKind
    occurred_at: Moment
    recipient_id: UUID
    recipient: str
    attempt_id: UUID | None
    data: dict[str, Any]


class RecipientDetail(RecipientShape, rename={"author": "from", "reply_class": "class"}, frozen=True):
    events: list[EventShape]
    attempt_log: list[AttemptShape]


class ChangedShape(Shape, frozen=True):
    id: UUID
    changed: Annotated[int, msgspec.Meta(description=_("recipients"))]
    in_hand: Annotated[
        int, msgspec.Meta(description=_("recipients being sent to at this moment, which were left alone"))
    ]


MessagePage, RecipientPage, EventPage = page_of(MessageShape), page_of(RecipientShape), page_of(EventShape)


# ---------------------------------------------------------------- what is asked


class MessageQuery(Query, frozen=True):
    since: MomentGiven | msgspec.UnsetType = msgspec.UNSET
    until: MomentGiven | msgspec.UnsetType = msgspec.UNSET
    author: Annotated[str, msgspec.Meta(max_length=320, description=_("an address or a domain"))] = ""
    subject: Annotated[str, msgspec.Meta(max_length=200, description=_("a part of it"))] = ""
    tag: Annotated[str, msgspec.Meta(max_length=100)] = ""
    stream: Annotated[str, msgspec.Meta(max_length=48)] = ""
    credential: Annotated[str, msgspec.Meta(max_length=64, description=_("an id or a user name"))] = ""
    message_id_field: Annotated[str, msgspec.Meta(max_length=998, description=_("the mail's own Message-ID"))] = ""


class RecipientQuery(Query, rename={"states": "state", "classes": "class", "providers": "provider"}, frozen=True):
    states: list[RecipientState] = []
    classes: list[ReplyClass] = []
    recipient: Annotated[
        str, msgspec.Meta(max_length=320, description=_("an address, a domain, or a part of an address"))
    ] = ""
    since: MomentGiven | msgspec.UnsetType = msgspec.UNSET
    until: MomentGiven | msgspec.UnsetType = msgspec.UNSET
    by_outcome: Annotated[
        bool, msgspec.Meta(description=_("the period is that of what happened, not of acceptance"))
    ] = False
    providers: Annotated[
        list[Annotated[str, msgspec.Meta(max_length=64)]],
        msgspec.Meta(max_length=20, description=_("keys as in statistics; `other` for all the rest")),
    ] = []
    author: Annotated[
        str, msgspec.Meta(max_length=320, description=_("an address, a domain, or a part of an address"))
    ] = ""
    subject: Annotated[str, msgspec.Meta(max_length=200, description=_("words that all stand in it"))] = ""
    tag: Annotated[str, msgspec.Meta(max_length=100)] = ""
    stream: Annotated[str, msgspec.Meta(max_length=48)] = ""
    credential: Annotated[str, msgspec.Meta(max_length=64, description=_("an id or a user name"))] = ""
    message_id_field: Annotated[str, msgspec.Meta(max_length=998, description=_("the mail's own Message-ID"))] = ""
    min_attempts: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    put_off: Annotated[bool, msgspec.Meta(description=_("only those that were deferred at least once"))] = False
    returned: Annotated[bool, msgspec.Meta(description=_("only those reported back after delivery"))] = False
    maybe_duplicate: Annotated[bool, msgspec.Meta(description=_("only those with an ambiguous attempt"))] = False
    complained: Annotated[bool, msgspec.Meta(description=_("only those whose recipient complained"))] = False


class RecipientsOfMessageQuery(Query, rename={"states": "state"}, frozen=True):
    states: list[RecipientState] = []


class Rescheduling(Input, frozen=True):
    send_at: Annotated[datetime, msgspec.Meta(tz=True, description=_("at most 72 hours ahead"))]


def _moment(given: datetime | msgspec.UnsetType) -> datetime | None:
    return None if given is msgspec.UNSET else given


# ---------------------------------------------------------------- messages


class Messages(Send):
    scope = SEND
    scopes: ClassVar[dict[str, str]] = {"GET": READ, "HEAD": READ}
    heeds_domain = True

    @operation(
        "list_messages", tag="messages", says=_("Messages, newest first"), query=MessageQuery, answer=MessagePage
    )
    def get(self, request: Request) -> Response:
        asked = read_query(request._request.GET, MessageQuery)
        narrowed = MessageFilter(
            since=_moment(asked.since),
            until=_moment(asked.until),
            author=asked.author,
            author_within=self.only_domain,
            subject=asked.subject,
            tag=asked.tag,
            # What is not the tenant's is not found: 404, as for an id in the address.
            stream_id=find_stream(self.tenant, asked.stream).pk if asked.stream else None,
            credential_id=find_credential(asked.credential, tenant=self.tenant).pk if asked.credential else None,
            header_message_id=asked.message_id_field,
        )
        before = read_cursor(asked.cursor)[0] if asked.cursor else None
        rows, following = message_log.page_of_messages(self.tenant, narrowed, before=before, size=asked.limit)
        return Response(
            page(
                (_message(row.message, row.states, stream=row.message.stream.name) for row in rows),
                cursor_of(following),
            )
        )


class MessageView(ResourceView):
    heeds_domain = True

    @operation("get_message", tag="messages", says=_("One message"), query=NoParameters, answer=MessageShape)
    def get(self, request: Request, message_id: UUID) -> Response:
        self.asked(NoParameters)
        found = history.find_message(self.tenant, _found(self, message_id).id)
        if found is None:
            raise not_found()
        return Response(_message(found.message, found.states, stream=found.stream_name))


class MessageRecipients(ResourceView):
    heeds_domain = True

    @operation(
        "list_message_recipients",
        tag="messages",
        says=_("A message's recipients, problems first"),
        query=RecipientsOfMessageQuery,
        answer=RecipientPage,
    )
    def get(self, request: Request, message_id: UUID) -> Response:
        asked = self.asked(RecipientsOfMessageQuery)
        message = _found(self, message_id)
        after = None
        if asked.cursor:
            key, (urgency,) = read_cursor(asked.cursor, numbers=1)
            after = (urgency, key)
        found = history.recipients_of(message, states=asked.states, after=after, size=asked.limit)
        following = cursor_of(found.next_key[1], found.next_key[0]) if found.next_key else None
        return Response(page((_recipient(view.row) for view in found.views), following))


class MessageEvents(ResourceView):
    heeds_domain = True

    @operation(
        "list_message_events", tag="messages", says=_("What happened to a message"), query=Query, answer=EventPage
    )
    def get(self, request: Request, message_id: UUID) -> Response:
        asked = self.asked(Query)
        message = _found(self, message_id)
        after = read_cursor(asked.cursor)[0] if asked.cursor else None
        rows, following = message_log.page_of_events(message, after=after, size=asked.limit)
        return Response(page((_event(row.event, row.recipient) for row in rows), cursor_of(following)))


class MessageContent(ResourceView):
    heeds_domain = True

    @extend_schema(
        operation_id="get_message_content",
        tags=["messages"],
        summary=_("The mail as it was handed over, while it is kept"),
        parameters=parameters_of(NoParameters),
        request=None,
        responses={(200, RFC822): OpenApiResponse(OpenApiTypes.BINARY), **PROBLEMS},
    )
    def get(self, request: Request, message_id: UUID) -> HttpResponse:
        self.asked(NoParameters)
        content = history.content_of(_found(self, message_id))
        if content is None:
            raise not_found()
        return HttpResponse(
            content,
            content_type=RFC822,
            headers={
                "Content-Disposition": f'attachment; filename="{message_id}.eml"',
                "Content-Security-Policy": "sandbox; default-src 'none'",
            },
        )


class MessageAction(ResourceView):
    """One of delivery.interventions.ACTIONS, for a message's open recipients."""

    action: ClassVar[str]

    def _act(self, message_id: UUID) -> Response:
        self.given(NoParameters)
        message = _found(self, message_id)
        changed = interventions.intervene(
            self.tenant, self.action, Which(message_id=message.id), actor=self.caller.actor
        )
        return Response(_changed(message.id, changed))


class SendingAgain(Input, rename={"chosen": "to"}, frozen=True):
    chosen: Annotated[Chosen, msgspec.Meta(description=_("recipients with a result: all, or those not accepted"))] = (
        Chosen.NOT_ACCEPTED
    )
    recipient_id: Annotated[UUID, msgspec.Meta(description=_("only this one"))] | msgspec.UnsetType = msgspec.UNSET


class SendMessageAgain(ResourceView):
    scope = SEND
    scopes: ClassVar[dict[str, str]] = {}
    heeds_domain = True

    @extend_schema(
        operation_id="send_message_again",
        tags=["messages"],
        summary=_("A copy as a new message, while the content is kept"),
        parameters=[IDEMPOTENCY_KEY],
        request={"application/json": SendingAgain},
        responses={202: AcceptedSerializer, **PROBLEMS},
    )
    def post(self, request: Request, message_id: UUID) -> Response:
        given = self.given(SendingAgain)
        message = _found(self, message_id)
        one = None if given.recipient_id is msgspec.UNSET else given.recipient_id
        recipients = sending_again.recipients_for(message, given.chosen, recipient_id=one)
        if one is not None and not recipients:
            raise not_found()
        principal, peer = self.caller.principal, peer_of(self.caller.address)

        def make(once: Once | None) -> Submission:
            copy = sending_again.copy_of(message, recipients, principal=principal, peer=peer)
            return replace(copy, controls=replace(copy.controls, once=once))

        result = send_one(make, principal=principal, key=key_of(request._request, request._request.body))
        if result.receipt is not None and not result.is_repeated:
            copy_id = result.receipt.message_id
            sending_again.note_sent_again(message, recipients, copy_id=copy_id, actor=self.caller.actor)
        return accepted_response(result)


class CancelMessage(MessageAction):
    action = "cancel"

    @operation("cancel_message", tag="messages", says=_("Withdraw what is still open"), answer=ChangedShape)
    def post(self, request: Request, message_id: UUID) -> Response:
        return self._act(message_id)


class RetryMessage(MessageAction):
    action = "retry"

    @operation("retry_message", tag="messages", says=_("Try now what waits for its next attempt"), answer=ChangedShape)
    def post(self, request: Request, message_id: UUID) -> Response:
        return self._act(message_id)


class HoldMessage(MessageAction):
    action = "hold"

    @operation("hold_message", tag="messages", says=_("Keep back until released or expired"), answer=ChangedShape)
    def post(self, request: Request, message_id: UUID) -> Response:
        return self._act(message_id)


class ReleaseMessage(MessageAction):
    action = "release"

    @operation("release_message", tag="messages", says=_("Send what the tenant held"), answer=ChangedShape)
    def post(self, request: Request, message_id: UUID) -> Response:
        return self._act(message_id)


class RescheduleMessage(ResourceView):
    @operation(
        "reschedule_message",
        tag="messages",
        says=_("Send later, or earlier, what nobody has tried yet"),
        body=Rescheduling,
        answer=ChangedShape,
    )
    def post(self, request: Request, message_id: UUID) -> Response:
        given = self.given(Rescheduling)
        check_send_at(given.send_at)
        message = _found(self, message_id)
        changed = interventions.reschedule(self.tenant, message.id, given.send_at, actor=self.caller.actor)
        return Response(_changed(message.id, changed))


# ---------------------------------------------------------------- recipients


class Recipients(ResourceView):
    heeds_domain = True

    @operation(
        "list_recipients",
        tag="recipients",
        says=_("The send log: one row a recipient, newest first"),
        query=RecipientQuery,
        answer=RecipientPage,
    )
    def get(self, request: Request) -> Response:
        asked = self.asked(RecipientQuery)
        narrowed = LogFilter(
            states=frozenset(asked.states),
            classes=frozenset(asked.classes),
            recipient=asked.recipient,
            since=_moment(asked.since),
            until=_moment(asked.until),
            by_outcome=asked.by_outcome,
            providers=frozenset(asked.providers),
            author=asked.author,
            author_within=self.only_domain,
            subject=asked.subject,
            tag=asked.tag,
            # What is not the tenant's is not found: 404, as for an id in the address.
            stream=find_stream(self.tenant, asked.stream).pk if asked.stream else None,
            credential=find_credential(asked.credential, tenant=self.tenant).pk if asked.credential else None,
            header_message_id=asked.message_id_field,
            min_attempts=asked.min_attempts,
            was_put_off=asked.put_off,
            is_returned=asked.returned,
            is_ambiguous=asked.maybe_duplicate,
            is_complained=asked.complained,
        )
        before = read_cursor(asked.cursor)[0] if asked.cursor else None
        found = history.page_of_recipients(self.tenant, narrowed, before=before, size=asked.limit)
        return Response(page(map(_recipient, found.rows), cursor_of(found.older)))


class RecipientOne(ResourceView):
    heeds_domain = True

    @operation(
        "get_recipient",
        tag="recipients",
        says=_("One recipient with its events and attempts, oldest first"),
        query=NoParameters,
        answer=RecipientDetail,
    )
    def get(self, request: Request, recipient_id: UUID) -> Response:
        self.asked(NoParameters)
        view = _recipient_view(self, recipient_id)
        row = _recipient(view.row)
        return Response(
            RecipientDetail(
                **{name: getattr(row, name) for name in RecipientShape.__struct_fields__},
                events=[_event(event, view.row.recipient) for event in view.events],
                attempt_log=[_attempt(attempt) for attempt in view.attempts],
            )
        )


class RecipientAction(ResourceView):
    action: ClassVar[str]

    def _act(self, recipient_id: UUID) -> Response:
        self.given(NoParameters)
        view = _recipient_view(self, recipient_id)
        changed = interventions.intervene(
            self.tenant, self.action, Which(recipient_id=view.row.recipient_id), actor=self.caller.actor
        )
        return Response(_changed(recipient_id, changed))


class CancelRecipient(RecipientAction):
    action = "cancel"

    @operation("cancel_recipient", tag="recipients", says=_("Withdraw it, if it is open"), answer=ChangedShape)
    def post(self, request: Request, recipient_id: UUID) -> Response:
        return self._act(recipient_id)


class RetryRecipient(RecipientAction):
    action = "retry"

    @operation("retry_recipient", tag="recipients", says=_("Try it now"), answer=ChangedShape)
    def post(self, request: Request, recipient_id: UUID) -> Response:
        return self._act(recipient_id)


class HoldRecipient(RecipientAction):
    action = "hold"

    @operation("hold_recipient", tag="recipients", says=_("Keep it back until released"), answer=ChangedShape)
    def post(self, request: Request, recipient_id: UUID) -> Response:
        return self._act(recipient_id)


class ReleaseRecipient(RecipientAction):
    action = "release"

    @operation("release_recipient", tag="recipients", says=_("Send it, where the tenant held it"), answer=ChangedShape)
    def post(self, request: Request, recipient_id: UUID) -> Response:
        return self._act(recipient_id)


# ---------------------------------------------------------------- small parts


def _found(view: ResourceView, message_id: UUID) -> Message:
    mine = Message.objects.of(view.tenant).filter(id=message_id)
    found = (message_log.written_within(mine, view.only_domain) if view.only_domain else mine).first()
    if found is None:
        raise not_found()
    return found


def _recipient_view(view: ResourceView, recipient_id: UUID) -> RecipientView:
    rows = history.rows_of(view.tenant, [recipient_id])
    if not rows:
        raise not_found()
    (found,) = history.recipients_by_id(_found(view, rows[0].message_id), [recipient_id])
    return found


def _message(message: Message, states: dict[RecipientState, int], *, stream: str) -> MessageShape:
    return MessageShape(
        id=message.id,
        author=message.author,
        reverse_path=message.reverse_path or None,
        subject=message.subject,
        message_id_field=message.header_message_id,
        stream=stream,
        credential_id=message.credential_id,
        protocol=message.protocol,
        size_bytes=message.size_bytes,
        recipient_count=message.recipient_count,
        recipients_by_state={state.value: states.get(state, 0) for state in RecipientState},
        tags=message.tags,
        metadata=message.metadata,
        tls=message.tls or None,
        is_test=message.is_test,
        accepted_at=message.accepted_at,
        expires_at=message.expires_at,
    )


def _recipient(row: RecipientRow) -> RecipientShape:
    return RecipientShape(
        id=row.recipient_id,
        message_id=row.message_id,
        recipient=row.recipient,
        domain=row.domain,
        state=row.state,
        state_since=row.state_since,
        reason=row.reason or None,
        attempts=row.attempts,
        next_attempt_at=in_utc(row.next_attempt_at),
        phase=row.phase or None,
        reply_code=row.reply_code,
        reply=row.reply or None,
        reply_class=row.reply_class or None,
        action=row.action or None,
        scope=row.scope or None,
        rule=row.rule or None,
        host=row.host or None,
        is_maybe_duplicate=row.has_ambiguous_attempt,
        returned_at=in_utc(row.returned_at),
        returned_class=row.returned_class or None,
        author=row.author,
        subject=row.subject,
        accepted_at=in_utc(row.accepted_at),
        is_test=row.is_test,
    )


def _attempt(attempt: AttemptView) -> AttemptShape:
    return AttemptShape(
        id=attempt.attempt_id,
        number=attempt.number,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
        phase=attempt.phase,
        host=attempt.host or None,
        host_address=attempt.host_address,
        port=attempt.port,
        source_address=attempt.source_address,
        reply_code=attempt.reply_code,
        reply=attempt.reply,
        reply_class=attempt.reply_class or None,
        action=attempt.action or None,
        scope=attempt.scope or None,
        rule=attempt.rule or None,
        is_ambiguous=attempt.is_ambiguous,
        tls_version=attempt.tls_version or None,
        tls_cipher=attempt.tls_cipher or None,
        transcript=[
            TranscriptLineShape(after_ms=line.after_ms, direction=line.direction, text=line.text)
            for line in attempt.transcript
        ],
    )


def _event(event: EventView, recipient: str) -> EventShape:
    return EventShape(
        id=event.event_id,
        kind=EventKind(event.kind),
        occurred_at=event.occurred_at,
        recipient_id=event.recipient_id,
        recipient=recipient,
        attempt_id=event.attempt_id,
        data=event.data,
    )


def _changed(key: UUID, changed: Changed) -> ChangedShape:
    return ChangedShape(id=key, changed=changed.changed, in_hand=changed.in_hand)
