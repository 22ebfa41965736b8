"""POST /api/v1/messages and /api/v1/messages/batch: 202 once the mail is committed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from django.utils.translation import gettext_noop as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiRequest, extend_schema
from rest_framework import serializers
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from delivery.acceptance.message import Receipt
from delivery.acceptance.submission import Once, Submission
from relayweb.api import outgoing as outgoing_mail
from relayweb.api.authentication import Caller
from relayweb.api.outgoing import Mail, Outgoing, outgoing_of, read_address, read_batch, read_mail, submission_of
from relayweb.api.problems import Problem
from relayweb.api.schema import PROBLEMS, ProblemSerializer
from relayweb.api.sending import Result, key_of, send_all, send_one
from relayweb.api.views import ApiView

RFC822 = "message/rfc822"


class JsonOctets(BaseParser):
    """The body as it is: it is read into structures later, and is what an idempotency key stands for."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        return bytes(stream.read())


class MailOctets(JsonOctets):
    media_type = RFC822


class AcceptedRecipientSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    recipient = serializers.CharField()


class AcceptedSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField(help_text="of the message")
    recipients = AcceptedRecipientSerializer(many=True)


class BatchResultSerializer(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=["accepted", "refused"])
    id = serializers.UUIDField(required=False)
    recipients = AcceptedRecipientSerializer(many=True, required=False)
    problem = ProblemSerializer(required=False)


class BatchSerializer(serializers.Serializer[Any]):
    results = BatchResultSerializer(many=True, help_text="one for each mail, in order")


IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description=_("A retry with the same key and the same body is answered with what the first became, for 24 hours."),
)


class Send(ApiView):
    scope = "send"
    parser_classes: Sequence[type[BaseParser]] = (JsonOctets, MailOctets)

    @property
    def most_octets(self) -> int:  # type: ignore[override]
        return outgoing_mail.most_octets()

    @extend_schema(
        operation_id="send_message",
        tags=["send"],
        summary=_("Hand over one mail; 202 once it is committed"),
        parameters=[
            IDEMPOTENCY_KEY,
            OpenApiParameter(
                "to", OpenApiTypes.STR, many=True, description=f"`{RFC822}` only: the envelope's recipients"
            ),
            OpenApiParameter("from", OpenApiTypes.STR, description=f"`{RFC822}` only: the reverse-path"),
        ],
        request={
            "application/json": Mail,
            RFC822: OpenApiRequest({"type": "string", "format": "binary"}),
        },
        responses={202: AcceptedSerializer, **PROBLEMS},
    )
    def post(self, request: Request) -> Response:
        body = self.body()
        outgoing = self._from_rfc822(body) if self._is_rfc822 else outgoing_of(read_mail(body))
        result = send_one(
            partial(make_submission, outgoing, self.caller),
            principal=self.caller.principal,
            key=key_of(request._request, body),
        )
        return accepted_response(result)

    def body(self) -> bytes:
        data: Any = self.request.data
        # Nothing was sent, and no content type given: the framework then has an empty form.
        return data if isinstance(data, bytes) else b""

    @property
    def _is_rfc822(self) -> bool:
        return self.request.content_type.partition(";")[0].strip().lower() == RFC822

    def _from_rfc822(self, body: bytes) -> Outgoing:
        recipients = [
            read_address(text, part=f"to[{place}]")
            for place, text in enumerate(self.request.query_params.getlist("to"))
        ]
        reverse_path = self.request.query_params.get("from")
        return Outgoing(
            raw=body,
            to=recipients,
            reverse_path=read_address(reverse_path, part="from").mailbox if reverse_path else None,
        )


class SendBatch(Send):
    parser_classes = (JsonOctets,)

    @extend_schema(
        operation_id="send_batch",
        tags=["send"],
        summary=_("Hand over up to 500 mails, each with its own result"),
        parameters=[IDEMPOTENCY_KEY],
        request={"application/json": outgoing_mail.BatchOfMails},
        responses={202: BatchSerializer, 207: BatchSerializer, **PROBLEMS},
    )
    def post(self, request: Request) -> Response:
        body = self.body()
        wanted = [
            mail if isinstance(mail, Problem) else partial(_from_mail, mail, self.caller) for mail in read_batch(body)
        ]
        results = send_all(wanted, principal=self.caller.principal, key=key_of(request._request, body))
        problems = [result.problem for result in results if result.problem is not None]
        if len(problems) == len(results) and all(problem.status == 503 for problem in problems):
            raise problems[0]
        response = Response({"results": [_shape(result) for result in results]}, status=207 if problems else 202)
        if any(result.is_repeated for result in results) and all(
            result.is_repeated or result.problem is not None for result in results
        ):
            response["Idempotent-Replayed"] = "true"
        return response


def make_submission(outgoing: Outgoing, caller: Caller, once: Once | None) -> Submission:
    return submission_of(outgoing, principal=caller.principal, address=caller.address, once=once)


def _from_mail(mail: Mail, caller: Caller, once: Once | None) -> Submission:
    return make_submission(outgoing_of(mail), caller, once)


def accepted_response(result: Result) -> Response:
    assert result.receipt is not None
    response = Response(_receipt(result.receipt), status=202)
    if result.is_repeated:
        response["Idempotent-Replayed"] = "true"
    return response


def _shape(result: Result) -> dict[str, Any]:
    if result.problem is not None:
        return {"status": "refused", "problem": result.problem.document()}
    assert result.receipt is not None
    return {"status": "accepted", **_receipt(result.receipt)}


def _receipt(receipt: Receipt) -> dict[str, Any]:
    return {
        "id": receipt.message_id,
        "recipients": [{"id": key, "recipient": address} for key, address in receipt.recipients],
    }
