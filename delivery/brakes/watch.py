"""Watched credentials: what became of their recipients is judged before more may go out.

Run by every engine a few times a second while something of a watched credential is in flight; whoever has a credential's row
judges it, others leave it alone. Everything is read from the tables: a worker that dies has forgotten nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection, models, transaction
from django.utils import timezone

from delivery.brakes import evidence, levels, pulling
from delivery.brakes.gate import FIRST_RESULTS, IN_FLIGHT_OF_OTHERS
from delivery.brakes.levels import UNKNOWN_CLASSES, Count, Finding, Level, Step
from delivery.brakes.pulling import Owner
from delivery.models import Brake, CredentialStanding
from delivery.queue import claim, enqueue, wake

_AT_ONCE = 2000


@dataclass(frozen=True, slots=True)
class Judged:
    """``waiting``: recipients that have no answer yet."""

    credentials: int
    waiting: int
    pulled: int


def judge() -> Judged:
    """Look at every credential that has something in flight or put aside."""
    credentials = _concerned()
    pulled = sum(_judge_one(credential_id) for credential_id in credentials)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM (SELECT 1 FROM delivery_unjudged LIMIT 10000) AS flight")
        return Judged(len(credentials), cursor.fetchone()[0], pulled)


def _concerned() -> list[UUID]:
    """What is put aside of credentials is found by an index that holds nothing else."""
    sql = f"""SELECT DISTINCT credential_id FROM delivery_unjudged
              UNION SELECT DISTINCT credential_id FROM delivery_queue_entry WHERE held_reason = '{FIRST_RESULTS}'"""
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return [row[0] for row in cursor.fetchall()]


def _judge_one(credential_id: UUID) -> bool:
    """True where a brake was pulled."""
    with transaction.atomic():
        standing = (
            CredentialStanding.objects.select_for_update(skip_locked=True, of=("self",))
            .select_related("tenant")
            .filter(pk=credential_id)
            .first()
        )
        if standing is None:
            return False
        _count(standing)
        level = pulling.level_of(standing.tenant)
        finding = None if standing.established_at else _finding(standing, level)
        if finding is not None:
            return _pull(standing, finding)
        together = None if standing.established_at else _finding_together(standing, level)
        if together is not None:
            return _pull(standing, *together)
        if standing.established_at is None and _is_established(standing, level):
            standing.established_at = standing.last_seen_at = timezone.now()
        elif standing.judged >= 2 * levels.established_after():
            # What was long ago must not hide what comes now.
            for name in ("accepted", "bounced", "unknown", "deferred"):
                setattr(standing, name, getattr(standing, name) // 2)
        standing.save()
        is_free = standing.established_at is not None or level is Level.NONE
        _let_go(standing, None if is_free else level)
    return False


def _count(standing: CredentialStanding) -> None:
    """Take those out of flight that have an answer, or that were given back before they had one."""
    with connection.cursor() as cursor:
        cursor.execute(_TAKE, {"credential": standing.pk})
        found = Counter({(state, reply_class): number for state, reply_class, number in cursor.fetchall()})
    for (state, reply_class), number in found.items():
        match state:
            case "delivered":
                standing.accepted += number
            case "bounced":
                standing.bounced += number
                if reply_class in UNKNOWN_CLASSES:
                    standing.unknown += number
            case "deferred" | "expired":
                standing.deferred += number


# Keys carry their time: bounds let the planner skip the other days.
_TAKE = """
WITH bounds AS MATERIALIZED (
    SELECT min(recipient_id::text)::uuid AS lowest, max(recipient_id::text)::uuid AS highest
    FROM delivery_unjudged WHERE credential_id = %(credential)s
), answered AS MATERIALIZED (
    SELECT flight.recipient_id,
           CASE WHEN recipient.attempts >= flight.number OR entry.recipient_id IS NULL THEN recipient.state
                ELSE 'untried' END AS state,
           recipient.reply_class
    FROM delivery_unjudged AS flight
    LEFT JOIN delivery_recipient AS recipient ON recipient.id = flight.recipient_id
         AND recipient.id BETWEEN (SELECT lowest FROM bounds) AND (SELECT highest FROM bounds)
    LEFT JOIN delivery_queue_entry AS entry ON entry.recipient_id = flight.recipient_id
    WHERE flight.credential_id = %(credential)s
      AND (entry.recipient_id IS NULL OR recipient.attempts >= flight.number
           OR (entry.path_id IS NULL AND entry.attempts < flight.number))
), gone AS (
    DELETE FROM delivery_unjudged AS flight USING answered WHERE flight.recipient_id = answered.recipient_id
)
SELECT state, reply_class, count(*) FROM answered GROUP BY state, reply_class
"""


def _counts(standing: CredentialStanding, counted: str) -> Count:
    return Count(standing.unknown if counted == "unknown" else standing.bounced, standing.judged)


def _finding(standing: CredentialStanding, level: Level) -> Finding | None:
    found = (levels.judge(rule, _counts(standing, rule.counts), level=level) for rule in levels.rules("watched"))
    return next((finding for finding in found if finding is not None), None)


def _finding_together(standing: CredentialStanding, level: Level) -> tuple[Finding, int] | None:
    """What no credential shows that has sent little: all watched ones of the tenant as one, and how many they are.

    Only for one that has reached the share itself; a clean one is not stopped for its neighbours.
    """
    others = CredentialStanding.objects.filter(
        tenant=standing.tenant, established_at=None, last_seen_at__gt=timezone.now() - levels.quiet_after()
    ).exclude(pk=standing.pk)
    sums = others.aggregate(
        number=models.Count("pk"),
        accepted=models.Sum("accepted"),
        bounced=models.Sum("bounced"),
        unknown=models.Sum("unknown"),
    )
    if not sums["number"]:
        return None
    for rule in levels.rules("watched"):
        own = _counts(standing, rule.counts)
        bad = "unknown" if rule.counts == "unknown" else "bounced"
        count = Count(own.bad + sums[bad], own.total + sums["accepted"] + sums["bounced"])
        finding = levels.judge(rule, count, level=level)
        if finding is not None and own.bad and levels.share_of(own) >= finding.threshold:
            return finding, sums["number"] + 1
    return None


def _is_established(standing: CredentialStanding, level: Level) -> bool:
    return standing.judged >= levels.established_after() and not any(
        levels.is_half_met(rule, _counts(standing, rule.counts), level=level) for rule in levels.rules("watched")
    )


def _pull(standing: CredentialStanding, finding: Finding, credentials: int = 1) -> bool:
    owner = Owner(standing.tenant, standing.pk)
    told: dict[str, Any] = evidence.of(owner, finding, since=standing.watched_since)
    told["attempted"] = standing.judged + standing.deferred
    if credentials > 1:
        told["credentials"] = credentials
    is_pulled = pulling.pull(owner, rule=finding.rule.name, step=finding.step, evidence=told) is not None
    if is_pulled and _stopped_credentials(standing) >= levels.strikes():
        told.pop("attempted")
        tenant = Owner(standing.tenant)
        pulling.pull(tenant, rule=finding.rule.name, step=Step.HOLD, evidence=told)
    return is_pulled


def _stopped_credentials(standing: CredentialStanding) -> int:
    rules = [rule.name for rule in levels.rules("watched")]
    found = Brake.objects.filter(tenant=standing.tenant, rule__in=rules, ended_at=None).exclude(credential_id=None)
    return found.values("credential_id").distinct().count()


def _let_go(standing: CredentialStanding, level: Level | None) -> None:
    """As many of those put aside, the oldest first, as there is room for in flight; None: some at a time, all in the end."""
    most = _AT_ONCE
    with connection.cursor() as cursor:
        if level is not None:
            cursor.execute("SELECT count(*) FROM delivery_unjudged WHERE credential_id = %s", [standing.pk])
            own = cursor.fetchone()[0]
            cursor.execute(IN_FLIGHT_OF_OTHERS, {"tenant": standing.tenant_id, "credential": standing.pk})
            most = levels.room(level, own=own, others=cursor.fetchone()[0])
            if not most:
                return
        lanes = claim.let_go(cursor, credential_id=standing.pk, reason=FIRST_RESULTS, most=most)
        if lanes:
            cursor.execute(enqueue.MARK_DUE, {"lanes": lanes})
            cursor.execute(wake.RING, [wake.LANES])
