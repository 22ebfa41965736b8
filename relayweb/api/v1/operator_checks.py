"""Looks at source addresses, for keys with the scope ``operate``: the last ones, and one now."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from uuid import UUID

import msgspec
from django.utils.translation import gettext_noop as _
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.refusals import Refused
from delivery import sources
from delivery.models import SourceCheck
from delivery.source_checks import checks
from relayweb.api.resources import NoParameters, operation
from relayweb.api.structures import Moment, Shape, in_utc
from relayweb.api.v1.operator import OperatorView

LOOKS_SHOWN = 25


class VerdictName(StrEnum):
    OK = "ok"
    BAD = "bad"
    FAILED = "failed"
    SKIPPED = "skipped"


class CheckResult(Shape, frozen=True):
    check: Annotated[
        str, msgspec.Meta(description=_("reverse_dns, ehlo, spf, port_25, returns_tls or blocklist: and a list"))
    ]
    verdict: Annotated[VerdictName, msgspec.Meta(description=_("failed: the check, not the address"))]
    detail: str
    found: list[str]
    severity: Annotated[str | None, msgspec.Meta(description=_("of a blocklist"))]
    look_up: str | None


class Look(Shape, frozen=True):
    checked_at: Moment
    state: Annotated[str, msgspec.Meta(description=_("ok, bad or failed"))]
    results: list[CheckResult]


class Looks(Shape, frozen=True):
    source_id: UUID
    address: str | None
    data: Annotated[list[Look], msgspec.Meta(description=_("the latest first, at most 25"))]


class ChecksOfSource(OperatorView):
    @operation(
        "list_source_checks", tag="operator", says=_("What looks at an address found"), query=NoParameters, answer=Looks
    )
    def get(self, request: Request, source_id: UUID) -> Response:
        self.asked(NoParameters)
        source = sources.find_source(source_id)
        found = checks.history_of(source, most=LOOKS_SHOWN)
        return Response(Looks(source_id=source.id, address=source.address, data=[_look(one) for one in found]))


class CheckSource(OperatorView):
    @operation("check_source", tag="operator", says=_("Look at an address now"), answer=Look)
    def post(self, request: Request, source_id: UUID) -> Response:
        self.given(NoParameters)
        source = sources.find_source(source_id)
        done = checks.check([source])
        if not done:
            raise Refused("The system's choice has no address to look at.", reason="no_address")
        return Response(_look(done[0].check))


def _look(check: SourceCheck) -> Look:
    results = [
        CheckResult(
            check=one["check"],
            verdict=VerdictName(one["verdict"]),
            detail=one["detail"],
            found=one["found"],
            severity=one["severity"],
            look_up=one["look_up"] or None,
        )
        for one in check.results
    ]
    return Look(checked_at=in_utc(check.checked_at) or check.checked_at, state=check.state, results=results)
