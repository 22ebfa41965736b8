"""pool add | list | assign | standby | remove"""

from __future__ import annotations

from typing import Any

import click

from accounts import credentials, tenants
from accounts.audit import Actor
from delivery import pools
from delivery.models import PoolKind, SourcePool, SourceState
from delivery.tenants import find_stream
from relayweb.commandline import output
from relayweb.commandline.verbs import TENANT_HELP, Noun, subject, tenant_option


@click.group("pool", cls=Noun)
def command() -> None:
    """Groups of source addresses."""


@command.command("add")
@subject("name", "name", "The pool's name.")
@click.option("--kind", type=click.Choice(PoolKind.values), default=PoolKind.SHARED.value, show_default=True)
@click.option("--tenant", help=f"Whose dedicated pool it is. {TENANT_HELP}")
@click.option("--note", default="")
def add(name: str, kind: str, tenant: str | None, note: str) -> None:
    """Make a pool."""
    owner = tenants.find_tenant(tenant) if tenant else None
    output.record(_shape(pools.add_pool(name, actor=Actor.command_line(), kind=kind, tenant=owner, note=note)))


@command.command("list")
def list_() -> None:
    """Every pool with its addresses."""
    output.rows(
        map(_shape, pools.list_pools()), ("name", "kind", "tenant", "standby", "sources"), empty="There is no pool."
    )


@command.command("assign")
@tenant_option
@click.option("--stream", help="Every credential of the stream that has no pool of its own.")
@click.option("--credential", help="This credential alone: its id or user name.")
@click.option("--pool", "name", required=True, help="A pool's name; of a credential also `none`: as its stream.")
def assign(tenant: str, stream: str | None, credential: str | None, name: str) -> None:
    """Let new mail of a stream, or of one credential, leave from a pool."""
    if (stream is None) == (credential is None):
        raise click.UsageError("Say --stream or --credential.")
    owner, actor = tenants.find_tenant(tenant), Actor.command_line()
    if credential is not None:
        chosen = None if name == "none" else pools.find_pool(name)
        login = credentials.find_credential(credential, tenant=owner)
        held = pools.assign_credential(login, chosen, actor=actor)
        output.record({"credential": held.id, "name": held.name, "pool": chosen.name if chosen else None})
        return
    found = find_stream(owner, str(stream))
    pool = pools.find_pool(name)
    changed = pools.assign_pool(found, pool, actor=actor)
    output.record({"stream": changed.name, "kind": changed.kind, "pool": pool.name})


@command.command("standby")
@subject("name", "name", "The pool's name.")
@click.option("--pool", "standby", required=True, help="The other pool's name, or `none`.")
def standby_(name: str, standby: str) -> None:
    """Let another pool serve this one's mail while none of its own addresses can be used."""
    other = None if standby == "none" else pools.find_pool(standby)
    output.record(_shape(pools.set_standby(pools.find_pool(name), other, actor=Actor.command_line())))


@command.command("remove")
@subject("name", "name", "The pool's name.")
def remove(name: str) -> None:
    """Remove a pool that nothing uses."""
    pool = pools.find_pool(name)
    shape = _shape(pool)
    pools.remove_pool(pool, actor=Actor.command_line())
    output.record(shape)


def _shape(pool: SourcePool) -> dict[str, Any]:
    active = [source for source in pool.sources.all() if source.state != SourceState.RETIRED]
    return {
        "id": pool.id,
        "name": pool.name,
        "kind": pool.kind,
        "tenant": pool.tenant.slug if pool.tenant else None,
        "standby": pool.standby.name if pool.standby else None,
        "sources": [str(source) for source in active],
        "note": pool.note,
    }
