"""score list | tenant | domain | source"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import click

from accounts import tenants
from delivery import domains, sources
from delivery.models import ReputationScore, SenderScore
from delivery.reputation import scores, senders
from relayweb.commandline import output
from relayweb.commandline.domain import NAME_HELP
from relayweb.commandline.source import ADDRESS_HELP
from relayweb.commandline.verbs import TENANT_HELP, Noun, maybe_tenant_option, subject

_TERMS = ("name", "value", "factor", "costs")
_TOO_LITTLE = "Too little was sent to say anything."


@click.group("score", cls=Noun)
def command() -> None:
    """How tenants, their sending domains and source addresses do, from 0 to 100, with every term."""


@command.command("list")
@maybe_tenant_option
def list_(tenant: str | None) -> None:
    """The scores of now: of each tenant, then of its domains. Who sent too little has none."""
    wanted = [tenants.find_tenant(tenant)] if tenant else None
    output.rows(
        map(_of_sender, senders.compute(wanted)), ("tenant", "domain", "score", "would_raise_it"), empty=_TOO_LITTLE
    )


@command.command("tenant")
@subject("tenant", "tenant", TENANT_HELP)
def tenant(tenant: str) -> None:
    """A tenant's score with every term, the scores of its domains, and its past 100 days."""
    found = tenants.find_tenant(tenant)
    rows = list(senders.compute([found]))
    own = [row for row in rows if row.domain_id is None]
    others = [{"domain": row.domain.name, "score": row.score} for row in rows if row.domain is not None]
    _show(
        _of_sender(own[0]) if own else {"tenant": found.slug, "score": None},
        history=[{"at": row.scored_at, "score": row.score} for row in senders.history_of(found)],
        also={"domains": others},
    )


@command.command("domain")
@subject("name", "name", NAME_HELP)
@maybe_tenant_option
def domain(name: str, tenant: str | None) -> None:
    """A sending domain's score with every term, and its past 100 days."""
    found = domains.find_domain(name, tenant=tenants.find_tenant(tenant) if tenant else None)
    own = [row for row in senders.compute([found.tenant]) if row.domain_id == found.pk]
    _show(
        _of_sender(own[0]) if own else {"tenant": found.tenant.slug, "domain": found.name, "score": None},
        history=[{"at": row.scored_at, "score": row.score} for row in senders.history_of(found.tenant, found)],
    )


@command.command("source")
@subject("source", "address", ADDRESS_HELP)
def source(source: str) -> None:
    """A source address's scores by provider group, with every term; `reputation show` has the history."""
    found = sources.find_source(source)
    rows = sorted((row for row in scores.compute() if row.source_id == found.pk), key=lambda row: row.score)
    if output.is_json():
        output.write({"source": str(found), "scores": [_of_source(row) for row in rows]})
        return
    if not rows:
        click.echo(_TOO_LITTLE)
    for place, row in enumerate(rows):
        if place:
            click.echo()
        _with_terms(_of_source(row))


def _show(shape: dict[str, Any], *, history: Sequence[Any], also: dict[str, Any] | None = None) -> None:
    also = also or {}
    if output.is_json():
        output.write({**shape, **also, "history": list(history)})
    elif shape["score"] is None:
        click.echo(_TOO_LITTLE)
    else:
        _with_terms({**shape, **{name: [_brief(one) for one in ones] for name, ones in also.items()}})


def _brief(one: dict[str, Any]) -> str:
    return f"{one['domain']} {one['score']}"


def _with_terms(shape: dict[str, Any]) -> None:
    terms: Iterable[dict[str, Any]] = shape["terms"]
    output.record({name: value for name, value in shape.items() if name not in {"terms", "figures"}})
    click.echo()
    output.rows(iter(terms), _TERMS, empty="")


def _of_sender(row: SenderScore) -> dict[str, Any]:
    return {
        "tenant": row.tenant.slug,
        "domain": row.domain.name if row.domain else None,
        **_common(row, senders.raises(row)),
    }


def _of_source(row: ReputationScore) -> dict[str, Any]:
    return {"provider": row.group.key, **_common(row, scores.raises(row))}


def _common(row: SenderScore | ReputationScore, raises: list[str]) -> dict[str, Any]:
    return {
        "score": row.score,
        "cap": row.cap,
        "cap_reason": row.cap_reason,
        "would_raise_it": raises,
        "terms": row.terms,
        "figures": row.figures,
    }
