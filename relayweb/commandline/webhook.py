"""webhook add | list | show | update | rotate | test | enable | disable | remove | restore | replay | calls"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import click

from accounts import tenants
from accounts.audit import Actor
from accounts.models import Tenant
from accounts.refusals import Refused
from delivery.core.states import EVENT_TYPES
from delivery.models import Webhook, WebhookCall, WebhookFormat
from delivery.models.webhook import MOST_IN_A_CALL
from delivery.webhooks import endpoints, log, replay
from delivery.webhooks.formats import FORMATS
from delivery.webhooks.log import CallFilter
from relayweb.commandline import output
from relayweb.commandline.verbs import IDENTIFIER, MOMENT, Noun, tenant_option

webhook_argument = click.argument("webhook", type=IDENTIFIER)
events_option = click.option(
    "--event",
    "events",
    multiple=True,
    type=click.Choice(EVENT_TYPES),
    help="A type of event it wants; may be repeated.",
)
most_option = click.option(
    "--batch", "most_in_a_call", type=click.IntRange(1, MOST_IN_A_CALL), help="Events in a call, at most."
)
_TEST_WAIT_S = 35.0


@click.group("webhook", cls=Noun)
def command() -> None:
    """URLs of tenants that are told what becomes of mail."""


@command.command("add")
@tenant_option
@click.option("--url", required=True, help="https or http, on the usual port.")
@events_option
@click.option("--name", default="", help="For people.")
@most_option
@click.option(
    "--format",
    "form",
    type=click.Choice([form.value for form in WebhookFormat]),
    default="standard",
    help="postal: for Postal's receivers.",
)
def add(tenant: str, url: str, events: tuple[str, ...], name: str, most_in_a_call: int | None, form: str) -> None:
    """Call a URL when events happen; all events unless some are chosen. The secret is shown this once."""
    made = endpoints.add_webhook(
        tenants.find_tenant(tenant),
        url=url,
        events=events or FORMATS[form].events,
        form=form,
        name=name,
        most_in_a_call=most_in_a_call or 1,
        actor=Actor.command_line(),
    )
    output.record({**_shape(made.webhook), "secret": made.secret}, note="The secret is not shown again.")


@command.command("list")
@tenant_option
def list_(tenant: str) -> None:
    """A tenant's webhooks, oldest first."""
    found = endpoints.list_webhooks(_tenant(tenant))
    columns = ("id", "name", "url", "state", "failures", "last_called_at", "last_outcome")
    output.rows(map(_shape, found), columns, empty="There is no webhook.")


@command.command("show")
@webhook_argument
def show(webhook: UUID) -> None:
    """One webhook, and what waits for it."""
    found = endpoints.find_webhook(webhook)
    backlog = log.backlog_of(found)
    output.record({**_shape(found), "waiting": backlog.waiting, "dead": backlog.dead})


@command.command("update")
@webhook_argument
@click.option("--url")
@events_option
@click.option("--name")
@most_option
def update(
    webhook: UUID, url: str | None, events: tuple[str, ...], name: str | None, most_in_a_call: int | None
) -> None:
    """Change what is given."""
    changed = endpoints.update_webhook(
        endpoints.find_webhook(webhook),
        url=url,
        events=events or None,
        name=name,
        most_in_a_call=most_in_a_call,
        actor=Actor.command_line(),
    )
    output.record(_shape(changed))


@command.command("rotate")
@webhook_argument
@click.option(
    "--overlap-hours", type=click.FloatRange(0, 720), default=24.0, help="How long the former secret signs too."
)
def rotate(webhook: UUID, overlap_hours: float) -> None:
    """A new secret, shown this once."""
    found = endpoints.find_webhook(webhook)
    secret = endpoints.rotate_secret(found, actor=Actor.command_line(), overlap=timedelta(hours=overlap_hours))
    output.record({**_shape(found), "secret": secret}, note="The secret is not shown again.")


@command.command("test")
@webhook_argument
def test(webhook: UUID) -> None:
    """Have a test call made, and show its answer."""
    found = endpoints.find_webhook(webhook)
    test_id = endpoints.request_test(found, actor=Actor.command_line())
    deadline = time.monotonic() + _TEST_WAIT_S
    while (call := log.call_of_test(found, test_id)) is None:
        if time.monotonic() > deadline:
            raise Refused("No call was made: is the part webhooks running?", reason="not_called")
        time.sleep(0.1)
    output.record({**_call_shape(call), "response_body": call.response_body})


@command.command("enable")
@webhook_argument
def enable(webhook: UUID) -> None:
    """Call it again; what waited is told at once."""
    output.record(_shape(endpoints.enable_webhook(endpoints.find_webhook(webhook), actor=Actor.command_line())))


@command.command("disable")
@webhook_argument
def disable(webhook: UUID) -> None:
    """Call it no more."""
    output.record(_shape(endpoints.disable_webhook(endpoints.find_webhook(webhook), actor=Actor.command_line())))


@command.command("remove")
@webhook_argument
def remove(webhook: UUID) -> None:
    """Remove it; `restore` undoes it within 7 days."""
    output.record(_shape(endpoints.remove_webhook(endpoints.find_webhook(webhook), actor=Actor.command_line())))


@command.command("restore")
@webhook_argument
def restore(webhook: UUID) -> None:
    """Take a removal back."""
    found = endpoints.find_webhook(webhook, removed=True)
    output.record(_shape(endpoints.restore_webhook(found, actor=Actor.command_line())))


@command.command("replay")
@webhook_argument
@click.option("--since", type=MOMENT, help="A period: from …")
@click.option("--until", type=MOMENT, help="… to; now if not given.")
@click.option("--call", "call_id", type=IDENTIFIER, help="The events of one call.")
@click.option("--dead", is_flag=True, help="All that could not be told.")
def replay_(webhook: UUID, since: datetime | None, until: datetime | None, call_id: UUID | None, dead: bool) -> None:
    """Tell events again: of a period, of a call, or all that are dead."""
    if (since is not None) + (call_id is not None) + dead != 1 or (until is not None and since is None):
        raise click.UsageError("Say one of --since, --call and --dead.")
    found, actor = endpoints.find_webhook(webhook), Actor.command_line()
    if call_id is not None:
        count = replay.replay_call(log.find_call(found.tenant, found, call_id), found, actor=actor)
    elif since is not None:
        count = replay.replay_period(found, since=since, until=until or datetime.now(tz=UTC), actor=actor)
    else:
        count = replay.replay_dead(found, actor=actor)
    output.record({"id": found.id, "events": count})


@command.command("calls")
@webhook_argument
@click.option("--failed", is_flag=True, help="Only those that were not taken.")
@click.option("--since", type=MOMENT)
@click.option("--limit", type=click.IntRange(1, 1000), default=50)
def calls(webhook: UUID, failed: bool, since: datetime | None, limit: int) -> None:
    """The log of its calls, newest first."""
    found = log.calls_of(endpoints.find_webhook(webhook), CallFilter(failed=failed, since=since), most=limit)[:limit]
    columns = ("called_at", "type", "number", "outcome", "status", "duration_ms", "error")
    output.rows(map(_call_shape, found), columns, empty="No call so far.")


def _tenant(key: str) -> Tenant:
    return tenants.find_tenant(key)


def _shape(webhook: Webhook) -> dict[str, Any]:
    return {
        "id": webhook.id,
        "tenant": webhook.tenant.slug,
        "name": webhook.name,
        "url": webhook.url,
        "events": webhook.events,
        "format": webhook.format,
        "most_in_a_call": webhook.most_in_a_call,
        "state": webhook.state,
        "disabled_at": webhook.disabled_at,
        "disabled_reason": webhook.disabled_reason,
        "failing_since": webhook.failing_since,
        "failures": webhook.failures,
        "last_called_at": webhook.last_called_at,
        "last_outcome": webhook.last_outcome,
        "last_status": webhook.last_status,
        "former_secret_until": webhook.former_secret_until,
        "created_at": webhook.created_at,
    }


def _call_shape(call: WebhookCall) -> dict[str, Any]:
    return {
        "id": call.id,
        "called_at": call.called_at,
        "type": call.kind,
        "event_ids": call.event_ids,
        "recipient": call.recipient,
        "number": call.number,
        "outcome": call.outcome,
        "status": call.status,
        "duration_ms": call.duration_ms,
        "error": call.error,
    }
