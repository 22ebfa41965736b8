"""Alerts open, stay, close and are told of; people acknowledge and mute them.

An episode opens once what it is about was seen for long enough, stays while it is seen, and closes by itself when it was not
seen for a while. What is to be told is written down in the same transaction, so that a process that dies loses nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import audit
from accounts.audit import Actor
from accounts.models import User
from accounts.refusals import NotFound, Refused
from delivery.alerts.rules import Found, Rule, rules
from delivery.models import Alert, AlertTelling

REMINDED_EVERY = timedelta(days=1)
MOST_MUTED = timedelta(days=90)
KEPT = timedelta(days=180)
TEST = "test"
_ADVISORY_LOCK = 7_294_131
_FLAPPING_WITHIN = timedelta(days=1)
_MOST_TIMES = 6


# ---------------------------------------------------------------- watching


@dataclass(slots=True)
class Watched:
    opened: int = 0
    closed: int = 0
    reminded: int = 0


def watch(found: Mapping[str, Found], *, now: datetime | None = None) -> Watched:
    """Bring the episodes up to what the rules see. One process at a time; a second one does nothing."""
    now = now or timezone.now()
    done = Watched()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_ADVISORY_LOCK])
        if not cursor.fetchone()[0]:
            return done
        known = {(one.kind, one.subject): one for one in Alert.objects.select_for_update().filter(closed_at=None)}
        for kind, seen in found.items():
            rule = rules()[kind]
            for subject, evidence in seen.by_subject.items():
                _see(known.pop((kind, subject[:255]), None), rule, subject[:255], evidence, now, done)
        for alert in known.values():
            if (own := found.get(alert.kind)) is not None and own.is_known(alert.subject):
                _miss(alert, rules()[alert.kind], now, done)
            elif alert.opened_at is not None:
                _remind(alert, now, done)
    return done


def _see(
    alert: Alert | None, rule: Rule, subject: str, evidence: Mapping[str, Any], now: datetime, done: Watched
) -> None:
    if alert is None:
        alert = Alert(kind=rule.kind, subject=subject, seen_at=now)
        _carry_mute(alert, now)
    alert.severity, alert.evidence = rule.severity, dict(evidence)
    alert.last_seen_at, alert.clear_since = now, None
    if alert.opened_at is None and now - alert.seen_at >= rule.opens_after:
        alert.opened_at = now
        done.opened += 1
    alert.save()
    if alert.opened_at is not None:
        _remind(alert, now, done)


def _miss(alert: Alert, rule: Rule, now: datetime, done: Watched) -> None:
    if alert.opened_at is None:
        alert.delete()
        return
    alert.clear_since = alert.clear_since or now
    if now - alert.clear_since >= rule.closes_after * _patience(alert, now):
        alert.closed_at = now
        done.closed += 1
        if alert.told_at is not None and not _is_muted(alert, now):
            _tell(alert, "closed", now)
    alert.save()


def _patience(alert: Alert, now: datetime) -> int:
    """The more often it came within a day, the longer it has to be away."""
    earlier = Alert.objects.filter(kind=alert.kind, subject=alert.subject, closed_at__gt=now - _FLAPPING_WITHIN)
    return min(_MOST_TIMES, 1 + earlier.count())


def _carry_mute(alert: Alert, now: datetime) -> None:
    """A mute is about the thing, not the episode."""
    last = Alert.objects.filter(kind=alert.kind, subject=alert.subject, muted_until__gt=now).order_by("-id").first()
    if last is not None:
        alert.muted_until, alert.muted_by, alert.mute_reason = last.muted_until, last.muted_by, last.mute_reason


def _remind(alert: Alert, now: datetime, done: Watched) -> None:
    """Tell what nobody was told yet; and again every day until somebody has taken it."""
    if _is_muted(alert, now):
        return
    if alert.told_at is None:
        _tell(alert, "opened", now)
    elif alert.acknowledged_at is None and now - alert.told_at >= REMINDED_EVERY:
        _tell(alert, "reminder", now)
        done.reminded += 1


def _tell(alert: Alert, occasion: str, now: datetime) -> None:
    alert.told_at = now
    alert.save()
    AlertTelling.objects.bulk_create(
        AlertTelling(alert=alert, occasion=occasion, channel=channel, target=target, created_at=now, next_at=now)
        for channel, target in targets()
    )


def _is_muted(alert: Alert, now: datetime) -> bool:
    return alert.muted_until is not None and alert.muted_until > now


def targets() -> list[tuple[str, str]]:
    """(mail or webhook, where to): the mailboxes that were configured, or else every operator with a confirmed address."""
    mailboxes = list(settings.ALERT_MAIL_TO)
    if not mailboxes:
        operators = User.objects.filter(is_operator=True, is_active=True, email_confirmed_at__isnull=False)
        mailboxes = list(operators.order_by("email").values_list("email", flat=True))
    found = [("mail", mailbox) for mailbox in mailboxes if mailbox != "off"]
    return [*found, ("webhook", settings.ALERT_WEBHOOK_URL)] if settings.ALERT_WEBHOOK_URL else found


# ---------------------------------------------------------------- reading


def find(alert_id: UUID) -> Alert:
    alert = Alert.objects.filter(pk=alert_id, opened_at__isnull=False).first()
    if alert is None:
        raise NotFound(_("There is no such alert."), field="alert")
    return alert


def page(*, is_past: bool = False, before: UUID | None = None, size: int = 50) -> tuple[list[Alert], UUID | None]:
    """The newest first, and the key that the next page begins before."""
    found = Alert.objects.filter(opened_at__isnull=False, closed_at__isnull=not is_past).order_by("-id")
    if before is not None:
        found = found.filter(pk__lt=before)
    rows = list(found[: size + 1])
    return rows[:size], rows[size - 1].pk if len(rows) > size else None


@dataclass(frozen=True, slots=True)
class OpenAlerts:
    kind: str
    severity: str
    firing: int
    acknowledged: int
    muted: int


def open_by_kind(*, now: datetime | None = None) -> list[OpenAlerts]:
    """Each kind with its numbers; muted ones count as muted, whether somebody has taken them or not."""
    is_muted = Q(muted_until__gt=now or timezone.now())
    is_taken = Q(acknowledged_at__isnull=False) & ~is_muted
    rows = (
        Alert.objects.filter(opened_at__isnull=False, closed_at=None)
        .values("kind", "severity")
        .annotate(all=Count("pk"), taken=Count("pk", filter=is_taken), muted=Count("pk", filter=is_muted))
    )
    rows = rows.order_by("kind")
    return [
        OpenAlerts(row["kind"], row["severity"], row["all"] - row["taken"] - row["muted"], row["taken"], row["muted"])
        for row in rows
    ]


# ---------------------------------------------------------------- changing


def acknowledge(alert: Alert, *, actor: Actor, note: str = "") -> Alert:
    """Somebody works on it: no reminders any more."""
    return _change(
        alert,
        "alert.acknowledge",
        actor,
        reason=note,
        acknowledged_at=timezone.now(),
        acknowledged_by=actor.name[:254],
        acknowledged_note=note[:500],
    )


def take_back(alert: Alert, *, actor: Actor) -> Alert:
    """Nobody works on it after all."""
    return _change(alert, "alert.take_back", actor, acknowledged_at=None, acknowledged_by="", acknowledged_note="")


def mute(alert: Alert, *, until: datetime, reason: str, actor: Actor) -> Alert:
    """Nothing is told of it until then, of later episodes neither. Raises Refused without a reason or a sensible end."""
    now = timezone.now()
    if not reason.strip():
        raise Refused(_("Say why it is muted."), reason="reason_missing", field="reason")
    if not now < until <= now + MOST_MUTED:
        raise Refused(_("A mute ends in the future, within 90 days."), reason="length_malformed", field="hours")
    return _change(
        alert,
        "alert.mute",
        actor,
        reason=reason,
        muted_until=until,
        muted_by=actor.name[:254],
        mute_reason=reason[:500],
    )


def unmute(alert: Alert, *, actor: Actor) -> Alert:
    return _change(alert, "alert.unmute", actor, muted_until=None, muted_by="", mute_reason="")


def send_test(*, actor: Actor) -> Alert:
    """An alert about nothing, over at once, that goes to everybody who would be told of a real one."""
    now = timezone.now()
    with transaction.atomic():
        alert = Alert.objects.create(
            kind=TEST, severity="warning", seen_at=now, last_seen_at=now, opened_at=now, closed_at=now
        )
        _tell(alert, "opened", now)
        audit.record(actor, "alert.test", object_id=alert.pk, object_name=TEST)
    return alert


def _change(alert: Alert, action: str, actor: Actor, *, reason: str = "", **values: Any) -> Alert:
    with transaction.atomic():
        current = Alert.objects.select_for_update().get(pk=alert.pk)
        if current.closed_at is not None and action not in {"alert.unmute"}:
            raise Refused(_("It is over already."), reason="alert_closed")
        for name, value in values.items():
            setattr(current, name, value)
        current.save(update_fields=list(values))
        after = {"ends_at": values["muted_until"]} if values.get("muted_until") else {}
        audit.record(actor, action, object_id=current.pk, object_name=str(current), after=after, reason=reason)
    return current


def forget_old(*, now: datetime | None = None) -> int:
    """Also stops a mute that outlived its episode: 90 days at the most."""
    return Alert.objects.filter(closed_at__lt=(now or timezone.now()) - KEPT).delete()[0]
