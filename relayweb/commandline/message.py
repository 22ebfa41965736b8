"""message list | show | retry | hold | release | cancel"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

import click

from accounts import audit, tenants
from accounts.audit import Actor
from accounts.models import Tenant
from accounts.refusals import NotFound
from delivery import exports, history
from delivery.core.states import RecipientState
from delivery.history import AttemptView, MessageView, RecipientView
from delivery.models import Message, Recipient
from delivery.queue import control
from delivery.queue.control import Changed, Which
from relayweb.commandline import output
from relayweb.commandline.verbs import IDENTIFIER, MOMENT, TENANT_HELP, Noun, tenant_option

HELD_BY_OPERATOR = "operator"

_STATES = click.Choice([state.value for state in RecipientState])


@click.group("message", cls=Noun)
def command() -> None:
    """Mail that was accepted, and what became of it."""


@command.command("list")
@tenant_option
@click.option("--state", "states", type=_STATES, multiple=True, help="Only recipients in this state; may be repeated.")
@click.option("--since", type=MOMENT, help="Only what was accepted at or after this time.")
@click.option("--limit", type=click.IntRange(min=0), help="At most so many; all if not given.")
def list_(tenant: str, states: tuple[str, ...], since: datetime | None, limit: int | None) -> None:
    """A tenant's recipients, newest first."""
    lines = exports.recipient_lines(
        tenants.find_tenant(tenant), states=[RecipientState(state) for state in states], since=since, limit=limit
    )
    columns = ("recipient", "state", "class", "attempts", "next_attempt_at", "reply", "message_id")
    output.rows(_lines(lines), columns, empty="There is no such mail.")


@command.command("show")
@click.argument("id", type=IDENTIFIER)
@click.option("--tenant", help=f"Only if it is this tenant's. {TENANT_HELP}")
def show(id: UUID, tenant: str | None) -> None:
    """One message with each recipient's attempts. ID is a message's or a recipient's."""
    view = history.show_message(tenants.find_tenant(tenant) if tenant else None, _message_of(id))
    if view is None:
        raise NotFound(f"There is no message {id}.", field="id")
    if output.is_json():
        output.write(_message(view))
    else:
        _print(view)


def _verb(name: str, help_text: str, action: Callable[[Which], Changed]) -> None:
    @command.command(name, help=help_text)
    @click.argument("ids", type=IDENTIFIER, nargs=-1, required=True, metavar="ID...")
    @click.option("--tenant", help=f"Only if it is this tenant's. {TENANT_HELP}")
    @click.option("--ignore-unknown", is_flag=True, help="Pass over ids that nothing is known of.")
    def change(ids: tuple[UUID, ...], tenant: str | None, ignore_unknown: bool) -> None:
        owner = tenants.find_tenant(tenant) if tenant else None
        # All of them, before anything is changed.
        found = [(key, *one) for key in ids if (one := _find(key, owner, ignore_unknown=ignore_unknown))]
        documents = []
        for key, which, message_tenant in found:
            changed = action(which)
            audit.record(
                Actor.command_line(),
                f"message.{name}",
                tenant=message_tenant,
                object_id=key,
                after={"changed": changed.changed, "in_hand": changed.in_hand},
            )
            documents.append({"id": key, "changed": changed.changed, "in_hand": changed.in_hand})
        output.rows(documents, ("id", "changed", "in_hand"), empty="None of these is known.")


_verb("retry", "Try what is deferred now. ID is a message's or a recipient's.", control.retry)
_verb(
    "hold",
    "Keep open recipients back until they are released or expire. ID is a message's or a recipient's.",
    lambda which: control.hold(which, reason=HELD_BY_OPERATOR),
)
_verb("release", "Send what is held after all. ID is a message's or a recipient's.", control.release)
_verb("cancel", "Withdraw open recipients for good. ID is a message's or a recipient's.", control.cancel)


def _find(key: UUID, tenant: Tenant | None, *, ignore_unknown: bool) -> tuple[Which, Tenant] | None:
    """What an id stands for. Raises NotFound."""
    messages = Message.objects.all() if tenant is None else Message.objects.of(tenant)
    message = messages.select_related("tenant").filter(pk=key).first()
    if message is not None:
        return Which(message_id=key), message.tenant
    recipients = Recipient.objects.all() if tenant is None else Recipient.objects.of(tenant)
    recipient = recipients.select_related("tenant").filter(pk=key).first()
    if recipient is not None:
        return Which(recipient_id=key), recipient.tenant
    if ignore_unknown:
        return None
    raise NotFound(f"There is neither a message nor a recipient {key}.", field="id")


def _message_of(key: UUID) -> UUID:
    message_id = Recipient.objects.filter(pk=key).values_list("message_id", flat=True).first()
    return message_id or key


def _lines(lines: Iterator[exports.RecipientLine]) -> Iterator[dict[str, Any]]:
    for line in lines:
        yield {
            "message_id": line.message_id,
            "recipient_id": line.recipient_id,
            "recipient": line.recipient,
            "state": line.state,
            "class": line.reply_class or None,
            "reply": line.reply or None,
            "attempts": line.attempts,
            "next_attempt_at": line.next_attempt_at,
            "returned_class": line.returned_class or None,
        }


# ---------------------------------------------------------------- one message


def _message(view: MessageView) -> dict[str, Any]:
    message = view.message
    return {
        "message_id": message.id,
        "tenant": Tenant.objects.filter(pk=message.tenant_id).values_list("slug", flat=True).first(),
        "accepted_at": message.accepted_at,
        "expires_at": message.expires_at,
        "author": message.author,
        "reverse_path": message.reverse_path,
        "subject": message.subject,
        "header_message_id": message.header_message_id,
        "size_bytes": message.size_bytes,
        "protocol": message.protocol,
        "peer_address": message.peer_address,
        "credential": view.credential_name or None,
        "stream": view.stream_name or None,
        "test": message.is_test,
        "recipients": [_recipient(recipient) for recipient in view.recipients],
    }


def _recipient(view: RecipientView) -> dict[str, Any]:
    row = view.row
    return {
        "recipient_id": row.recipient_id,
        "recipient": row.recipient,
        "state": row.state.value,
        "state_since": row.state_since,
        "reason": row.reason or None,
        "class": row.reply_class or None,
        "action": row.action or None,
        "scope": row.scope or None,
        "rule": row.rule or None,
        "reply": row.reply or None,
        "phase": row.phase or None,
        "next_attempt_at": row.next_attempt_at,
        "returned_at": row.returned_at,
        "returned_class": row.returned_class or None,
        "attempts": [_attempt(attempt) for attempt in view.attempts],
        "events": [
            {"kind": event.kind, "occurred_at": event.occurred_at, "attempt_id": event.attempt_id, "data": event.data}
            for event in view.events
        ],
    }


def _attempt(attempt: AttemptView) -> dict[str, Any]:
    return {
        "id": attempt.attempt_id,
        "number": attempt.number,
        "fence": attempt.fence,
        "phase": attempt.phase,
        "reply": attempt.reply,
        "class": attempt.reply_class or None,
        "action": attempt.action or None,
        "scope": attempt.scope or None,
        "rule": attempt.rule or None,
        "source": attempt.source_address,
        "host": attempt.host or None,
        "host_address": attempt.host_address,
        "port": attempt.port,
        "tls": " ".join(part for part in (attempt.tls_version, attempt.tls_cipher) if part) or None,
        "started_at": attempt.started_at,
        "ended_at": attempt.ended_at,
        "ambiguous": attempt.is_ambiguous,
        "worker": attempt.worker,
        "transcript": [
            {"after_ms": line.after_ms, "direction": line.direction, "text": line.text} for line in attempt.transcript
        ],
    }


def _print(view: MessageView) -> None:
    document = _message(view)
    recipients = document.pop("recipients")
    output.record(document)
    for recipient in recipients:
        seen = recipient["state"] + (f" ({recipient['reason']})" if recipient["reason"] else "")
        click.echo(f"\n{output.printable(recipient['recipient'])}  {seen}")
        for attempt in recipient["attempts"]:
            where = f"{attempt['host'] or '-'}, {attempt['phase']}" + (", ambiguous" if attempt["ambiguous"] else "")
            click.echo(f"  {attempt['number']}. {output.cell(attempt['started_at'])}  {where}")
            click.echo(f"     {output.printable(attempt['reply'])}")
            for line in attempt["transcript"]:
                for text in line["text"].splitlines():
                    click.echo(f"     {line['after_ms']:>7} ms {line['direction']} {output.printable(text)}")
