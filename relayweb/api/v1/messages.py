"""Messages: sent, listed, read to their content, and acted on while they wait."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Annotated, ClassVar
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
from delivery.core.states import RecipientState
from delivery.message_log import MessageFilter
from delivery.models import Message
from delivery.queue.control import Which
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
    MomentGiven,
    Query,
    page,
    parameters_of,
    read_query,
)
from relayweb.api.v1.mail_shapes import (
    ChangedShape,
    EventPage,
    MessagePage,
    MessageShape,
    RecipientPage,
    changed_shape,
    event_shape,
    message_shape,
    moment_of,
    recipient_shape,
)
from relayweb.api.v1.sending import IDEMPOTENCY_KEY, RFC822, AcceptedSerializer, Send, accepted_response

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


class RecipientsOfMessageQuery(Query, rename={"states": "state"}, frozen=True):
    states: list[RecipientState] = []


class Rescheduling(Input, frozen=True):
    send_at: Annotated[datetime, msgspec.Meta(tz=True, description=_("at most 72 hours ahead"))]


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
            since=moment_of(asked.since),
            until=moment_of(asked.until),
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
                (message_shape(row.message, row.states, stream=row.message.stream.name) for row in rows),
                cursor_of(following),
            )
        )


class MessageView(ResourceView):
    heeds_domain = True

    @operation("get_message", tag="messages", says=_("One message"), query=NoParameters, answer=MessageShape)
    def get(self, request: Request, message_id: UUID) -> Response:
        self.asked(NoParameters)
        found = history.find_message(self.tenant, found_message(self, message_id).id)
        if found is None:
            raise not_found()
        return Response(message_shape(found.message, found.states, stream=found.stream_name))


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
        message = found_message(self, message_id)
        after = None
        if asked.cursor:
            key, (urgency,) = read_cursor(asked.cursor, numbers=1)
            after = (urgency, key)
        found = history.recipients_of(message, states=asked.states, after=after, size=asked.limit)
        following = cursor_of(found.next_key[1], found.next_key[0]) if found.next_key else None
        return Response(page((recipient_shape(view.row) for view in found.views), following))


class MessageEvents(ResourceView):
    heeds_domain = True

    @operation(
        "list_message_events", tag="messages", says=_("What happened to a message"), query=Query, answer=EventPage
    )
    def get(self, request: Request, message_id: UUID) -> Response:
        asked = self.asked(Query)
        message = found_message(self, message_id)
        after = read_cursor(asked.cursor)[0] if asked.cursor else None
        rows, following = message_log.page_of_events(message, after=after, size=asked.limit)
        return Response(page((event_shape(row.event, row.recipient) for row in rows), cursor_of(following)))


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
        content = history.content_of(found_message(self, message_id))
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
        message = found_message(self, message_id)
        changed = interventions.intervene(
            self.tenant, self.action, Which(message_id=message.id), actor=self.caller.actor
        )
        return Response(changed_shape(message.id, changed))


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
        message = found_message(self, message_id)
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
        message = found_message(self, message_id)
        changed = interventions.reschedule(self.tenant, message.id, given.send_at, actor=self.caller.actor)
        return Response(changed_shape(message.id, changed))


# ---------------------------------------------------------------- small parts


def found_message(view: ResourceView, message_id: UUID) -> Message:
    mine = Message.objects.of(view.tenant).filter(id=message_id)
    found = (message_log.written_within(mine, view.only_domain) if view.only_domain else mine).first()
    if found is None:
        raise not_found()
    return found
