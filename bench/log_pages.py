"""How the send log's speed depends on what is in the tables: one line of JSON.

    python bench/log_pages.py [--sizes 50000,1000000] [--rounds 15] [--database URL]

For each size a throw-away PostgreSQL is filled by bench/generate_history.py (50 tenants, 30 days), then pages are asked for
as a browser does, through the whole application, by members of three tenants: the first page within the default window of
seven days, and each filter of it, common and rare values alike. Every page is asked for once before it is measured.

- p95_ms     95th percentile of a page's time, by size and filter
- ratio      p95 with the largest size ÷ p95 with the smallest, by filter; `worst_ratio` over all of them
- most_queries    the most queries that a page issued
- counted_per_s   events made into counters a second, where every quarter of an hour holds few of them

With --database only that database is measured, which must hold a generated history.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


TURNS = 3


def main() -> int:
    options = read_options()
    if options.database:
        one = measured(options.database, options.rounds)
        print(json.dumps({"p95_ms": percentiles(one["times_ms"]), "most_queries": one["most_queries"]}))
        return 0
    sizes = [int(size) for size in options.sizes.split(",")]
    found: dict[int, dict[str, Any]] = {}
    generated: dict[int, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="log-pages-", dir="/tmp") as folder:
        Path(folder).chmod(0o711)
        url = start_postgres(Path(folder))
        databases = {size: make_database(url, f"history_{size}") for size in sizes}
        for size, database in databases.items():
            arguments = ["bench/generate_history.py", "--recipients", str(size), "--count", *options.more]
            generated[size] = json.loads(run(arguments, database))
        # In turn, so that whatever else the machine does meets all sizes alike.
        for _turn in range(TURNS):
            for size, database in databases.items():
                add_up(found.setdefault(size, {}), measured(database, -(-options.rounds // TURNS)))
    p95 = {size: percentiles(one["times_ms"]) for size, one in found.items()}
    smallest, largest = p95[sizes[0]], p95[sizes[-1]]
    ratio = {name: round(largest[name] / smallest[name], 2) for name in smallest}
    print(
        json.dumps(
            {
                "sizes": sizes,
                "worst_ratio": max(ratio.values()),
                "ratio": ratio,
                "p95_ms": p95,
                "most_queries": max(one["most_queries"] for one in found.values()),
                "counted_per_s": generated[sizes[-1]]["counted_per_s"],
            }
        )
    )
    return 0


def add_up(whole: dict[str, Any], part: dict[str, Any]) -> None:
    whole["most_queries"] = max(whole.get("most_queries", 0), part["most_queries"])
    for name, times in part["times_ms"].items():
        whole.setdefault("times_ms", {}).setdefault(name, []).extend(times)


def percentiles(times: dict[str, list[float]]) -> dict[str, float]:
    return {name: round(statistics.quantiles(found, n=20)[-1], 1) for name, found in times.items()}


def start_postgres(folder: Path) -> str:
    from relayweb.processes import throwaway

    throwaway.ensure_running("postgres", folder, owner_pid=os.getpid())
    return throwaway.service("postgres", folder).url()


def make_database(url: str, name: str) -> str:
    execute(url, f"CREATE DATABASE {name}")
    head, _, tail = url.partition("?")
    database = f"{head.rpartition('/')[0]}/{name}" + (f"?{tail}" if tail else "")
    run(["manage.py", "migrate", "--verbosity", "0"], database)
    return database


def execute(url: str, sql: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql)


def measured(database: str, rounds: int) -> dict[str, Any]:
    return dict(json.loads(run(["bench/log_pages.py", "--measure", "--rounds", str(rounds)], database)))


def run(command: list[str], database: str) -> str:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RELAY_")},
        "RELAY_PROFILE": "development",
        "RELAY_PART": "web",
        "RELAY_SECRET_KEY": secrets.token_hex(),
        "RELAY_DATABASE_URL": database,
        "RELAY_LOG_LEVEL": "ERROR",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


# ---------------------------------------------------------------- measuring, in a process with the database's settings


def measure(rounds: int) -> dict[str, Any]:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "relayweb.settings")
    import django

    django.setup()
    from django.conf import settings
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    from accounts.models import Membership, Role, Tenant, User

    settings.ALLOWED_HOSTS = ["*"]
    reader, _ = User.objects.get_or_create(email="reader@history.example", defaults={"name": "Reader"})
    readers = []
    for number in (3, 17, 42):
        tenant = Tenant.objects.get(slug=f"history-{number}")
        Membership.objects.get_or_create(tenant=tenant, user=reader, defaults={"role": Role.OWNER})
        readers.append(tenant)
    client = Client(headers={"accept-language": "ja"})
    client.force_login(reader)
    times: dict[str, list[float]] = {}
    most_queries = 0
    for tenant in readers:
        for name, path in pages_of(tenant).items():
            with CaptureQueriesContext(connection) as captured:
                answer = client.get(path)
            assert answer.status_code == 200, (path, answer.status_code)
            assert b"takes too long" not in answer.content and "かかりすぎ".encode() not in answer.content, path
            most_queries = max(most_queries, len(captured))
            for _ in range(rounds):
                began = time.perf_counter()
                client.get(path)
                times.setdefault(name, []).append((time.perf_counter() - began) * 1000)
    return {"times_ms": times, "most_queries": most_queries}


def pages_of(tenant: Any) -> dict[str, str]:
    from datetime import timedelta

    from django.utils import timezone

    from accounts.models import Credential
    from delivery.models import Message, Recipient, Stream

    log = f"/t/{tenant.slug}/messages/"
    recipient = Recipient.objects.of(tenant).order_by("-id")[20]
    message = Message.objects.of(tenant).order_by("-id")[20]
    older = Recipient.objects.of(tenant).order_by("-id")[150].id
    credentials = dict(Credential.objects.of(tenant).values_list("name", "id"))
    stream = Stream.objects.of(tenant).get(name="bulk").id
    month = {"since": (timezone.now() - timedelta(days=37)).strftime("%Y-%m-%dT%H:%M:%SZ")}
    queries: dict[str, dict[str, Any]] = {
        "first page": {},
        "next page": {"before": older},
        "24 hours": {"days": 1},
        "state": {"state": "bounced"},
        "state rare": {"state": "cancelled"},
        "class": {"class": "bad_mailbox"},
        "class rare": {"class": "content"},
        "returned": {"returned": 1},
        "ambiguous": {"ambiguous": 1},
        "complained": {"complained": 1},
        "attempts": {"attempts": 3},
        "recipient": {"recipient": recipient.address},
        "recipient domain": {"recipient": "d77.example"},
        "part of an address": {"recipient": "user1234"},
        "provider": {"provider": "docomo"},
        "provider rare": {"provider": "rare"},
        "other providers": {"provider": "other"},
        "author": {"author": message.author},
        "author nobody": {"author": f"nobody@{message.author_domain}"},
        "subject": {"subject": "ご注文"},
        "subject rare": {"subject": "棚卸し"},
        "subject two words": {"subject": "請求書 11月"},
        "tag": {"tag": "order"},
        "tag rare": {"tag": "campaign-x"},
        "credential": {"credential": credentials["shop"]},
        "credential rare": {"credential": credentials["news"]},
        "stream": {"stream": stream},
        "Message-ID": {"message_id": message.header_message_id},
        "several": {"state": "bounced", "provider": "docomo", "stream": stream, "subject": "お知らせ"},
    }
    pages = {name: f"{log}?{urlencode(query)}" for name, query in queries.items()}
    pages["search older"] = f"{log}?{urlencode({**month, 'state': 'cancelled'})}"
    pages["overview"] = f"/t/{tenant.slug}/?days=30"
    pages["statistics"] = f"/t/{tenant.slug}/statistics/?days=30"
    return pages


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="50000,1000000", help="numbers of recipients, the smallest first")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--database", help="measure this one only")
    parser.add_argument("--without-events", dest="more", action="store_const", const=["--without-events"], default=[])
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    if "--measure" in sys.argv:
        print(json.dumps(measure(read_options().rounds)))
        sys.exit(0)
    sys.exit(main())
