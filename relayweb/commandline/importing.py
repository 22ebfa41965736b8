"""import suppressions | domains"""

from __future__ import annotations

from typing import IO

import click

from accounts import tenants
from accounts.audit import Actor
from accounts.refusals import Refused
from delivery import moving_in
from delivery.core.foreign_lists import TELLS_KIND, ListKind, System
from delivery.suppression_imports import read_text
from delivery.suppressions import Owner
from delivery.tenants import find_stream
from relayweb.commandline import output
from relayweb.commandline.verbs import Noun, tenant_option

file_argument = click.argument("file", type=click.File("rb"))
dry_run_option = click.option("--dry-run", is_flag=True, help="Tell what would happen; write nothing.")


@click.group("import", cls=Noun)
def command() -> None:
    """What other systems wrote out, as CSV or JSON (docs/migrating.md says how to get it)."""


@command.command("suppressions")
@file_argument
@tenant_option
@click.option("--from", "system", type=click.Choice([system.value for system in System]), required=True)
@click.option(
    "--kind", type=click.Choice([kind.value for kind in ListKind]), help="What is in the file (SendGrid, Mailgun)."
)
@click.option("--stream", help="Only for this stream of the tenant.")
@dry_run_option
def suppressions(
    file: IO[bytes], tenant: str, system: str, kind: str | None, stream: str | None, dry_run: bool
) -> None:
    """Take over whom mail must not go to. FILE - is stdin."""
    if kind is None and System(system) not in TELLS_KIND:
        raise click.UsageError(f"The lists of {system} look alike: say --kind.")
    found = tenants.find_tenant(tenant)
    done = moving_in.take_suppressions(
        Owner(found, find_stream(found, stream) if stream else None),
        read_text(file.read()),
        system=System(system),
        kind=ListKind(kind) if kind else None,
        actor=Actor.command_line(),
        is_dry=dry_run,
    )
    output.record(
        {
            "dry_run": dry_run,
            "read": done.read,
            "changed": done.changed,
            "refused": done.refused,
            "errors": [{"row": row, "sentence": sentence} for row, sentence in done.errors],
        }
    )


@command.command("domains")
@file_argument
@tenant_option
@dry_run_option
def domains(file: IO[bytes], tenant: str, dry_run: bool) -> None:
    """Claim the domains of a list; `domain show` then says what to publish. FILE - is stdin."""
    done = moving_in.take_domains(
        tenants.find_tenant(tenant), read_text(file.read()), actor=Actor.command_line(), is_dry=dry_run
    )
    if not done.added and not done.errors:
        raise Refused("The file names no domain.", reason="list_empty", field="file")
    errors = [{"name": name, "sentence": sentence} for name, sentence in done.errors]
    output.record({"dry_run": dry_run, "added": done.added, "errors": errors})
