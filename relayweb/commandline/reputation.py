"""reputation list | show"""

from __future__ import annotations

from typing import Any

import click

from accounts.refusals import NotFound
from delivery import sources
from delivery.models import ReputationScore
from delivery.reputation import scores
from delivery.shaping import overrides
from relayweb.commandline import output
from relayweb.commandline.source import ADDRESS_HELP
from relayweb.commandline.verbs import Noun, subject


@click.group("reputation", cls=Noun)
def command() -> None:
    """How source addresses stand with receivers, from 0 to 100, by what their attempts met with."""


@command.command("list")
@click.option("--source", help=ADDRESS_HELP)
def list_(source: str | None) -> None:
    """The score of each address and provider group as it is now, and what would raise it."""
    wanted = sources.find_source(source) if source else None
    found = [row for row in scores.compute() if wanted is None or row.source_id == wanted.pk]
    output.rows(
        map(_shape, found),
        ("source", "provider", "score", "would_raise_it"),
        empty="Nowhere has enough been sent to say anything.",
    )


@command.command("show")
@subject("source", "address", ADDRESS_HELP)
@click.option("--provider", required=True, help="Key of a provider group, e.g. google; `queue stats` names them.")
def show(source: str, provider: str) -> None:
    """One score with every term, and what it was in the past 100 days."""
    found = sources.find_source(source)
    if overrides.find_group(provider) is None:
        raise NotFound(f"There is no provider group {provider}.", field="provider")
    now = [row for row in scores.compute() if row.source_id == found.pk and row.group.key == provider]
    history = [{"at": row.scored_at, "score": row.score} for row in scores.history_of(found, provider)]
    if output.is_json():
        shape = _shape(now[0]) if now else {"source": str(found), "provider": provider, "score": None}
        output.write({**shape, "history": history})
        return
    if not now:
        click.echo("Too little has been sent there to say anything.")
        return
    output.record({name: value for name, value in _shape(now[0]).items() if name not in {"terms", "figures"}})
    click.echo()
    output.rows(iter(now[0].terms), ("name", "value", "factor", "costs"), empty="")


def _shape(row: ReputationScore) -> dict[str, Any]:
    return {
        "source": str(row.source),
        "provider": row.group.key,
        "score": row.score,
        "cap": row.cap,
        "cap_reason": row.cap_reason,
        "would_raise_it": scores.raises(row),
        "terms": row.terms,
        "figures": row.figures,
    }
