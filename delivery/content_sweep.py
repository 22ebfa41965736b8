"""Objects follow their rows: what lost its row is deleted from the object store, and content moves in and out of it.

Whoever deletes rows has their objects deleted at once (`gone`). What that left, because the store was away or somebody died,
and what a commit that failed left behind, is found by comparing names with rows: the days whose time is over and the last
hours every hour, all days once a day. Nothing younger than an hour is touched, since content comes before its row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from django.conf import settings
from django.db import connection, transaction

from accounts.identifiers import first_of
from delivery import content_store
from delivery.content_store import Place, Stored, StoreTrouble

log = structlog.get_logger(__name__)

_LEFT_ALONE_FOR = timedelta(hours=1)
_LOOKED_BACK_AT = timedelta(hours=4)
_ALL_DAYS_AT_HOUR = 3  # UTC
_MOVED_AT_ONCE = 100
# The mover writes objects of old messages and the sweep deletes objects that no row points to: never at once.
_ADVISORY_LOCK = 0x72656C61_636F6E74

# The first octets of a row that points to an object: see content_store.
POINTS_ELSEWHERE = "substring(compressed for 4) = '\\x72776331' AND get_byte(compressed, 4) & 1 = 1"


def gone(places: Sequence[tuple[UUID, int]]) -> None:
    """Delete the objects of rows that were deleted, as (message, retention class). Never raises: the sweep comes after."""
    if not places or not content_store.is_used():
        return
    try:
        content_store.delete([Place(message_id, days).name for message_id, days in places])
    except StoreTrouble as error:
        log.warning("objects_not_deleted", count=len(places), error=str(error))


def sweep(*, now: datetime | None = None, all_days: bool | None = None) -> int:
    """Delete objects without a row; how many there were. Raises StoreTrouble.

    ``all_days``: also those in the middle of their time; by default once a day.
    """
    if not content_store.is_used():
        return 0
    moment = now or datetime.now(tz=UTC)
    everything = moment.hour == _ALL_DAYS_AT_HOUR if all_days is None else all_days
    deleted = 0
    for folder, days, day in _days():
        if everything or day + timedelta(days=days + 1) <= moment:
            deleted += _sweep_folder(folder, days, after=None, now=moment)
        elif day + timedelta(days=1) > moment - _LOOKED_BACK_AT:
            deleted += _sweep_folder(folder, days, after=first_of(moment - _LOOKED_BACK_AT), now=moment)
    return deleted


def _days() -> Iterator[tuple[str, int, datetime]]:
    """Every folder of a day in the store: its name, retention class, and day."""
    for kind in content_store.folders():
        if not kind.removeprefix("r").isdecimal():
            continue
        for folder in content_store.folders(kind):
            day = folder.rpartition("/")[2]
            if day.isdecimal() and len(day) == len("20261124"):
                yield folder, int(kind.removeprefix("r")), datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC)


def _sweep_folder(folder: str, days: int, *, after: UUID | None, now: datetime) -> int:
    deleted = 0
    newest = first_of(now - _LEFT_ALONE_FOR)
    for page in content_store.objects_in(folder, after=after):
        old = {
            one.message_id: one.name
            for one in page
            if one.message_id is not None and one.message_id < newest and one.written_at < now - _LEFT_ALONE_FOR
        }
        with _alone() as is_mine:
            if not is_mine:
                return deleted
            pointed_to = _pointed_to(list(old), days)
            orphans = [name for message_id, name in old.items() if message_id not in pointed_to]
            content_store.delete(orphans)
        deleted += len(orphans)
    return deleted


def _pointed_to(message_ids: list[UUID], days: int) -> set[UUID]:
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT message_id FROM delivery_content
                WHERE retention_days = %s AND message_id = ANY(%s) AND {POINTS_ELSEWHERE}""",
            [days, message_ids],
        )
        return {key for (key,) in cursor.fetchall()}


class _alone:
    """A transaction that holds the lock; False where somebody else has it."""

    def __enter__(self) -> bool:
        self._transaction = transaction.atomic()
        self._transaction.__enter__()
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_ADVISORY_LOCK])
            return bool(cursor.fetchone()[0])

    def __exit__(self, *error: object) -> None:
        self._transaction.__exit__(*error)  # type: ignore[arg-type]


# ---------------------------------------------------------------- moving


@dataclass(frozen=True, slots=True)
class Standing:
    """Contents and octets by where they stand."""

    in_database: int
    octets_in_database: int
    in_object_store: int
    sealed: int


def standing() -> Standing:
    """Reads every row's head: minutes where there are many millions."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT count(*) FILTER (WHERE NOT elsewhere), coalesce(sum(octets) FILTER (WHERE NOT elsewhere), 0),
                       count(*) FILTER (WHERE elsewhere), count(*) FILTER (WHERE sealed)
                FROM (SELECT {POINTS_ELSEWHERE} AS elsewhere, octet_length(compressed) AS octets,
                             substring(compressed for 4) = '\\x72776331' AND get_byte(compressed, 4) & 2 = 2 AS sealed
                      FROM delivery_content) AS content"""
        )
        return Standing(*map(int, cursor.fetchone()))


def move_to_object_store() -> Iterator[int]:
    """Content of at least RELAY_OBJECT_STORE_FROM_BYTES that stands in the database; after each step how many were moved.

    Each is there before its row says so, and whoever is interrupted begins again where he stopped. Raises StoreTrouble.
    """
    condition = f"NOT ({POINTS_ELSEWHERE}) AND octet_length(compressed) >= {int(settings.OBJECT_STORE_FROM_BYTES)}"
    for place in _places(condition):
        yield int(_move(place, to_object_store=True))


def move_to_database() -> Iterator[int]:
    """Everything back into its rows; the sweep deletes the objects afterwards. Raises StoreTrouble, ContentUnreadable."""
    for place in _places(POINTS_ELSEWHERE):
        yield int(_move(place, to_object_store=False))


def _move(place: Place, *, to_object_store: bool) -> bool:
    """False where the row went or was moved meanwhile."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_ADVISORY_LOCK])
        cursor.execute(
            "SELECT compressed FROM delivery_content WHERE message_id = %s AND retention_days = %s FOR UPDATE",
            [place.message_id, place.retention_days],
        )
        row = cursor.fetchone()
        if row is None:
            return False
        stored = Stored.read(bytes(row[0]))
        if stored.is_elsewhere == to_object_store:
            return False
        moved = content_store.put_now(place, stored) if to_object_store else content_store.fetch_now(place, stored)
        cursor.execute(
            "UPDATE delivery_content SET compressed = %s WHERE message_id = %s AND retention_days = %s",
            [moved.row(), place.message_id, place.retention_days],
        )
        return True


def _places(condition: str) -> Iterator[Place]:
    """In the order of the key, a page at a time."""
    last = (-1, UUID(int=0))
    while True:
        with connection.cursor() as cursor:
            cursor.execute(
                f"""SELECT retention_days, message_id FROM delivery_content
                    WHERE (retention_days, message_id) > (%s, %s) AND {condition}
                    ORDER BY retention_days, message_id LIMIT %s""",
                [*last, _MOVED_AT_ONCE],
            )
            page = cursor.fetchall()
        if not page:
            return
        for days, message_id in page:
            yield Place(message_id, days)
        last = page[-1]
