"""shaping show | set | suspend | changes | release"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click
from django.db import transaction

from accounts import audit
from accounts.audit import Actor
from accounts.refusals import NotFound, Refused
from delivery import sources, throttles
from delivery.models import Path
from delivery.shaping import changes, overrides
from relayweb.commandline import output
from relayweb.commandline.verbs import Noun

_LISTS = frozenset({"messages", "new_connections"})
_COLUMNS = ("source", "share", "reason", "suspended_until", "suspended_reason", "owner")


@click.group("shaping", cls=Noun)
def command() -> None:
    """How fast receivers are approached: limits of provider groups, and what their paths have learnt."""


@command.command("show")
@click.option("--provider", required=True, help="Key of a provider group, e.g. docomo; queue stats names them.")
def show(provider: str) -> None:
    """The limits in force, which of them are overrides, and each path's pace and suspension."""
    group = overrides.find_group(provider)
    if group is None:
        raise NotFound(f"There is no provider group {provider}.", field="provider")
    shape: dict[str, Any] = {
        "provider": group.key,
        "title": group.title,
        "limits": overrides.limits_of(group).values(),
        "overridden": sorted(group.limits),
        "paths": [_path(path) for path in Path.objects.filter(group__key=group.key).select_related("source")],
    }
    if output.is_json():
        output.write(shape)
        return
    output.record({**shape["limits"], "overridden": ", ".join(shape["overridden"])})
    click.echo()
    output.rows(iter(shape["paths"]), _COLUMNS, empty="No mail has gone there yet.")


@command.command("set")
@click.option("--provider", required=True, help="Key of a provider group.")
@click.argument("changes", nargs=-1, required=True, metavar="NAME=VALUE…")
def set_(provider: str, changes: tuple[str, ...]) -> None:
    """Override limits, at once and without a restart: connections=2 messages=2/s,100/min daily=5000; NAME= takes it back."""
    values = dict(_change(change) for change in changes)
    before = overrides.find_group(provider)
    try:
        with transaction.atomic():
            limits = overrides.set_limits(provider, values)
            audit.record(
                Actor.command_line(),
                "shaping.set",
                object_name=provider,
                before=before.limits if before else {},
                after={name: value for name, value in values.items() if value is not None},
            )
    except LookupError as error:
        raise NotFound(f"There is no provider group {provider}.", field="provider") from error
    except ValueError as error:
        raise Refused(f"These make no limits: {error}.", reason="limits_malformed") from None
    output.record({"provider": provider, **limits.values()})


@command.command("suspend")
@click.option("--provider", required=True, help="Key of a provider group.")
@click.option("--source", required=True, help="The source address, or its id.")
@click.option("--hours", type=float, default=1.0, show_default=True)
@click.option("--reason", default="")
def suspend(provider: str, source: str, hours: float, reason: str) -> None:
    """Begin no new attempt from an address to a provider group for some time. `shaping release` ends it."""
    until = throttles.suspend_path(
        sources.find_source(source),
        throttles.find_group(provider),
        length=timedelta(hours=hours),
        reason=reason,
        actor=Actor.command_line(),
    )
    output.record({"provider": provider, "source": source, "suspended_until": until})


@command.command("changes")
@click.option("--provider", required=True, help="Key of a provider group.")
@click.option("--source", required=True, help="The source address, or its id.")
@click.option("--limit", type=click.IntRange(1, changes.KEPT_OF_A_PATH), default=20, show_default=True)
def changes_(provider: str, source: str, limit: int) -> None:
    """Why the pace of an address towards a provider group was changed, and when; the latest first."""
    found = changes.of_path(sources.find_source(source), throttles.find_group(provider), most=limit)
    shapes = (
        {
            "at": one.at,
            "from": one.share_before,
            "to": one.share_after,
            "suspended_until": one.suspended_until,
            "reason": one.reason,
            "reply": one.reply,
        }
        for one in found
    )
    columns = ("at", "from", "to", "suspended_until", "reason", "reply")
    output.rows(shapes, columns, empty="It has always gone at full speed.")


@command.command("release")
@click.option("--provider", required=True, help="Key of a provider group.")
@click.option("--source", help="Only the path of this source address.")
def release(provider: str, source: str | None) -> None:
    """End suspensions and slowed pace now."""
    if overrides.find_group(provider) is None:
        raise NotFound(f"There is no provider group {provider}.", field="provider")
    with transaction.atomic():
        changed = overrides.release_paths(provider, source=source)
        audit.record(
            Actor.command_line(), "shaping.release", object_name=provider, after={"source": source, "paths": changed}
        )
    output.record({"provider": provider, "source": source, "released": changed})


def _change(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"{text} is no NAME=VALUE")
    if not value:
        return name, None
    if name in _LISTS:
        return name, [part for part in value.split(",") if part]
    return name, int(value) if value.isdigit() else value


def _path(path: Path) -> dict[str, Any]:
    is_suspended = path.suspended_until is not None and path.suspended_until > datetime.now(tz=UTC)
    return {
        "source": path.source.address,
        "share": path.pace_share,
        "reason": path.pace_reason,
        "suspended_until": path.suspended_until if is_suspended else None,
        "suspended_reason": path.suspended_reason if is_suspended else "",
        "owner": path.owner,
    }
