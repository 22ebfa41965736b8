"""Fills a database with the history of many tenants, straight into the tables by COPY.

    python bench/generate_history.py [--recipients 5000000] [--tenants 50] [--days 30] [--without-events] [--seed 1]

Writes into the database of RELAY_DATABASE_URL, whose migrations must have run. Tenants are called history-1, history-2, …;
if they exist already nothing is written. Nine tenths of the recipients were accepted by their servers; one in eight was put
off before, and some came back. Subjects are Japanese and English, senders, tags and providers are shared unevenly.

Prints one line of JSON. With events (their counters are then to be made by housekeeping, or with --count here) a
recipient costs about 1 KB on disk, without them 0.6 KB.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "relayweb.settings")

import django  # noqa: E402

django.setup()

from django.db import connection  # noqa: E402

from accounts.identifiers import uuid7, uuid7_at  # noqa: E402
from accounts.models import Credential, Tenant  # noqa: E402
from delivery import foundation, partitions  # noqa: E402
from delivery.models import ProviderGroup, Stream  # noqa: E402
from delivery.statistics import counting  # noqa: E402

PROVIDERS = {
    "google": 30,
    "microsoft": 18,
    "docomo": 14,
    "yahoo_japan": 12,
    "au": 9,
    "softbank": 8,
    "icloud": 4,
    "rare": 0.2,
}
MAIL_DOMAINS = {
    "google": "gmail.com",
    "microsoft": "outlook.com",
    "docomo": "docomo.ne.jp",
    "yahoo_japan": "yahoo.co.jp",
    "au": "ezweb.ne.jp",
    "softbank": "softbank.ne.jp",
    "icloud": "icloud.com",
    "rare": "rare.example",
}
SUBJECTS = (
    "ご注文の確認 #{n}",
    "【重要】パスワード再設定のご案内",
    "11月の請求書をお送りします（{n}）",
    "発送完了のお知らせ #{n}",
    "Your receipt #{n}",
    "Welcome aboard",
    "会員登録ありがとうございます",
    "週刊ニュースレター 第{n}号",
)
RARE_SUBJECT = "秋の棚卸しのお願い"
TAGS = ("order", "invoice", "newsletter", "welcome")
FATES = (  # state, class, reply, attempts, share
    ("delivered", "", "250 2.0.0 OK", 1, 80.0),
    ("delivered", "", "250 2.0.0 OK", 2, 9.5),
    ("delivered", "", "250 2.0.0 OK", 3, 2.0),
    ("bounced", "bad_mailbox", "550 5.1.1 User unknown", 1, 4.0),
    ("bounced", "bad_domain", "550 5.1.2 no such domain", 1, 1.0),
    ("bounced", "policy", "550 5.7.1 refused by policy", 1, 0.6),
    ("bounced", "content", "554 5.7.1 spam", 1, 0.2),
    ("expired", "transient", "451 4.3.2 busy", 12, 0.4),
    ("suppressed", "", "", 0, 1.5),
    ("cancelled", "", "", 0, 0.1),
    ("returned", "mailbox_full", "250 2.0.0 OK", 1, 0.5),
    ("ambiguous", "", "250 2.0.0 OK", 2, 0.2),
)

_MESSAGE = [
    "id",
    "tenant_id",
    "credential_id",
    "stream_id",
    "domain_id",
    "accepted_at",
    "expires_at",
    "reverse_path",
    "author",
    "author_domain",
    "subject",
    "header_message_id",
    "size_bytes",
    "recipient_count",
    "body_type",
    "needs_smtputf8",
    "dsn_ret",
    "dsn_envid",
    "protocol",
    "peer_address",
    "peer_ehlo",
    "is_test",
    "tags",
    "metadata",
    "retention_days",
]
_RECIPIENT = [
    "id",
    "message_id",
    "tenant_id",
    "address",
    "domain",
    "group_id",
    "state",
    "state_since",
    "reason",
    "attempts",
    "next_attempt_at",
    "phase",
    "reply_code",
    "reply",
    "reply_class",
    "action",
    "scope",
    "rule",
    "host",
    "source_id",
    "has_ambiguous_attempt",
    "returned_at",
    "returned_class",
    "dsn_notify",
    "dsn_orcpt",
]
_EVENT = [
    "message_id",
    "id",
    "recipient_id",
    "tenant_id",
    "kind",
    "occurred_at",
    "attempt_id",
    "data",
]

_CHUNK = 20_000


class Owner:
    """A tenant with what its mail names."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.tenant = Tenant.objects.create(slug=f"history-{number}", name=f"History {number}", time_zone="Asia/Tokyo")
        foundation.give_streams(self.tenant)
        self.streams = [stream.id for stream in Stream.objects.of(self.tenant).order_by("name")]
        self.credentials = [
            Credential.objects.create(
                tenant=self.tenant,
                kind="smtp",
                name=name,
                username=f"{self.tenant.slug}.{name}",
                secret_sha256=b"0" * 32,
            ).id
            for name in ("shop", "billing", "news")
        ]
        self.domain = f"history{number}.example"


def main() -> int:
    options = read_options()
    if Tenant.objects.filter(slug="history-1").exists():
        print("There is a generated history here already.", file=sys.stderr)
        return 1
    began = time.monotonic()
    chance = random.Random(options.seed)
    today = datetime.now(tz=UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    partitions.ensure_ahead(now=today - timedelta(days=options.days), ahead=timedelta(days=options.days + 8))
    groups = {key: _group(key) for key in PROVIDERS}
    owners = [Owner(number + 1) for number in range(options.tenants)]
    written = 0
    for day in range(options.days):
        share = options.recipients * (day + 1) // options.days - options.recipients * day // options.days
        start = today - timedelta(days=options.days - 1 - day)
        # Today is as full as the other days, up to this minute.
        length = min(timedelta(days=1), datetime.now(tz=UTC) - start)
        written += write_day(chance, owners, groups, start, length, share, with_events=options.with_events)
    copied_s = time.monotonic() - began
    with connection.cursor() as cursor:
        for table in ("delivery_message", "delivery_recipient", "delivery_event"):
            cursor.execute(f"VACUUM (ANALYZE) {table}")
        cursor.execute("SELECT pg_database_size(current_database())")
        size = cursor.fetchone()[0]
    count_began = time.monotonic()
    counted = counting.count_waiting(most_seconds=1e9) if options.count and options.with_events else 0
    print(
        json.dumps(
            {
                "recipients": written,
                "tenants": options.tenants,
                "days": options.days,
                "copy_s": round(copied_s, 1),
                "counted_events": counted,
                "counted_per_s": round(counted / (time.monotonic() - count_began)) if counted else None,
                "database_bytes": size,
            }
        )
    )
    return 0


def write_day(
    chance: random.Random,
    owners: list[Owner],
    groups: dict[str, int],
    start: datetime,
    length: timedelta,
    share: int,
    *,
    with_events: bool,
) -> int:
    """A day's mail in the order of its keys."""
    left = share
    while left:
        size = min(left, _CHUNK)
        done = share - left
        messages: list[tuple[Any, ...]] = []
        recipients: list[tuple[Any, ...]] = []
        events: list[tuple[Any, ...]] = []
        for position in range(size):
            moment = start + length * ((done + position + chance.random()) / share)
            one = recipient_of(chance, chance.choice(owners), groups, moment, messages, with_events=with_events)
            recipients.append(one[0])
            events += one[1]
        copy("delivery_message", _MESSAGE, messages)
        copy("delivery_recipient", _RECIPIENT, recipients)
        if events:
            copy("delivery_event", _EVENT, events)
        left -= size
    return share


def recipient_of(
    chance: random.Random,
    owner: Owner,
    groups: dict[str, int],
    moment: datetime,
    messages: list[tuple[Any, ...]],
    *,
    with_events: bool,
) -> tuple[tuple[Any, ...], list[tuple[Any, ...]]]:
    message_id = uuid7(moment)
    messages.append(message_of(chance, owner, message_id, moment))
    provider = chance.choices(list(PROVIDERS), PROVIDERS.values())[0] if chance.random() < 0.9 else None
    domain = MAIL_DOMAINS[provider] if provider else f"d{chance.randrange(5000)}.example"
    state, reply_class, reply, attempts, _share = chance.choices(FATES, [fate[4] for fate in FATES])[0]
    wait = timedelta(seconds=chance.lognormvariate(0.3, 0.8)) + timedelta(minutes=11) * max(0, attempts - 1)
    settled = moment + (wait if attempts else timedelta(0))
    is_returned, is_ambiguous = state == "returned", state == "ambiguous"
    if is_returned or is_ambiguous:
        state = "delivered"
    recipient_id = uuid7_at(message_id)
    tenant_id = owner.tenant.id
    row = (
        recipient_id,
        message_id,
        tenant_id,
        f"user{chance.randrange(200_000)}@{domain}",
        domain,
        groups[provider] if provider else None,
        state,
        settled,
        "suppression" if state == "suppressed" else "",
        attempts,
        None,
        "eod" if attempts else "",
        int(reply[:3]) if reply else None,
        reply,
        "" if is_returned else reply_class,
        "",
        "",
        "",
        f"mx1.{domain}" if attempts else "",
        None,
        is_ambiguous,
        settled + timedelta(minutes=5) if is_returned else None,
        reply_class if is_returned else "",
        None,
        "",
    )
    if not with_events:
        return row, []

    def event(kind: str, at: datetime, data: dict[str, Any]) -> tuple[Any, ...]:
        return (message_id, uuid7_at(message_id), recipient_id, tenant_id, kind, at, None, json.dumps(data))

    events = [event("accepted", moment, {})]
    if attempts > 1:
        events.append(event("deferred", moment + timedelta(seconds=1), {"attempt": 1, "class": "greylist"}))
    about = {"attempt": attempts, "reply": reply}
    events.append(event(state, settled, {**about, "class": reply_class} if state in {"bounced", "expired"} else about))
    if is_returned:
        events.append(event("returned", settled + timedelta(minutes=5), {"class": reply_class}))
    return row, events


def message_of(chance: random.Random, owner: Owner, message_id: Any, moment: datetime) -> tuple[Any, ...]:
    is_bulk = chance.random() < 0.4
    subject = RARE_SUBJECT if chance.random() < 0.002 else chance.choice(SUBJECTS).format(n=chance.randrange(100_000))
    author = f"{chance.choice(('shop', 'shop', 'sales', 'news'))}@{owner.domain}"
    tags = [chance.choice(TAGS)] if chance.random() < 0.5 else []
    if chance.random() < 0.002:
        tags.append("campaign-x")
    credential = owner.credentials[2] if chance.random() < 0.002 else owner.credentials[chance.random() < 0.3]
    return (
        message_id,
        owner.tenant.id,
        credential,
        owner.streams[0 if is_bulk else 1],
        None,
        moment,
        moment + timedelta(days=4),
        author,
        author,
        owner.domain,
        subject,
        f"<{message_id.hex}@{owner.domain}>",
        4096,
        1,
        "8BITMIME",
        False,
        "",
        "",
        "ESMTPSA",
        "192.0.2.77",
        f"app.{owner.domain}",
        False,
        tags,
        "{}",
        7,
    )


def copy(table: str, columns: list[str], rows: Iterator[tuple[Any, ...]] | list[tuple[Any, ...]]) -> None:
    connection.ensure_connection()
    with connection.connection.cursor().copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as into:
        for row in rows:
            into.write_row(row)


def _group(key: str) -> int:
    found, _ = ProviderGroup.objects.get_or_create(key=key, defaults={"kind": "provider", "title": key.title()})
    return found.pk


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipients", type=int, default=5_000_000)
    parser.add_argument("--tenants", type=int, default=50)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--without-events", dest="with_events", action="store_false")
    parser.add_argument("--count", action="store_true", help="make the counters here")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
