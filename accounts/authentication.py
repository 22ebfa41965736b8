"""Who hands over mail: SMTP logins, API keys and networks, looked up without blocking an event loop.

Answers are at most ``REMEMBERED`` old, so a revoked credential or a suspended tenant is noticed within that time by
sessions that are already open. An unknown name costs the same work as a wrong secret. Trouble with the database is
raised as what it is (``psycopg.Error``, ``PoolTimeout``) and never looks like a wrong secret.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

from django.conf import settings
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from accounts import clock
from accounts.models import CredentialKind

# Well below the 5 s within which a revocation must be felt, since it adds to the time between two looks.
REMEMBERED = timedelta(seconds=3)
# Peers without a credential, and names nobody has: what was issued a moment ago should work.
_NOTHING_REMEMBERED = timedelta(seconds=1)
# A secret that does not fit may be newer than what is remembered: it is looked up again, but not for each guess.
_DOUBTED_AFTER = timedelta(milliseconds=200)
_MOST_ENTRIES = 50_000

_LONGEST_USERNAME = 64
_LONGEST_SECRET_OCTETS = 1024
_NO_HASH = hashlib.sha256(b"nobody's secret").digest()

Pool = AsyncConnectionPool[Any]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Principal:
    """On whose behalf a submission is made, by which credential, within which limits."""

    tenant_id: UUID
    tenant_slug: str
    tenant_state: str
    tenant_is_system: bool
    credential_id: UUID | None
    credential_kind: str
    credential_use: str
    is_test: bool
    stream_id: UUID
    pool_id: UUID | None
    only_domain: str
    max_message_bytes: int
    max_recipients: int
    retention_days: int
    scopes: frozenset[str]
    hourly_limit: int | None
    daily_limit: int | None
    monthly_limit: int | None
    credential_daily_limit: int | None
    has_rate: bool
    # The pool that the credential itself names: it holds whichever stream a mail chooses.
    own_pool_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class CredentialUses:
    """What became of a credential since it was last written down."""

    count: int
    last_at: datetime
    last_from: str | None


async def authenticate_smtp(pool: Pool, username: str, secret: str, *, peer: str) -> Principal | None:
    """The principal of an SMTP login used from the address ``peer``, or None."""
    return await _authenticate(pool, CredentialKind.SMTP, username, secret, peer=peer)


async def authenticate_api(pool: Pool, key: str, *, peer: str) -> Principal | None:
    """The principal of an API key, which reads ``<username>.<secret>``, or None."""
    username, _, secret = key.rpartition(".")
    return await _authenticate(pool, CredentialKind.API, username, secret, peer=peer)


async def authenticate_network(pool: Pool, peer: str) -> Principal | None:
    """The principal of the approved network that holds the address ``peer``, or None."""
    found = await _answers_of(pool).get(("peer", peer), lambda: _find(pool, _BY_PEER, {"peer": peer}))
    return found.principal if found is not None and found.may_be_used_from(peer) else None


async def refresh(pool: Pool, principal: Principal) -> Principal | None:
    """What has become of a principal since: None once it was revoked, has expired, or its tenant is closed."""
    credential_id = principal.credential_id
    if credential_id is None:  # the service itself
        return principal
    found = await _answers_of(pool).get(("id", credential_id), lambda: _find(pool, _BY_ID, {"id": credential_id}))
    return found.principal if found is not None else None


async def named(pool: Pool, username: str) -> Principal | None:
    """Whom a login name belongs to, whatever the secret: to tell its owner of failures, never to let anybody in."""
    found = await _named(pool, CredentialKind.SMTP, username)
    return found.principal if found is not None else None


async def write_down_uses(pool: Pool, uses: Mapping[UUID, CredentialUses]) -> None:
    """Add to the counts and last uses of many credentials in one statement."""
    rows = sorted(uses.items())
    async with pool.connection() as connection:
        await connection.execute(
            _WRITE_DOWN_USES,
            {
                "ids": [credential_id for credential_id, _ in rows],
                "counts": [use.count for _, use in rows],
                "times": [use.last_at for _, use in rows],
                "peers": [use.last_from for _, use in rows],
            },
        )


# ---------------------------------------------------------------- secrets


async def _authenticate(pool: Pool, kind: CredentialKind, username: str, secret: str, *, peer: str) -> Principal | None:
    offered = secret.encode("utf-8", "surrogatepass")
    if len(offered) > _LONGEST_SECRET_OCTETS:
        return None
    digest = hashlib.sha256(offered).digest()
    found = await _named(pool, kind, username)
    opens = _opens(found, digest)
    if not opens:
        found = await _named(pool, kind, username, within=_DOUBTED_AFTER)
        opens = _opens(found, digest)
    return found.principal if found is not None and opens and found.may_be_used_from(peer) else None


def _opens(found: _Found | None, offered: bytes) -> bool:
    """Both comparisons are always made, against a hash that nothing opens where there is none."""
    current = found.secret_sha256 if found is not None and found.secret_sha256 else _NO_HASH
    former = found.former_secret_sha256 if found is not None and found.former_is_valid else _NO_HASH
    is_current = hmac.compare_digest(current, offered)
    is_former = hmac.compare_digest(former, offered)
    return (is_current and current is not _NO_HASH) or (is_former and former is not _NO_HASH)


async def _named(pool: Pool, kind: CredentialKind, username: str, *, within: timedelta = REMEMBERED) -> _Found | None:
    # PostgreSQL takes no NUL, and no lone surrogate can be sent to it: no such name was ever issued.
    if not username or len(username) > _LONGEST_USERNAME or not username.isprintable():
        return None
    return await _answers_of(pool).get(
        (kind, username), lambda: _find(pool, _BY_NAME, {"kind": kind.value, "username": username}), within=within
    )


# ---------------------------------------------------------------- rows


@dataclass(frozen=True, slots=True)
class _Found:
    principal: Principal
    secret_sha256: bytes
    former_secret_sha256: bytes
    former_secret_until: datetime | None
    only_networks: tuple[Network, ...]

    @property
    def former_is_valid(self) -> bool:
        return bool(
            self.former_secret_sha256
            and self.former_secret_until is not None
            and self.former_secret_until > clock.now()
        )

    def may_be_used_from(self, peer: str) -> bool:
        if not self.only_networks:
            return True
        address = ipaddress.ip_address(peer)
        return any(address in network for network in self.only_networks)


# The default stream stands in where the credential names none; streams and pools are tables of delivery, known here by
# their columns alone.
_SELECT = """
SELECT t.id AS tenant_id, t.slug AS tenant_slug, t.state AS tenant_state, t.is_system AS tenant_is_system,
       c.id AS credential_id, c.kind AS credential_kind, c.use AS credential_use, c.is_test,
       coalesce(own.id, general.id) AS stream_id,
       coalesce(c.pool_id, CASE WHEN own.id IS NULL THEN general.pool_id ELSE own.pool_id END) AS pool_id,
       c.pool_id AS own_pool_id, c.only_domain,
       t.max_message_bytes, t.max_recipients,
       CASE WHEN t.keeps_content_after_delivery THEN t.content_retention_days ELSE 0 END AS retention_days, c.scopes,
       t.hourly_limit, t.daily_limit, t.monthly_limit, c.daily_limit AS credential_daily_limit,
       (t.rate_per_second IS NOT NULL OR c.rate_per_second IS NOT NULL) AS has_rate,
       c.secret_sha256, c.former_secret_sha256, c.former_secret_until, c.only_networks::text[] AS only_networks
FROM accounts_credential c
JOIN accounts_tenant t ON t.id = c.tenant_id
LEFT JOIN delivery_stream own ON own.id = c.stream_id AND own.tenant_id = t.id
LEFT JOIN delivery_stream general ON general.tenant_id = t.id AND general.is_default
WHERE c.revoked_at IS NULL AND (c.expires_at IS NULL OR c.expires_at > now()) AND t.state <> 'closed'
  AND coalesce(own.id, general.id) IS NOT NULL
"""
_BY_NAME = _SELECT + " AND c.username = %(username)s AND c.kind = %(kind)s"
_BY_ID = _SELECT + " AND c.id = %(id)s AND (c.kind <> 'network' OR c.approved_at IS NOT NULL)"
_BY_PEER = (
    _SELECT
    + """ AND c.kind = 'network' AND c.approved_at IS NOT NULL AND c.network >>= %(peer)s::inet
ORDER BY masklen(c.network) DESC, c.id LIMIT 1"""
)

_WRITE_DOWN_USES = """
UPDATE accounts_credential c
SET used_count = c.used_count + used.count,
    last_used_at = greatest(c.last_used_at, used.last_at),
    last_used_from = coalesce(used.last_from, c.last_used_from)
FROM unnest(%(ids)s::uuid[], %(counts)s::bigint[], %(times)s::timestamptz[], %(peers)s::inet[])
     AS used(id, count, last_at, last_from)
WHERE c.id = used.id
"""


async def _find(pool: Pool, sql: str, arguments: dict[str, Any]) -> _Found | None:
    async with pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        row = await (await cursor.execute(sql, arguments)).fetchone()
    return None if row is None else _read(row)


def _read(row: DictRow) -> _Found:
    return _Found(
        secret_sha256=bytes(row.pop("secret_sha256") or b""),
        former_secret_sha256=bytes(row.pop("former_secret_sha256") or b""),
        former_secret_until=row.pop("former_secret_until"),
        only_networks=tuple(ipaddress.ip_network(text) for text in row.pop("only_networks")),
        principal=Principal(
            **{
                **row,
                "scopes": frozenset(row["scopes"]),
                # What the gate announces and buffers is the installation's; a tenant's own limit may only be lower.
                "max_message_bytes": min(row["max_message_bytes"] or 2**62, settings.MAX_MESSAGE_BYTES),
                "max_recipients": min(row["max_recipients"] or 2**62, settings.MAX_RECIPIENTS),
            }
        ),
    )


# ---------------------------------------------------------------- remembering


@dataclass(frozen=True, slots=True)
class _Known:
    """An answer, when it was asked for and until when it holds, by the monotonic clock."""

    asked_at: float
    until: float
    found: _Found | None


class _Answers:
    """A few seconds' memory of look-ups; whoever asks while a look-up is under way shares its answer."""

    def __init__(self) -> None:
        self._known: dict[Hashable, _Known] = {}
        self._asked: dict[Hashable, asyncio.Task[_Found | None]] = {}

    async def get(
        self, key: Hashable, find: Callable[[], Awaitable[_Found | None]], *, within: timedelta = REMEMBERED
    ) -> _Found | None:
        """What is remembered is taken if it was asked ``within`` that time."""
        known, now = self._known.get(key), time.monotonic()
        if known is not None and known.until > now and now - known.asked_at < within.total_seconds():
            return known.found
        task = self._asked.get(key)
        if task is None:
            task = asyncio.ensure_future(self._ask(key, find))
            self._asked[key] = task
        # One asker that goes away must not take the answer from the others.
        return await asyncio.shield(task)

    async def _ask(self, key: Hashable, find: Callable[[], Awaitable[_Found | None]]) -> _Found | None:
        asked_at = time.monotonic()
        try:
            found = await find()
        finally:
            del self._asked[key]
        if len(self._known) >= _MOST_ENTRIES:
            self._known.clear()
        remembered = REMEMBERED if found is not None else _NOTHING_REMEMBERED
        self._known[key] = _Known(asked_at, asked_at + remembered.total_seconds(), found)
        return found


_answers: WeakKeyDictionary[Pool, _Answers] = WeakKeyDictionary()


def _answers_of(pool: Pool) -> _Answers:
    answers = _answers.get(pool)
    if answers is None:
        answers = _answers[pool] = _Answers()
    return answers
