"""database migrate | check"""

from __future__ import annotations

from typing import Any

import click
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from accounts.audit import Actor
from delivery import domains, partitions
from delivery.acceptance.store import Durability
from relayweb.commandline import output
from relayweb.commandline.verbs import Noun
from relayweb.processes import prepare


@click.group("database", cls=Noun)
def command() -> None:
    """Schema and durability."""


@command.command("migrate")
def migrate() -> None:
    """Bring the schema up to date and make what every installation starts with. Safe to repeat."""
    pending = _pending()
    prepare.migrate()
    own = domains.ensure_own_domains(actor=Actor.command_line())
    output.record({"applied": pending, "own_domains": [domain.name for domain in own]})


@command.command("check")
@click.pass_context
def check(ctx: click.Context) -> None:
    """Whether the schema is current, settings are durable, and partitions are made ahead. Exit code 1 if not."""
    pending = _pending()
    durability = _durability()
    strays = {} if pending else {table: count for table, count in partitions.strays().items() if count}
    is_ok = not pending and durability.is_safe and not strays
    output.record(
        {
            "ok": is_ok,
            "server_version": _setting("server_version"),
            "pending_migrations": pending,
            "durable": durability.is_safe,
            "fsync": durability.fsync,
            "synchronous_commit": durability.synchronous_commit,
            "full_page_writes": durability.full_page_writes,
            "rows_without_partition": strays,
        }
    )
    if not is_ok:
        ctx.exit(1)


def _pending() -> list[str]:
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _backwards in plan]


def _durability() -> Durability:
    return Durability(
        fsync=_setting("fsync"),
        synchronous_commit=_setting("synchronous_commit"),
        full_page_writes=_setting("full_page_writes"),
    )


def _setting(name: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting(%s)", [name])
        return cursor.fetchone()[0]
