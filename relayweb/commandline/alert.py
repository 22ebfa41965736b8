"""alert list | ack | take-back | mute | unmute | test"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import click
from django.utils import timezone

from accounts.audit import Actor
from delivery.alerts import episodes
from delivery.models import Alert
from relayweb.commandline import output
from relayweb.commandline.verbs import IDENTIFIER, MOMENT, Noun, subject

_COLUMNS = ("id", "kind", "subject", "severity", "opened_at", "closed_at", "acknowledged_by", "muted_until")
_ID_HELP = "As `alert list` shows it."


@click.group("alert", cls=Noun)
def command() -> None:
    """What is wrong with this installation, and whom it was told."""


@command.command("list")
@click.option("--past", is_flag=True, help="Those that are over.")
@click.option("--before", type=IDENTIFIER, help="The id that the list begins before.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100)
def list_(past: bool, before: UUID | None, limit: int) -> None:
    """Open alerts, the newest first."""
    found, _further = episodes.page(is_past=past, before=before, size=limit)
    output.rows(map(_shape, found), _COLUMNS, empty="No alert is over yet." if past else "Nothing is wrong.")


@command.command("ack")
@subject("alert", "alert", _ID_HELP)
@click.option("--note", default="", help="Kept with it.")
def ack(alert: str, note: str) -> None:
    """Take it: it stays open until what it is about is over, and nobody is reminded any more."""
    output.record(_shape(episodes.acknowledge(_find(alert), actor=Actor.command_line(), note=note)))


@command.command("take-back")
@subject("alert", "alert", _ID_HELP)
def take_back(alert: str) -> None:
    """Nobody works on it after all."""
    output.record(_shape(episodes.take_back(_find(alert), actor=Actor.command_line())))


@command.command("mute")
@subject("alert", "alert", _ID_HELP)
@click.option("--until", type=MOMENT, help="ISO 8601; or say --hours.")
@click.option("--hours", type=float, help="From now.")
@click.option("--reason", required=True)
def mute(alert: str, until: datetime | None, hours: float | None, reason: str) -> None:
    """Tell nobody of it until then, of later episodes neither."""
    if (until is None) == (hours is None) or (hours is not None and not 0 < hours <= 24 * 90):
        raise click.UsageError("Say --until or --hours (up to 90 days), one of them.")
    end = until if until is not None else timezone.now() + timedelta(hours=hours or 0)
    output.record(_shape(episodes.mute(_find(alert), until=end, reason=reason, actor=Actor.command_line())))


@command.command("unmute")
@subject("alert", "alert", _ID_HELP)
def unmute(alert: str) -> None:
    """Tell of it again."""
    output.record(_shape(episodes.unmute(_find(alert), actor=Actor.command_line())))


@command.command("test")
def test() -> None:
    """Send a test alert to everybody who would be told of a real one; it leaves within half a minute."""
    sent = episodes.send_test(actor=Actor.command_line())
    output.record({"id": sent.pk, "targets": [f"{channel} {target}" for channel, target in episodes.targets()]})


def _find(text: str) -> Alert:
    return episodes.find(IDENTIFIER.convert(text, None, None))


def _shape(alert: Alert) -> dict[str, Any]:
    return {
        "id": alert.pk,
        "kind": alert.kind,
        "subject": alert.subject,
        "severity": alert.severity,
        "evidence": alert.evidence,
        "opened_at": alert.opened_at,
        "closed_at": alert.closed_at,
        "told_at": alert.told_at,
        "acknowledged_at": alert.acknowledged_at,
        "acknowledged_by": alert.acknowledged_by,
        "note": alert.acknowledged_note,
        "muted_until": alert.muted_until,
        "muted_by": alert.muted_by,
        "mute_reason": alert.mute_reason,
    }
