"""source add | list | change | check | pause | resume | families | remove"""

from __future__ import annotations

from typing import Any

import click

from accounts.audit import Actor
from delivery import sources
from delivery.models import SourceAddress, SourceCheck
from delivery.models.source import DEFAULT_POOL, Families
from delivery.source_checks import checks
from relayweb.commandline import output
from relayweb.commandline.verbs import Noun, subject

ADDRESS_HELP = "Address or id."


@click.group("source", cls=Noun)
def command() -> None:
    """Addresses that mail leaves from."""


@command.command("add")
@click.option("--address", required=True)
@click.option("--ehlo", default="", help="The name it introduces itself with; else RELAY_HOSTNAME.")
@click.option("--pool", default=DEFAULT_POOL, show_default=True)
@click.option("--node", default="", help="The machine it lives on; else this one (RELAY_NODE).")
@click.option("--weight", type=click.IntRange(1, sources.HEAVIEST), default=1, show_default=True)
@click.option("--note", default="")
def add(address: str, ehlo: str, pool: str, node: str, weight: int, note: str) -> None:
    """Send from an address. The system's own choice in the same pool steps back."""
    source = sources.add_source(
        address, actor=Actor.command_line(), ehlo_name=ehlo, pool=pool, node=node, weight=weight, note=note
    )
    output.record(_shape(source))


@command.command("list")
@click.option("--removed", "with_retired", is_flag=True, help="Also those that were removed.")
def list_(with_retired: bool) -> None:
    """Every address. One without a number is the system's choice."""
    columns = ("address", "ehlo", "pool", "node", "state", "weight", "id")
    found = sources.list_sources(with_retired=with_retired)
    output.rows(map(_shape, found), columns, empty="There is no source yet, so nothing can leave.")


@command.command("check")
@click.argument("source", required=False)
@click.option("--history", "with_history", is_flag=True, help="Show former looks, and do not look now.")
def check(source: str | None, with_history: bool) -> None:
    """Look at an address, or at all: reverse DNS, EHLO name, SPF of the bounce domain, blocklists."""
    found = sources.find_source(source) if source else None
    if with_history:
        if found is None:
            raise click.UsageError("Say whose history.")
        output.rows(
            (_look(one.source, one) for one in checks.history_of(found)),
            ("checked_at", "state", "trouble"),
            empty="Nobody has looked at it yet.",
        )
        return
    checked = checks.check([found] if found else None)
    shapes = [
        {**_look(one.source, one.check), "paused": one.paused, "not_paused_because": one.not_paused} for one in checked
    ]
    columns = ("source", "state", "trouble", "paused", "not_paused_because")
    output.rows(shapes, columns, empty="There is no address to look at: the system's choice has none of its own.")


@command.command("pause")
@subject("source", "address", ADDRESS_HELP)
@click.option("--reason", default="")
def pause(source: str, reason: str) -> None:
    """Begin no new attempt from an address."""
    output.record(_shape(sources.pause_source(sources.find_source(source), actor=Actor.command_line(), reason=reason)))


@command.command("drain")
@subject("source", "address", ADDRESS_HELP)
@click.option("--reason", default="")
def drain(source: str, reason: str) -> None:
    """Finish what is under way and what is greylisted there; new mail leaves from other addresses."""
    output.record(_shape(sources.drain_source(sources.find_source(source), actor=Actor.command_line(), reason=reason)))


@command.command("resume")
@subject("source", "address", ADDRESS_HELP)
def resume(source: str) -> None:
    """Use a paused or drained address again."""
    output.record(_shape(sources.resume_source(sources.find_source(source), actor=Actor.command_line())))


@command.command("change")
@subject("source", "address", ADDRESS_HELP)
@click.option("--ehlo", help="Another name to introduce itself with.")
@click.option("--pool", help="Move it to another pool.")
@click.option("--weight", type=click.IntRange(1, sources.HEAVIEST), help="Against that of its pool's heaviest address.")
@click.option("--note")
def change(source: str, ehlo: str | None, pool: str | None, weight: int | None, note: str | None) -> None:
    """Give an address another name, weight or note, or move it: it sends the new pool's mail, and the old one's no more."""
    found = sources.find_source(source)
    changed = sources.update_source(
        found,
        ehlo_name=found.ehlo_name if ehlo is None else ehlo,
        pool=found.pool.name if pool is None else pool,
        weight=found.weight if weight is None else weight,
        note=found.note if note is None else note,
        actor=Actor.command_line(),
    )
    output.record(_shape(changed))


@command.command("families")
@subject("source", "address", ADDRESS_HELP)
@click.argument("families", type=click.Choice(Families.values))
def families(source: str, families: str) -> None:
    """For the system's choice of address: 46 tries IPv4 first, 64 IPv6 first, 4 and 6 only the one."""
    output.record(_shape(sources.set_families(sources.find_source(source), families, actor=Actor.command_line())))


@command.command("remove")
@subject("source", "address", ADDRESS_HELP)
@click.option("--reason", default="")
@click.option("--queue-to", default="", help="The pool that its pool's mail leaves from once no address is left there.")
def remove(source: str, reason: str, queue_to: str) -> None:
    """Retire an address; `source add` brings it back."""
    found = sources.find_source(source)
    output.record(_shape(sources.retire_source(found, actor=Actor.command_line(), reason=reason, queue_to=queue_to)))


def _look(source: SourceAddress, check: SourceCheck) -> dict[str, Any]:
    not_good = [one for one in check.results if one["verdict"] in {"bad", "failed"}]
    return {
        "source": str(source),
        "checked_at": check.checked_at,
        "state": check.state,
        "trouble": [f"{one['check']} {one['verdict']}: {one['detail']}" for one in not_good],
        "results": check.results,
    }


def _shape(source: SourceAddress) -> dict[str, Any]:
    return {
        "id": source.id,
        "address": source.address,
        "ehlo": source.ehlo_name,
        "pool": source.pool.name,
        "node": source.node_id,
        "families": source.families if source.address is None else ("6" if ":" in source.address else "4"),
        "weight": source.weight,
        "state": source.state,
        "state_reason": source.state_reason,
        "state_since": source.state_since,
        "note": source.note,
    }
