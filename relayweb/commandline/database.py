"""database migrate | roles | check"""

from __future__ import annotations

from typing import Any

import click
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from accounts.audit import Actor
from accounts.refusals import Refused
from delivery import domains, partitions
from delivery.acceptance.store import Durability
from relayweb.commandline import output
from relayweb.commandline.verbs import Noun
from relayweb.processes import database_roles, prepare


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


@command.command("roles")
@click.option("--new-passwords", is_flag=True, help="Set new passwords for roles that exist, too.")
@click.option("--without-passwords", is_flag=True, help="The server knows the parts in another way (pg_hba.conf).")
@click.option("--remove", is_flag=True, help="Take the roles away again: every part connects as the owner.")
def roles(new_passwords: bool, without_passwords: bool, remove: bool) -> None:
    """A database role for each part, with the rights its work needs. Safe to repeat.

    Run it as the owner of the tables, who must be allowed to make roles. New passwords are printed once, as settings.
    """
    if new_passwords and without_passwords:
        raise click.UsageError("--new-passwords and --without-passwords exclude each other")
    try:
        if remove:
            output.record({"removed": database_roles.remove()})
            return
        made = database_roles.make(new_passwords=new_passwords, with_passwords=not without_passwords)
    except database_roles.RolesError as reason:
        raise Refused(str(reason), reason="roles_not_made") from None
    told = [
        {
            "part": one.part,
            "role": one.role,
            "is_new": one.is_new,
            "granted": one.granted,
            "revoked": one.revoked,
            "setting": database_roles.setting_of(one),
        }
        for one in made
    ]
    output.rows(told, ("part", "role", "is_new", "granted", "revoked", "setting"), empty="")


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
