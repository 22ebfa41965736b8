"""Scores as they were last written down, for keys with the scope ``operate``: of addresses, tenants and sending domains."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from django.utils.translation import gettext_noop as _
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import tenants
from delivery import sources, standing
from delivery.models import ReputationScore, SenderScore, SendingDomain
from delivery.reputation import scores, senders
from relayweb.api.resources import NoParameters, operation
from relayweb.api.structures import Moment, Shape, in_utc
from relayweb.api.v1.operator import OperatorView


class TermShape(Shape, frozen=True):
    name: str
    value: Annotated[float, msgspec.Meta(description=_("a share, or times as many"))]
    factor: float
    costs: Annotated[float, msgspec.Meta(description=_("points lost by it"))]


class ScoreShape(Shape, frozen=True):
    score: Annotated[int, msgspec.Meta(description=_("0 to 100"))]
    scored_at: Moment
    cap: int | None
    cap_reason: str | None
    would_raise_it: Annotated[list[str], msgspec.Meta(description=_("terms or a cap, the most helpful first"))]
    terms: list[TermShape]
    figures: Annotated[dict[str, dict[str, int]], msgspec.Meta(description=_("counts by window in hours"))]


class SourceScore(Shape, frozen=True):
    provider: str
    score: ScoreShape


class SourceScores(Shape, frozen=True):
    source_id: UUID
    address: str | None
    data: Annotated[list[SourceScore], msgspec.Meta(description=_("the lowest first; none older than two hours"))]


class DomainScore(Shape, frozen=True):
    domain: str
    score: ScoreShape


class TenantScores(Shape, frozen=True):
    tenant: str
    score: Annotated[ScoreShape | None, msgspec.Meta(description=_("null: too little was sent to say"))]
    domains: list[DomainScore]


class ScoresOfSource(OperatorView):
    @operation(
        "get_source_scores", tag="operator", says=_("Scores of an address, by provider"), query=NoParameters,
        answer=SourceScores,
    )  # fmt: skip
    def get(self, request: Request, source_id: UUID) -> Response:
        self.asked(NoParameters)
        source = sources.find_source(source_id)
        found = [one for one in standing.of_source(source, most=100) if one.score is not None]
        data = [SourceScore(provider=one.group.key, score=_score(one.score)) for one in found if one.score is not None]
        return Response(
            SourceScores(
                source_id=source.id, address=source.address, data=sorted(data, key=lambda one: one.score.score)
            )
        )


class ScoresOfTenant(OperatorView):
    @operation(
        "get_tenant_scores", tag="operator", says=_("Scores of a tenant and its domains"), query=NoParameters,
        answer=TenantScores,
    )  # fmt: skip
    def get(self, request: Request, tenant: str) -> Response:
        self.asked(NoParameters)
        found = tenants.find_tenant(tenant)
        own, by_domain = senders.latest(found), senders.latest_of_domains(found)
        names = dict(SendingDomain.objects.of(found).filter(pk__in=by_domain).values_list("pk", "name"))
        rows = sorted(by_domain.items(), key=lambda one: (one[1].score, names[one[0]]))
        return Response(
            TenantScores(
                tenant=found.slug,
                score=_score(own) if own else None,
                domains=[DomainScore(domain=names[key], score=_score(row)) for key, row in rows],
            )
        )


def _score(row: ReputationScore | SenderScore) -> ScoreShape:
    raises: list[str] = senders.raises(row) if isinstance(row, SenderScore) else scores.raises(row)
    terms: list[dict[str, Any]] = row.terms
    return ScoreShape(
        score=row.score,
        scored_at=in_utc(row.scored_at) or row.scored_at,
        cap=row.cap,
        cap_reason=row.cap_reason or None,
        would_raise_it=raises,
        terms=[TermShape(**term) for term in terms],
        figures=row.figures,
    )
