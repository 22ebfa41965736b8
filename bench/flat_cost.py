"""Whether mail costs the same however much there is in the tables: one line of JSON.

    python bench/flat_cost.py [--sizes 100000,1000000] [--rounds 9] [--without-events]
    python bench/flat_cost.py --databases URL,URL        # that hold a generated history; the first is the yardstick

Each size has a database of a throw-away PostgreSQL, filled by bench/generate_history.py (50 tenants, 30 days). In turn, so that
whatever else the machine does meets all alike, mail of 4 KB is accepted by the store of a gate (20 waiting at a time), then
claimed, handed to a host on loopback and settled by an engine; pages are asked for as in log_pages.py. At the end a day's
partition of each large table is dropped while nothing else happens. The PostgreSQL gives durability up: only the proportion
is of interest.

- accept_ms, deliver_ms   the middle of all rounds, of a mail; `ratio` to the first, at most 1.2
- pages                   p95 ÷ p95 of the first, the first page and the statistics, at most 2
- drop_s                  the longest of the tables, at most 1
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from log_pages import add_up, make_database, percentiles, run, start_postgres

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

_MAILS = 200
_AT_ONCE = 20
_TURNS = 3
_PAGES = ("first page", "state", "credential", "statistics")
_DROPPED = ("delivery_message", "delivery_recipient", "delivery_event")
_BODY = "".join(f"{secrets.token_hex(32)}\r\n" for _ in range(60))


def main() -> int:
    options = read_options()
    with tempfile.TemporaryDirectory(prefix="flat-cost-", dir="/tmp") as folder:
        Path(folder).chmod(0o711)
        databases = named(options.databases) if options.databases else filled(Path(folder), options)
        costs: dict[str, dict[str, list[float]]] = {name: {"accept": [], "deliver": []} for name in databases}
        pages: dict[str, dict[str, Any]] = {name: {} for name in databases}
        for _turn in range(_TURNS):
            for name, database in databases.items():
                cost = in_a_process(database, "--measure", str(-(-options.rounds // _TURNS)))
                for kind, times in cost.items():
                    costs[name][kind] += times
                add_up(pages[name], json.loads(run(["bench/log_pages.py", "--measure", "--rounds", "5"], database)))
        dropped = {name: in_a_process(database, "--drop", "1") for name, database in databases.items()}
    print(json.dumps(result(costs, pages, dropped)))
    return 0


def result(
    costs: dict[str, dict[str, list[float]]], pages: dict[str, dict[str, Any]], dropped: dict[str, dict[str, float]]
) -> dict[str, Any]:
    first, *_, last = costs
    p95 = {name: percentiles(one["times_ms"]) for name, one in pages.items()}
    return {
        **{f"{kind}_ms": {name: round(median(one[kind]), 2) for name, one in costs.items()} for kind in costs[first]},
        "ratio": {kind: round(median(costs[last][kind]) / median(costs[first][kind]), 2) for kind in costs[first]},
        "pages": {page: round(p95[last][page] / p95[first][page], 2) for page in _PAGES},
        "pages_p95_ms": {name: {page: one[page] for page in _PAGES} for name, one in p95.items()},
        "drop_s": {name: max(one.values()) for name, one in dropped.items()},
    }


def named(urls: str) -> dict[str, str]:
    return {f"{number}: {url.rpartition('/')[2].partition('?')[0]}": url for number, url in enumerate(urls.split(","))}


def filled(folder: Path, options: argparse.Namespace) -> dict[str, str]:
    url = start_postgres(folder)
    databases = {size: make_database(url, f"history_{size}") for size in options.sizes.split(",")}
    for size, database in databases.items():
        run(["bench/generate_history.py", "--recipients", size, "--count", *options.more], database)
    return databases


def in_a_process(database: str, *words: str) -> dict[str, Any]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RELAY_")},
        "RELAY_PROFILE": "development",
        "RELAY_TEST_PROFILE": "1",
        "RELAY_PART": "command",
        "RELAY_NODE": "node1",
        "RELAY_SECRET_KEY": secrets.token_hex(),
        "RELAY_DATABASE_URL": database,
        "RELAY_ENCRYPTION_KEYS": f"bench:{base64.b64encode(secrets.token_bytes(32)).decode()}",
        "RELAY_BROKER_URL": "redis+socket:///nonexistent",
        "RELAY_ALLOW_DESTINATIONS": "127.0.0.0/8",
        "RELAY_LOG_LEVEL": "ERROR",
        "DJANGO_SETTINGS_MODULE": "relayweb.settings",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "bench/flat_cost.py", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


# ---------------------------------------------------------------- in a process with the database's settings


def measure(rounds: int) -> dict[str, list[float]]:
    import django

    django.setup()
    import uvloop

    return uvloop.run(_measure(rounds))


async def _measure(rounds: int) -> dict[str, list[float]]:
    from tests.support.engine_room import HOST, Room, in_thread, mail
    from tests.support.smtp_peer import SmtpPeer

    world = await in_thread(_world)
    found: dict[str, list[float]] = {"accept": [], "deliver": []}
    content = mail(author="shop@history1.example", body=_BODY)
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port):
        for number in range(rounds + 1):
            slots = asyncio.Semaphore(_AT_ONCE)

            async def send(recipient: str, slots: asyncio.Semaphore = slots) -> None:
                async with slots:
                    await room.send(
                        recipient,
                        principal=next(iter(world.principals.values())),
                        content=content,
                        reverse_path="shop@history1.example",
                    )

            began = time.perf_counter()
            await asyncio.gather(*(send(f"r{position}@far.test") for position in range(_MAILS)))
            accepted = time.perf_counter()
            async with room.engine():
                await room.until("SELECT NOT EXISTS (SELECT 1 FROM delivery_queue_entry)", seconds=120)
                settled = time.perf_counter()
            if number:  # the first one warms
                found["accept"].append((accepted - began) * 1000 / _MAILS)
                found["deliver"].append((settled - accepted) * 1000 / _MAILS)
    return found


def _world() -> Any:
    from accounts.models import Tenant
    from delivery.models import Node, SendingDomain, SourceAddress, SourcePool
    from delivery.tenants import principal_of
    from tests.support.engine_room import World

    tenant = Tenant.objects.get(slug="history-1")
    SendingDomain.objects.get_or_create(
        tenant=tenant, name="history1.example", defaults={"state": "verified", "ownership_token": "-"}
    )
    node, _ = Node.objects.get_or_create(name="node1")
    source, _ = SourceAddress.objects.get_or_create(
        node=node,
        address=None,
        defaults={"ehlo_name": "out.relay.test", "pool": SourcePool.objects.get(name="default")},
    )
    return World(None, source, 0, {tenant.id: principal_of(tenant)})  # type: ignore[arg-type]


def drop() -> dict[str, float]:
    """Seconds, of the fullest day that is over; partitions are dropped as housekeeping does."""
    import django

    django.setup()
    from django.db import connection

    found = {}
    for table in _DROPPED:
        with connection.cursor() as cursor:
            cursor.execute(
                """SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                   WHERE i.inhparent = %s::regclass AND c.relname ~ '_p[0-9]+$' ORDER BY c.reltuples DESC, 1 LIMIT 1""",
                [table],
            )
            (name,) = cursor.fetchone()
            began = time.perf_counter()
            cursor.execute(f'DROP TABLE "{name}"')
        found[table] = round(time.perf_counter() - began, 3)
    return found


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="100000,1000000", help="numbers of recipients, the smallest first")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--databases", help="measure these, the smallest first; a day of each is dropped")
    parser.add_argument("--without-events", dest="more", action="store_const", const=["--without-events"], default=[])
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--drop", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    chosen = read_options()
    if chosen.measure:
        print(json.dumps(measure(chosen.measure)))
    elif chosen.drop:
        print(json.dumps(drop()))
    else:
        sys.exit(main())
