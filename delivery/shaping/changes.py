"""Why the pace of a path was changed and when: written by whoever changes it, the last ones of each path kept for a while.

Bounded in the same transaction that writes: a receiver that throttles every few seconds for a month fills no table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
from django.utils import timezone

from delivery.models import Path, PathChange, ProviderGroup, SourceAddress

KEPT_OF_A_PATH = 50
KEPT = timedelta(days=90)
# Reasons that are nobody's rule.
RELEASED, BY_HAND = "released", "operator"

_INSERT = """INSERT INTO delivery_path_change
                 (path_id, at, share_before, share_after, suspended_until, reason, reply)
             SELECT id, %s, %s, %s, %s, %s, %s FROM delivery_path WHERE id = %s"""
_TRIM = """DELETE FROM delivery_path_change WHERE path_id = %s AND id <= (
               SELECT id FROM delivery_path_change WHERE path_id = %s ORDER BY id DESC OFFSET %s LIMIT 1)"""


@dataclass(frozen=True, slots=True)
class Change:
    at: datetime
    share_before: float
    share_after: float
    reason: str
    reply: str = ""
    suspended_until: datetime | None = None


async def write(connection: psycopg.AsyncConnection[Any], path_id: int, found: Iterable[Change]) -> None:
    """The engine's side, on its own connection."""
    for one in found:
        await connection.execute(
            _INSERT,
            [
                one.at,
                one.share_before,
                one.share_after,
                one.suspended_until,
                one.reason[:200],
                one.reply[:500],
                path_id,
            ],
        )
    await connection.execute(_TRIM, [path_id, path_id, KEPT_OF_A_PATH])


def write_by_hand(paths: Iterable[Path], *, reason: str, until: datetime | None = None) -> None:
    """What an operator does to these paths, as they were before: released, or with ``until`` suspended."""
    PathChange.objects.bulk_create(
        PathChange(
            path=path,
            share_before=path.pace_share,
            share_after=path.pace_share if until else 1.0,
            suspended_until=until,
            reason=reason,
        )
        for path in paths
    )


def of_path(source: SourceAddress, group: ProviderGroup, *, most: int = 20) -> list[PathChange]:
    """The latest first."""
    return list(PathChange.objects.filter(path__source=source, path__group=group).order_by("-id")[:most])


def forget_old(*, now: datetime | None = None) -> int:
    gone, _by_table = PathChange.objects.filter(at__lt=(now or timezone.now()) - KEPT).delete()
    return gone
