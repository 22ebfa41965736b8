"""suppression list | add | remove | restore | import | export | policy"""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any

import click

from accounts import tenants
from accounts.audit import Actor
from accounts.models import Tenant
from accounts.refusals import Refused
from delivery import suppression_files, suppression_search, suppressions
from delivery.models import Suppression, SuppressionReason, SuppressionScope
from delivery.suppression_files import Imported
from delivery.suppression_search import ListFilter
from delivery.suppressions import Cause, Owner
from delivery.tenants import find_stream
from relayweb.commandline import output
from relayweb.commandline.verbs import MOMENT, Noun, maybe_tenant_option, subject, tenant_option

ADDRESS_HELP = "An address, a domain, or a pattern with *."
stream_option = click.option("--stream", help="Only for this stream of the tenant.")
address = subject("address", "address", ADDRESS_HELP)


@click.group("suppression", cls=Noun)
def command() -> None:
    """Whom mail must not go to. Without --tenant: for everybody's mail."""


def _filters(function: Any) -> Any:
    for option in (
        click.option("--removed", is_flag=True, help="What was removed, instead of what is in force."),
        click.option("--reason", type=click.Choice([reason.value for reason in SuppressionReason])),
        click.option("--scope", type=click.Choice([scope.value for scope in SuppressionScope])),
        click.option("--search", default="", help="A part of the address."),
    ):
        function = option(function)
    return function


@command.command("list")
@maybe_tenant_option
@_filters
def list_(tenant: str | None, search: str, scope: str | None, reason: str | None, removed: bool) -> None:
    """A tenant's suppressions with those of its streams, newest first."""
    rows = suppression_search.rows_of(
        _tenant(tenant), query=search, scope=scope or "", reason=reason or "", removed=removed
    )
    columns = ("address", "scope", "stream", "reason", "class", "hits", "created_at", "expires_at")
    output.rows(map(_shape, rows), columns, empty="Nobody is suppressed.")


@command.command("add")
@address
@maybe_tenant_option
@stream_option
@click.option("--expires", type=MOMENT, help="Until then; for good if not given.")
@click.option("--note", default="", help="Why, in words.")
def add(address: str, tenant: str | None, stream: str | None, expires: datetime | None, note: str) -> None:
    """Let no mail go there any more."""
    row, changed = suppressions.add(
        _owner(tenant, stream),
        suppressions.read_target(address),
        Cause(SuppressionReason.MANUAL, detail=note, expires_at=expires),
        actor=Actor.command_line(),
    )
    output.record({**_shape(row), "changed": changed})


@command.command("remove")
@address
@maybe_tenant_option
@stream_option
@click.option("--reason", default="", help="Needed where the recipient asked for it.")
def remove(address: str, tenant: str | None, stream: str | None, reason: str) -> None:
    """Let mail go there again."""
    row = suppression_search.find(_owner(tenant, stream), address)
    output.record(_shape(suppressions.remove(row, actor=Actor.command_line(), reason=reason)))


@command.command("restore")
@address
@maybe_tenant_option
@stream_option
def restore(address: str, tenant: str | None, stream: str | None) -> None:
    """Take a removal back, within 30 days."""
    row = suppression_search.find(_owner(tenant, stream), address)
    output.record(_shape(suppressions.restore(row, actor=Actor.command_line())))


@command.command("import")
@click.argument("file", type=click.File("r", encoding="utf-8", errors="replace"))
@maybe_tenant_option
@stream_option
def import_(file: Any, tenant: str | None, stream: str | None) -> None:
    """Take up a list from FILE (- is stdin): one address, domain or pattern a line, or CSV with a header."""

    def show_progress(so_far: Imported) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r{so_far.read} lines", err=True, nl=False)

    done = suppression_files.import_csv(
        _owner(tenant, stream), file, actor=Actor.command_line(), progress=show_progress
    )
    document = {
        "read": done.read,
        "changed": done.changed,
        "refused": done.refused,
        "errors": [{"line": line, "sentence": sentence} for line, sentence in done.errors],
    }
    output.record(document)


@command.command("export")
@maybe_tenant_option
@_filters
def export(tenant: str | None, search: str, scope: str | None, reason: str | None, removed: bool) -> None:
    """Write the list as CSV to stdout; with --json as a list."""
    owner = _tenant(tenant)
    wanted = ListFilter(query=search, scope=scope or "", reason=reason or "", which="removed" if removed else "active")
    if output.is_json():
        output.write_list(map(_shape, suppression_search.all_rows(owner, wanted)))
        return
    for line in suppression_files.export_csv(owner, wanted):
        sys.stdout.write(line)


@command.command("policy")
@tenant_option
@click.argument("choice", type=click.Choice(["accept", "refuse"]))
def policy(tenant: str, choice: str) -> None:
    """At RCPT: accept suppressed recipients and show them as such, or refuse them with 550 5.7.1."""
    found = tenants.find_tenant(tenant)
    suppressions.set_refusing(found, choice == "refuse", actor=Actor.command_line())
    output.record({"tenant": found.slug, "suppressed_at_rcpt": choice})


def _tenant(key: str | None) -> Tenant | None:
    return None if key is None else tenants.find_tenant(key)


def _owner(tenant: str | None, stream: str | None) -> Owner:
    found = _tenant(tenant)
    if stream is None:
        return Owner(tenant=found)
    if found is None:
        raise Refused("A stream belongs to a tenant: say --tenant too.", reason="tenant_missing", field="tenant")
    return Owner(tenant=found, stream=find_stream(found, stream))


def _shape(row: Suppression) -> dict[str, Any]:
    return {
        "id": row.id,
        "address": row.value,
        "kind": row.kind,
        "scope": row.scope,
        "tenant": row.tenant.slug if row.tenant else None,
        "stream": row.stream.name if row.stream else None,
        "reason": row.reason,
        "class": row.reply_class,
        "detail": row.detail,
        "message_id": row.message_id,
        "hits": row.hits,
        "created_at": row.created_at,
        "created_by": row.created_by,
        "expires_at": row.expires_at,
        "removed_at": row.removed_at,
    }
