"""What claiming a recipient costs with 1,000,000 of them queued and with 10,000: the engine's own claimer on two databases.

    .venv/bin/python bench/claim_cost.py [--sizes 10000,1000000] [--rounds 300]

Each database of a throw-away PostgreSQL is filled by SQL: messages of a hundred recipients each from 20 tenants to five
provider groups, all of them due, in 100 lanes. Five paths claim at once, each five entries from each of its 20 lanes, so 500 at a
time, with what an attempt must know of them: the recipient, the envelope, the content. Afterwards the entries go back to the
end of their lanes, which is not measured, and the size stays. The databases are measured in turn, so that whatever else the
machine does meets both alike; the cost is the middle one of all rounds. It may be at most 1.2 times as high in the largest.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from log_pages import execute, make_database, start_postgres

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.support import surroundings
from bench.support.surroundings import percentile, say

if TYPE_CHECKING:
    from psycopg_pool import AsyncConnectionPool

    from delivery.engine.claimer import Claimed, Claimer
    from delivery.engine.contents import ContentShelf
    from delivery.queue.claim import Ask

_TENANTS, _GROUPS, _FROM_EACH_LANE = 20, 5, 5
_PER_MESSAGE = 100
_CONTENT = (
    b"Subject: To all\r\n\r\n" + b"A relay is trusted for what it does with the mail that it cannot deliver.\r\n" * 50
)
_WARMING_ROUNDS = 20
_GOAL = 1.2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sizes", default="10000,1000000", help="recipients queued, the smallest first")
    parser.add_argument("--rounds", type=int, default=300, help="claims of 500 on each database")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    least = 2 * _TENANTS * _GROUPS * _FROM_EACH_LANE
    if min(sizes) < least:
        parser.error(f"a size is at least {least}, twice what is claimed at once")
    with surroundings.folder("claim-cost") as folder:
        url = start_postgres(folder)
        databases = {size: make_database(url, f"queue_{size}") for size in sizes}
        for size, database in databases.items():
            began = time.monotonic()
            _fill(database, size)
            say(f"{size} queued in {time.monotonic() - began:.0f} s")
        cost_us = asyncio.run(_measure(databases, options.rounds))
        middle = {size: round(median(costs), 2) for size, costs in cost_us.items()}
        ratio = middle[sizes[-1]] / middle[sizes[0]]
        surroundings.report(
            "claim_cost",
            sizes=sizes,
            rounds=options.rounds,
            us_per_recipient=middle,
            p95_us_per_recipient={size: round(percentile(costs, 0.95), 2) for size, costs in cost_us.items()},
            ratio=round(ratio, 3),
            goal=_GOAL,
            is_met=ratio <= _GOAL,
            postgresql=surroundings.durability(url),
        )
    return 0 if ratio <= _GOAL else 1


def _set_up_django(database: str) -> None:
    os.environ.update(
        {
            "RELAY_PROFILE": "development",
            "RELAY_PART": "command",
            "RELAY_SECRET_KEY": secrets.token_hex(),
            "RELAY_DATABASE_URL": database,
            "RELAY_LOG_LEVEL": "WARNING",
            "DJANGO_SETTINGS_MODULE": "relayweb.settings",
        }
    )
    import django

    django.setup()


def _fill(database: str, size: int) -> None:
    # In a process of its own, since Django knows one database.
    child = multiprocessing.get_context("fork").Process(target=_fill_here, args=(database, size))
    child.start()
    child.join()
    if child.exitcode != 0:
        raise SystemExit("the queue could not be filled")
    execute(database, "VACUUM (ANALYZE)")
    execute(database, "CHECKPOINT")


def _fill_here(database: str, size: int) -> None:
    import zstandard

    _set_up_django(database)
    from django.db import connection

    _make_lanes()
    parameters = {
        "size": size,
        "each": _PER_MESSAGE,
        "content": zstandard.ZstdCompressor().compress(_CONTENT),
        "octets": len(_CONTENT),
    }
    with connection.cursor() as cursor:
        for statement in (_SENT, _MESSAGES, _CONTENTS, _ADDRESSED, _RECIPIENTS, _ENTRIES):
            cursor.execute(statement, parameters)
        cursor.execute("UPDATE delivery_lane SET next_due_at = now()")


def _make_lanes() -> None:
    """Twenty tenants, five groups, a lane for each of both, and a path to each group that is ours for a day."""
    from datetime import timedelta

    from django.utils import timezone

    from accounts.models import Tenant
    from delivery import foundation
    from delivery.models import (
        DomainRoute,
        Lane,
        Node,
        ProviderGroup,
        SourceAddress,
        SourcePool,
        Stream,
    )
    from delivery.models import (
        Path as DeliveryPath,
    )

    pool = SourcePool.objects.get(name="default")
    source = SourceAddress.objects.create(node=Node.objects.create(name="bench"), ehlo_name="bench", pool=pool)
    groups = [ProviderGroup.objects.create(key=f"site:mx{n}", kind="site", title=f"mx{n}") for n in range(_GROUPS)]
    for group in groups:
        DomainRoute.objects.create(domain=f"{group.title}.example", group=group)
        until = timezone.now() + timedelta(days=1)
        DeliveryPath.objects.create(source=source, group=group, owner="bench", fence=1, leased_until=until)
    for number in range(_TENANTS):
        tenant = Tenant.objects.create(slug=f"bench-{number:02}", name=f"Bench {number}")
        foundation.give_streams(tenant)
        stream = Stream.objects.get(tenant=tenant, is_default=True)
        Lane.objects.bulk_create(Lane(pool=pool, group=group, tenant=tenant, stream=stream) for group in groups)


# Keys as uuid7 makes them, a tenth of a millisecond apart: neighbours in time are neighbours in the tables, as in life.
_KEY = """(lpad(to_hex((extract(epoch FROM now() - (%(size)s - number) * interval '0.1 ms') * 1000)::bigint), 12, '0')
          || '7' || lpad(to_hex(number %% 4096), 3, '0')
          || '8' || lpad(to_hex(number), 15, '0'))::uuid"""
_SENT = f"""
CREATE TEMPORARY TABLE sent AS SELECT number AS first, {_KEY} AS id, tenant.id AS tenant_id, stream.id AS stream_id
FROM generate_series(0, %(size)s - 1, %(each)s) AS number
JOIN (SELECT id, row_number() OVER (ORDER BY slug) - 1 AS place FROM accounts_tenant WHERE slug LIKE 'bench-%%') AS tenant
  ON tenant.place = number / %(each)s %% {_TENANTS}
JOIN delivery_stream AS stream ON stream.tenant_id = tenant.id AND stream.is_default
"""
_MESSAGES = """
INSERT INTO delivery_message (id, tenant_id, stream_id, accepted_at, expires_at, reverse_path, author, author_domain, subject,
    header_message_id, size_bytes, recipient_count, body_type, needs_smtputf8, dsn_ret, dsn_envid, protocol, peer_ehlo, is_test,
    tags, metadata, retention_days)
SELECT id, tenant_id, stream_id, now(), now() + interval '5 d', 'news@bench.example', 'news@bench.example', 'bench.example',
       'To all', '<' || first || '@bench.example>', %(octets)s, %(each)s, '7BIT', false, '', '', 'ESMTPSA', 'app', false,
       '{}', '{}', 7 FROM sent
"""
_CONTENTS = "INSERT INTO delivery_content (message_id, retention_days, compressed) SELECT id, 7, %(content)s FROM sent"
_ADDRESSED = f"""
CREATE TEMPORARY TABLE addressed AS
SELECT number, {_KEY} AS id, sent.id AS message_id, sent.tenant_id, sent.stream_id, route.id AS route_id, route.group_id,
       route.domain, now() - (%(size)s - number) * interval '0.1 ms' AS accepted_at
FROM generate_series(0, %(size)s - 1) AS number JOIN sent ON sent.first = number - number %% %(each)s
JOIN (SELECT *, row_number() OVER (ORDER BY domain) - 1 AS place FROM delivery_domainroute) AS route
  ON route.place = number %% {_GROUPS}
"""
_RECIPIENTS = """
INSERT INTO delivery_recipient (id, message_id, tenant_id, address, domain, group_id, state, state_since, reason, attempts, phase,
    reply, reply_class, action, scope, rule, host, has_ambiguous_attempt, returned_class, dsn_orcpt)
SELECT id, message_id, tenant_id, 'r' || number || '@' || domain, domain, group_id, 'queued', accepted_at, '', 0, '', '', '', '',
       '', '', '', false, '', '' FROM addressed
"""
_ENTRIES = """
INSERT INTO delivery_queue_entry (recipient_id, message_id, tenant_id, lane_id, domain_route_id, accepted_at, next_attempt_at,
                                  attempts, losses)
SELECT addressed.id, message_id, addressed.tenant_id, lane.id, route_id, accepted_at, accepted_at, 0, 0
FROM addressed JOIN delivery_lane AS lane
  ON lane.group_id = addressed.group_id AND lane.tenant_id = addressed.tenant_id AND lane.stream_id = addressed.stream_id
ORDER BY number
"""
_BACK_TO_THE_END = """
UPDATE delivery_queue_entry SET path_id = NULL, fence = NULL, claimed_at = NULL, attempts = 0, next_attempt_at = now()
WHERE recipient_id = ANY(%s)
"""


# ---------------------------------------------------------------- measuring


class _Engine:
    """The parts of one that claim, on a database of their own."""

    pool: AsyncConnectionPool[Any]
    claimer: Claimer
    contents: ContentShelf
    asks: Sequence[Ask]

    async def open(self, database: str) -> None:
        from django.conf import settings

        from accounts.database import pool
        from delivery.engine.claimer import Claimer
        from delivery.engine.committer import EngineCommitter
        from delivery.engine.contents import ContentShelf
        from delivery.queue.claim import Ask, Want

        name = database.partition("?")[0].rpartition("/")[2]
        settings.DATABASES["default"]["NAME"] = name
        self.pool = pool(max_size=6, min_size=2, name=name)
        await self.pool.open(wait=True)
        self.contents = ContentShelf(self.pool)
        self.claimer = Claimer(self.pool, EngineCommitter(), self.contents)
        sql = """SELECT path.id, path.fence, array_agg(lane.id) FROM delivery_path AS path
                 JOIN delivery_lane AS lane ON lane.group_id = path.group_id GROUP BY path.id"""
        async with self.pool.connection() as connection:
            rows = await (await connection.execute(sql)).fetchall()
        self.asks = [
            Ask(path_id, fence, tuple(Want(lane_id, _FROM_EACH_LANE) for lane_id in lane_ids), most_losses=1)
            for path_id, fence, lane_ids in rows
        ]

    async def round_us(self) -> float:
        """Microseconds for each recipient of one claim of all paths."""
        began = time.perf_counter()
        claimed = await asyncio.gather(*(self.claimer.claim(ask) for ask in self.asks))
        spent_s = time.perf_counter() - began
        entries = [entry for one in claimed for entry in one.entries]
        _check(claimed, wanted=_TENANTS * _FROM_EACH_LANE)
        for one in claimed:
            for assignment in one.known.values():
                async with self.contents.hold(assignment.content):
                    pass
        async with self.pool.connection() as connection:
            await connection.execute(_BACK_TO_THE_END, [[entry.recipient_id for entry in entries]])
        return spent_s * 1e6 / len(entries)


def _check(claimed: Sequence[Claimed], *, wanted: int) -> None:
    for one in claimed:
        if one.error is not None:
            raise one.error
        assert len(one.entries) == len(one.known) == wanted, f"{len(one.entries)} of {wanted} were claimed"


async def _measure(databases: dict[int, str], rounds: int) -> dict[int, list[float]]:
    _set_up_django(next(iter(databases.values())))
    engines = {size: _Engine() for size in databases}
    for size, engine in engines.items():
        await engine.open(databases[size])
    costs: dict[int, list[float]] = {size: [] for size in databases}
    for number in range(_WARMING_ROUNDS + rounds):
        for size, engine in engines.items():
            cost = await engine.round_us()
            if number >= _WARMING_ROUNDS:
                costs[size].append(cost)
    for engine in engines.values():
        await engine.claimer.stop()
        await engine.pool.close()
    return costs


if __name__ == "__main__":
    sys.exit(main())
