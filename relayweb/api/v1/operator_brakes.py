"""Brakes, for keys with the scope ``operate``: what is pulled and why, letting go, answering, pulling by hand."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import msgspec
from django.utils.translation import gettext_noop as _
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import credentials, tenants
from accounts.refusals import NotFound, Refused
from delivery.brakes import evidence, pulling
from delivery.models import Appeal, Brake
from relayweb.api.pagination import cursor_of, read_cursor
from relayweb.api.problems import unknown_value
from relayweb.api.resources import NoParameters, operation
from relayweb.api.structures import Input, Moment, Query, Shape, in_utc, page, page_of
from relayweb.api.v1.operator import OperatorView


class BrakeStep(StrEnum):
    SLOW = "slow"
    HOLD = "hold"
    PAUSE = "pause"


class BrakeShape(Shape, frozen=True):
    id: UUID
    tenant: str
    credential_id: Annotated[UUID | None, msgspec.Meta(description=_("null: all of the tenant's mail"))]
    credential: str | None
    rule: Annotated[str, msgspec.Meta(description=_("a rule's name, or operator"))]
    step: BrakeStep
    reason: str | None
    pulled_at: Moment
    pulled_by: str
    ended_at: Moment | None
    ended_by: str | None
    answer: str | None
    appeal_waits: Annotated[bool, msgspec.Meta(description=_("the tenant asks for release"))]


class AppealShape(Shape, frozen=True):
    id: UUID
    text: str
    written_at: Moment
    written_by: str
    answered_at: Moment | None
    answered_by: str | None
    answer: str | None
    is_granted: bool | None


class BrakeDetail(BrakeShape, frozen=True):
    evidence: Annotated[
        dict[str, Any], msgspec.Meta(description=_("numbers, classes and samples; addresses are masked"))
    ]
    appeals: list[AppealShape]


BrakePage = page_of(BrakeShape)


class BrakeQuery(Query, frozen=True):
    ended: Annotated[bool, msgspec.Meta(description=_("those that were let go instead"))] = False
    tenant: Annotated[str, msgspec.Meta(max_length=48, description=_("slug or id"))] = ""


class NewBrake(Input, frozen=True):
    tenant: Annotated[str, msgspec.Meta(min_length=1, max_length=48, description=_("slug or id"))]
    step: BrakeStep
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500, description=_("shown to the tenant"))]
    credential: Annotated[str, msgspec.Meta(max_length=120, description=_("id or user name: its mail only"))] = ""


class Release(Input, frozen=True):
    answer: Annotated[str, msgspec.Meta(max_length=1000, description=_("shown to the tenant"))] = ""


class Refusal(Input, frozen=True):
    answer: Annotated[str, msgspec.Meta(min_length=1, max_length=1000, description=_("shown to the tenant"))]


class Brakes(OperatorView):
    @operation("list_brakes", tag="operator", says=_("Brakes, newest first"), query=BrakeQuery, answer=BrakePage)
    def get(self, request: Request) -> Response:
        asked = self.asked(BrakeQuery)
        found = Brake.objects.filter(ended_at__isnull=not asked.ended).select_related("tenant").order_by("-id")
        if asked.tenant:
            try:
                found = found.filter(tenant=tenants.find_tenant(asked.tenant))
            except NotFound:
                raise unknown_value("tenant", "there is no such tenant") from None
        if asked.cursor:
            found = found.filter(id__lt=read_cursor(asked.cursor)[0])
        rows = list(found[: asked.limit + 1])
        more, rows = len(rows) > asked.limit, rows[: asked.limit]
        waiting = set(Appeal.objects.filter(brake__in=rows, answered_at=None).values_list("brake_id", flat=True))
        shapes = (BrakeShape(**_brake(row, waits=row.pk in waiting)) for row in rows)
        return Response(page(shapes, cursor_of(rows[-1].id if more else None)))

    @operation(
        "pull_brake", tag="operator", says=_("Slow, hold or pause mail by hand; its release undoes it"), body=NewBrake,
        answer=BrakeDetail, status=201,
    )  # fmt: skip
    def post(self, request: Request) -> Response:
        given = self.given(NewBrake)
        try:
            tenant = tenants.find_tenant(given.tenant)
        except NotFound:
            raise unknown_value("tenant", "there is no such tenant") from None
        try:
            of = credentials.find_credential(given.credential, tenant=tenant) if given.credential else None
        except NotFound:
            raise unknown_value("credential", "the tenant has no such credential") from None
        made = pulling.pull_by_hand(
            tenant, step=given.step, reason=given.reason, actor=self.caller.actor, credential=of
        )
        return Response(_detail(made), status=201)


class BrakeOne(OperatorView):
    @operation("get_brake", tag="operator", says=_("A brake with its evidence"), query=NoParameters, answer=BrakeDetail)
    def get(self, request: Request, brake_id: UUID) -> Response:
        self.asked(NoParameters)
        return Response(_detail(pulling.find(brake_id)))


class ReleaseBrake(OperatorView):
    @operation(
        "release_brake", tag="operator", says=_("Let go; a request is granted; what was held goes out"), body=Release,
        answer=BrakeDetail,
    )  # fmt: skip
    def post(self, request: Request, brake_id: UUID) -> Response:
        given = self.given(Release)
        return Response(_detail(pulling.release(pulling.find(brake_id), answer=given.answer, actor=self.caller.actor)))


class RefuseAppeal(OperatorView):
    @operation(
        "refuse_appeal", tag="operator", says=_("Answer the request that waits; the brake stays"), body=Refusal,
        answer=BrakeDetail,
    )  # fmt: skip
    def post(self, request: Request, brake_id: UUID) -> Response:
        given = self.given(Refusal)
        brake = pulling.find(brake_id)
        waiting = brake.appeals.filter(answered_at=None).select_related("tenant", "brake").first()
        if waiting is None:
            raise Refused("No request waits for an answer.", reason="state_unchanged")
        pulling.refuse(waiting, answer=given.answer, actor=self.caller.actor)
        return Response(_detail(brake))


def _brake(brake: Brake, *, waits: bool) -> dict[str, Any]:
    return {
        "id": brake.id,
        "tenant": brake.tenant.slug,
        "credential_id": brake.credential_id,
        "credential": brake.credential_name or None,
        "rule": brake.rule,
        "step": BrakeStep(brake.step),
        "reason": brake.reason or None,
        "pulled_at": in_utc(brake.pulled_at),
        "pulled_by": brake.pulled_by,
        "ended_at": in_utc(brake.ended_at),
        "ended_by": brake.ended_by or None,
        "answer": brake.answer or None,
        "appeal_waits": waits,
    }


def _detail(brake: Brake) -> BrakeDetail:
    appeals = list(brake.appeals.order_by("-id")[:50])
    return BrakeDetail(
        **_brake(brake, waits=any(one.answered_at is None for one in appeals)),
        evidence=evidence.without_addresses(brake.evidence),
        appeals=[_appeal(one) for one in appeals],
    )


def _appeal(appeal: Appeal) -> AppealShape:
    return AppealShape(
        id=appeal.id,
        text=appeal.text,
        written_at=appeal.written_at,
        written_by=appeal.written_by,
        answered_at=in_utc(appeal.answered_at),
        answered_by=appeal.answered_by or None,
        answer=appeal.answer or None,
        is_granted=appeal.is_granted,
    )
