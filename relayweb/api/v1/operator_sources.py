"""The operator's side: source addresses and pools."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from uuid import UUID

import msgspec
from django.db import transaction
from django.utils.translation import gettext_noop as _
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import tenants
from accounts.refusals import NotFound
from delivery import pools, sources
from delivery.models import SourceAddress, SourcePool
from relayweb.api.problems import unknown_value
from relayweb.api.resources import NoParameters, operation
from relayweb.api.structures import Input, Moment, Shape, given_of
from relayweb.api.v1.operator import OperatorView, Why


class SourceShape(Shape, frozen=True):
    id: UUID
    address: Annotated[str | None, msgspec.Meta(description=_("null: the system's choice"))]
    ehlo_name: str
    pool: str
    node: str
    weight: int
    state: Annotated[str, msgspec.Meta(description=_("active, draining, paused, unusable or retired"))]
    state_reason: str | None
    state_since: Moment
    note: str | None


class SourceList(Shape, frozen=True):
    data: list[SourceShape]


class SourceQuery(Input, frozen=True):
    retired: Annotated[bool, msgspec.Meta(description=_("also those that were removed"))] = False


class NewSource(Input, frozen=True):
    address: Annotated[str, msgspec.Meta(min_length=2, max_length=45)]
    ehlo_name: Annotated[str, msgspec.Meta(max_length=255, description=_("the installation's if not given"))] = ""
    pool: Annotated[str, msgspec.Meta(max_length=48)] = "default"
    node: Annotated[str, msgspec.Meta(max_length=63, description=_("this one if not given"))] = ""
    weight: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    note: Annotated[str, msgspec.Meta(max_length=500)] = ""


class SourceChange(Input, frozen=True):
    """What is not given stays."""

    ehlo_name: Annotated[str, msgspec.Meta(min_length=1, max_length=255)] | msgspec.UnsetType = msgspec.UNSET
    pool: Annotated[str, msgspec.Meta(max_length=48, description=_("moves it within seconds"))] | msgspec.UnsetType = (
        msgspec.UNSET
    )
    weight: Annotated[int, msgspec.Meta(ge=1, le=1000)] | msgspec.UnsetType = msgspec.UNSET
    note: Annotated[str, msgspec.Meta(max_length=500)] | msgspec.UnsetType = msgspec.UNSET


class Sources(OperatorView):
    @operation(
        "list_sources", tag="operator", says=_("Addresses that mail leaves from"), query=SourceQuery, answer=SourceList
    )
    def get(self, request: Request) -> Response:
        asked = self.asked(SourceQuery)
        found = sources.list_sources(with_retired=asked.retired)
        return Response(SourceList(data=[_source(source) for source in found]))

    @operation(
        "add_source", tag="operator", says=_("A further address"), body=NewSource, answer=SourceShape, status=201
    )
    def post(self, request: Request) -> Response:
        given = self.given(NewSource)
        try:
            source = sources.add_source(
                given.address,
                actor=self.caller.actor,
                ehlo_name=given.ehlo_name,
                pool=given.pool,
                node=given.node,
                weight=given.weight,
                note=given.note,
            )
        except NotFound:
            raise unknown_value("pool", "there is no such pool") from None
        return Response(_source(source), status=201)


class SourceOne(OperatorView):
    @operation("get_source", tag="operator", says=_("One address"), query=NoParameters, answer=SourceShape)
    def get(self, request: Request, source_id: UUID) -> Response:
        self.asked(NoParameters)
        return Response(_source(sources.find_source(source_id)))

    @operation(
        "change_source",
        tag="operator",
        says=_("Its name, pool, weight and note"),
        body=SourceChange,
        answer=SourceShape,
    )
    def patch(self, request: Request, source_id: UUID) -> Response:
        given = given_of(self.given(SourceChange))
        found = sources.find_source(source_id)
        now = {"ehlo_name": found.ehlo_name, "pool": found.pool.name, "weight": found.weight, "note": found.note}
        try:
            changed = sources.update_source(found, actor=self.caller.actor, **{**now, **given})
        except NotFound:
            raise unknown_value("pool", "there is no such pool") from None
        return Response(_source(sources.find_source(changed.pk)))

    @operation(
        "remove_source", tag="operator", says=_("Retire an address; adding it again brings it back"), query=NoParameters,
        answer=SourceShape,
    )  # fmt: skip
    def delete(self, request: Request, source_id: UUID) -> Response:
        self.asked(NoParameters)
        return Response(_source(sources.remove_source(sources.find_source(source_id), actor=self.caller.actor)))


class PauseSource(OperatorView):
    @operation("pause_source", tag="operator", says=_("No new attempt from there"), body=Why, answer=SourceShape)
    def post(self, request: Request, source_id: UUID) -> Response:
        given = self.given(Why)
        found = sources.find_source(source_id)
        return Response(_source(sources.pause_source(found, actor=self.caller.actor, reason=given.reason)))


class DrainSource(OperatorView):
    @operation(
        "drain_source", tag="operator", says=_("Finish what is greylisted there; new mail leaves from others"),
        body=Why, answer=SourceShape,
    )  # fmt: skip
    def post(self, request: Request, source_id: UUID) -> Response:
        given = self.given(Why)
        found = sources.find_source(source_id)
        return Response(_source(sources.drain_source(found, actor=self.caller.actor, reason=given.reason)))


class ResumeSource(OperatorView):
    @operation("resume_source", tag="operator", says=_("Use it again"), answer=SourceShape)
    def post(self, request: Request, source_id: UUID) -> Response:
        self.given(NoParameters)
        return Response(_source(sources.resume_source(sources.find_source(source_id), actor=self.caller.actor)))


def _source(source: SourceAddress) -> SourceShape:
    return SourceShape(
        id=source.id,
        address=source.address,
        ehlo_name=source.ehlo_name,
        pool=source.pool.name,
        node=source.node_id,
        weight=source.weight,
        state=source.state,
        state_reason=source.state_reason or None,
        state_since=source.state_since,
        note=source.note or None,
    )


class PoolShape(Shape, frozen=True):
    id: UUID
    name: str
    kind: Annotated[str, msgspec.Meta(description=_("shared, dedicated or quarantine"))]
    tenant: Annotated[str | None, msgspec.Meta(description=_("of a dedicated pool"))]
    standby: Annotated[str | None, msgspec.Meta(description=_("takes over while none of its addresses can be used"))]
    sources: list[str | None]
    note: str | None
    created_at: Moment


class PoolList(Shape, frozen=True):
    data: list[PoolShape]


class PoolKindName(StrEnum):
    SHARED = "shared"
    DEDICATED = "dedicated"
    QUARANTINE = "quarantine"


class NewPool(Input, frozen=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=48)]
    kind: PoolKindName = PoolKindName.SHARED
    tenant: Annotated[str, msgspec.Meta(max_length=48, description=_("of a dedicated pool: slug or id"))] = ""
    note: Annotated[str, msgspec.Meta(max_length=500)] = ""


class Pools(OperatorView):
    @operation("list_pools", tag="operator", says=_("Pools of addresses"), query=NoParameters, answer=PoolList)
    def get(self, request: Request) -> Response:
        self.asked(NoParameters)
        return Response(PoolList(data=[_pool(pool) for pool in pools.list_pools()]))

    @operation("add_pool", tag="operator", says=_("A further pool"), body=NewPool, answer=PoolShape, status=201)
    def post(self, request: Request) -> Response:
        given = self.given(NewPool)
        try:
            owner = tenants.find_tenant(given.tenant) if given.tenant else None
        except NotFound:
            raise unknown_value("tenant", "there is no such tenant") from None
        pool = pools.add_pool(given.name, actor=self.caller.actor, kind=given.kind, tenant=owner, note=given.note)
        return Response(_pool(pool), status=201)


class PoolChange(Input, frozen=True):
    """What is not given stays; null takes the stand-by away."""

    standby: Annotated[str, msgspec.Meta(max_length=48, description=_("name of a pool"))] | msgspec.UnsetType | None = (
        msgspec.UNSET
    )
    note: Annotated[str, msgspec.Meta(max_length=500)] | msgspec.UnsetType = msgspec.UNSET


class PoolOne(OperatorView):
    @operation("get_pool", tag="operator", says=_("One pool"), query=NoParameters, answer=PoolShape)
    def get(self, request: Request, name: str) -> Response:
        self.asked(NoParameters)
        return Response(_pool(pools.find_pool(name)))

    @operation("change_pool", tag="operator", says=_("Its stand-by and note"), body=PoolChange, answer=PoolShape)
    def patch(self, request: Request, name: str) -> Response:
        given = self.given(PoolChange)
        found = pools.find_pool(name)
        with transaction.atomic():
            if given.standby is not msgspec.UNSET:
                try:
                    standby = pools.find_pool(given.standby) if given.standby else None
                except NotFound:
                    raise unknown_value("standby", "there is no such pool") from None
                found = pools.set_standby(found, standby, actor=self.caller.actor)
            if given.note is not msgspec.UNSET:
                found = pools.update_pool(found, actor=self.caller.actor, note=given.note)
        return Response(_pool(found))

    @operation("remove_pool", tag="operator", says=_("Remove an empty pool"), query=NoParameters, answer=PoolShape)
    def delete(self, request: Request, name: str) -> Response:
        self.asked(NoParameters)
        found = pools.find_pool(name)
        shape = _pool(found)
        pools.remove_pool(found, actor=self.caller.actor)
        return Response(shape)


def _pool(pool: SourcePool) -> PoolShape:
    return PoolShape(
        id=pool.id,
        name=pool.name,
        kind=pool.kind,
        tenant=pool.tenant.slug if pool.tenant else None,
        standby=pool.standby.name if pool.standby else None,
        sources=[source.address for source in pool.sources.all() if source.state != "retired"],
        note=pool.note or None,
        created_at=pool.created_at,
    )
