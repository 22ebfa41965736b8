"""queue stats | hold | release | cancel | retry | sweep"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click

from accounts import audit, tenants
from accounts.audit import Actor
from accounts.refusals import Refused
from delivery.core.mailbox import MailboxSyntaxError, parse_domain
from delivery.engine import recovery
from delivery.queue import control
from delivery.queue.control import Changed, Which
from delivery.queue.figures import queue_stats
from delivery.shaping import overrides
from delivery.tenants import find_stream
from relayweb.commandline import output
from relayweb.commandline.message import HELD_BY_OPERATOR
from relayweb.commandline.verbs import TENANT_HELP, Noun

_COLUMNS = ("provider", "open", "due", "claimed", "deferred", "held", "oldest_age_s", "reason")
_PATH_COLUMNS = (
    "provider",
    "source",
    "state",
    "pace",
    "pace_reason",
    "in_hand",
    "suspended_until",
    "suspended_reason",
    "owner",
)


@click.group("queue", cls=Noun)
def command() -> None:
    """What waits."""


@command.command("stats")
def stats() -> None:
    """How many recipients are open, and why: in all, by provider; and the paths they leave by."""
    figures = asdict(queue_stats())
    if output.is_json():
        output.write(figures)
        return
    output.table(_COLUMNS[1:7], [[figures[column] for column in _COLUMNS[1:7]]])
    for rows, columns in ((figures["by_provider"], _COLUMNS), (figures["paths"], _PATH_COLUMNS)):
        if rows:
            click.echo()
            output.table(columns, [[row[column] for column in columns] for row in rows])


def _described(function: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that say which waiting mail is meant; the function is given them as they were said."""
    for option in (
        click.option("--all", "everything", is_flag=True, help="All that waits, whoever's it is."),
        click.option("--to-domain", help="Only to this recipient domain."),
        click.option("--provider", help="Only to this provider group; queue stats names them."),
        click.option("--stream", help="Only of this stream of the tenant."),
        click.option("--tenant", help=f"Only this tenant's. {TENANT_HELP}"),
    ):
        function = option(function)
    return function


def _verb(name: str, help_text: str, action: Callable[[Which], Changed]) -> None:
    @command.command(name, help=help_text)
    @_described
    def change(**described: Any) -> None:
        _act(name, action, **described)


def _act(
    name: str,
    action: Callable[[Which], Changed],
    *,
    tenant: str | None,
    stream: str | None,
    provider: str | None,
    to_domain: str | None,
    everything: bool,
    **further: str | None,
) -> None:
    """``further``: what else was said, for the audit log and the answer."""
    if everything and (tenant or provider or to_domain):
        raise click.UsageError("Say --all, or whose and where to.")
    if not (everything or tenant or provider or to_domain):
        raise click.UsageError("Say whose or where to: --tenant, --provider or --to-domain; or --all.")
    if stream and not tenant:
        raise click.UsageError("A stream is a tenant's: say --tenant too.")
    owner = tenants.find_tenant(tenant) if tenant else None
    which = Which(
        tenant_id=owner.id if owner else None,
        stream_id=find_stream(owner, stream).id if owner and stream else None,
        provider=_known_provider(provider) if provider else None,
        recipient_domain=_checked_domain(to_domain) if to_domain else None,
        everything=everything,
    )
    changed = action(which)
    said = {"stream": stream, "provider": provider, "to_domain": which.recipient_domain, **further}
    result = {"changed": changed.changed, "in_hand": changed.in_hand}
    audit.record(
        Actor.command_line(),
        f"queue.{name}",
        tenant=owner,
        object_name=owner.slug if owner else "",
        after={**{key: value for key, value in said.items() if value}, **result},
    )
    output.record({"tenant": owner.slug if owner else None, **said, **result})


@command.command("release")
@_described
@click.option(
    "--held-for", help="Only what is held for this reason: operator (by queue hold), brake, … as message show says."
)
def release(held_for: str | None, **described: Any) -> None:
    """Send what is held after all."""
    _act("release", lambda which: control.release(which, reason=held_for), held_for=held_for, **described)


_verb("retry", "Try deferred mail now, without waiting for its next step.", control.retry)
_verb("hold", "Keep mail back until it is released.", lambda which: control.hold(which, reason=HELD_BY_OPERATOR))
_verb("cancel", "Withdraw mail for good.", control.cancel)


def _known_provider(key: str) -> str:
    if overrides.find_group(key) is None:
        raise Refused(f"There is no provider group {key}.", reason="provider_unknown", field="provider")
    return key


def _checked_domain(text: str) -> str:
    try:
        return parse_domain(text)
    except MailboxSyntaxError as error:
        raise Refused(f"{text} is no domain: {error}.", reason="domain_malformed", field="to_domain") from None


@command.command("sweep")
def sweep() -> None:
    """Free now what engines that died had claimed, and ring for what is due. Engines do both by themselves."""
    output.record({"freed": recovery.sweep_now()})
