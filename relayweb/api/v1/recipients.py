"""Recipients: found in the send log, read to the last line of the conversation, and acted on while they wait."""

from __future__ import annotations

from typing import Annotated, ClassVar
from uuid import UUID

import msgspec
from django.utils.translation import gettext_noop as _
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.credentials import find_credential
from delivery import history, interventions
from delivery.core.classification import ReplyClass
from delivery.core.states import RecipientState
from delivery.history import RecipientView
from delivery.log_filters import LogFilter
from delivery.queue.control import Which
from delivery.tenants import find_stream
from relayweb.api.pagination import cursor_of, read_cursor
from relayweb.api.problems import not_found
from relayweb.api.resources import NoParameters, ResourceView, operation
from relayweb.api.structures import (
    MomentGiven,
    Query,
    page,
)
from relayweb.api.v1.mail_shapes import (
    ChangedShape,
    RecipientDetail,
    RecipientPage,
    RecipientShape,
    attempt_shape,
    changed_shape,
    event_shape,
    moment_of,
    recipient_shape,
)
from relayweb.api.v1.messages import found_message


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
            since=moment_of(asked.since),
            until=moment_of(asked.until),
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
        return Response(page(map(recipient_shape, found.rows), cursor_of(found.older)))


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
        row = recipient_shape(view.row)
        return Response(
            RecipientDetail(
                **{name: getattr(row, name) for name in RecipientShape.__struct_fields__},
                events=[event_shape(event, view.row.recipient) for event in view.events],
                attempt_log=[attempt_shape(attempt) for attempt in view.attempts],
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
        return Response(changed_shape(recipient_id, changed))


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


def _recipient_view(view: ResourceView, recipient_id: UUID) -> RecipientView:
    rows = history.rows_of(view.tenant, [recipient_id])
    if not rows:
        raise not_found()
    (found,) = history.recipients_by_id(found_message(view, rows[0].message_id), [recipient_id])
    return found
