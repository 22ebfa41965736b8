"""What time it is, by the database's clock where this machine's own is wrong.

The queue and its leases go by the clock of the database. Whoever decides when something is tried again or has expired must
not go by another: on a machine whose clock was set back an hour, everything would be due again at once. The difference is
measured now and then (``learn``) and carried on by the time since boot, which no step of a clock changes. While both agree
within ``TOLERATED`` the machine's own is used, which is the finer one.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import structlog

log = structlog.get_logger(__name__)

TOLERATED = timedelta(seconds=2)

# What the database said, and when since boot; None until it was first asked.
_known: tuple[datetime, float] | None = None
_is_wrong = False


def now() -> datetime:
    own = datetime.now(tz=UTC)
    if _known is None:
        return own
    said, at = _known
    of_database = said + timedelta(seconds=_since_boot() - at)
    return own if abs(own - of_database) < TOLERATED else of_database


async def learn(connection: psycopg.AsyncConnection[Any]) -> None:
    """Ask the database. Raises its errors."""
    global _known, _is_wrong
    before = _since_boot()
    row = await (await connection.execute("SELECT clock_timestamp()")).fetchone()
    after = _since_boot()
    assert row is not None
    if after - before > TOLERATED.total_seconds() / 2:
        return  # too slow an answer to tell the time by
    _known = row[0], (before + after) / 2
    difference = abs(datetime.now(tz=UTC) - now())
    if (is_wrong := difference >= TOLERATED) != _is_wrong:
        _is_wrong = is_wrong
        log.log(
            30 if is_wrong else 20,
            "clock_is_wrong" if is_wrong else "clock_is_right",
            off_by_s=difference.total_seconds(),
        )


def forget() -> None:
    """As after a start: the machine's own clock is all there is."""
    global _known, _is_wrong
    _known, _is_wrong = None, False


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
