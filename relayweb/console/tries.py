"""Bounds how often a sign-in, a code or a mail may be tried, by peer and by account, without locking the owner out.

Counted in the cache; while that is away each web process counts for itself, so that sign-in never depends on the broker.
The owner of an account comes from another address than who guesses, so the tight limit is on the pair of both. Who guesses
from many addresses at once would use up what the account has: a browser that the owner has signed in with before
(relayweb.console.known) has a count of its own, and is touched by no other.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import time
from dataclasses import dataclass

import redis
from django.core.cache import BaseCache, caches

logger = logging.getLogger("relayweb.console")

WINDOW_SECONDS = 15 * 60
PER_ACCOUNT_AND_NETWORK = 8
PER_NETWORK = 40
PER_ACCOUNT = 100


@dataclass(frozen=True, slots=True)
class Bounds:
    """Within a quarter of an hour."""

    purpose: str
    per_account_and_network: int
    per_network: int
    per_account: int | None  # None: nobody is named


SIGN_IN = Bounds("sign-in", PER_ACCOUNT_AND_NETWORK, PER_NETWORK, PER_ACCOUNT)
# Six digits can be guessed: whoever has come so far knows the password, so the account itself is bounded tightly.
CODE = Bounds("code", 8, 40, 12)
# Nobody's mailbox is to be filled by strangers, from wherever they ask.
MAIL = Bounds("mail", 5, 20, 5)
# Options and answers of passkeys name nobody beforehand: a bound on all of them would be one on everybody together.
PASSKEY = Bounds("passkey", 40, 40, None)


def may_try(account: str, peer: str, *, bounds: Bounds = SIGN_IN, browser: str = "") -> int:
    """Counts a try; 0 if it may go on, else the seconds to wait. ``browser``: the number of one that is known."""
    network, who = network_of(peer), account.lower()
    limits = [(f"{bounds.purpose} {who} {browser or network}", bounds.per_account_and_network)]
    if not browser:
        limits.append((f"{bounds.purpose} {network}", bounds.per_network))
    if not browser and bounds.per_account is not None:
        limits.append((f"{bounds.purpose} {who}", bounds.per_account))
    window, elapsed = divmod(int(time.time()), WINDOW_SECONDS)
    # Every count is raised, also when an earlier one is over: trying on must not make room elsewhere.
    counts = [_count(f"{window} {subject}") for subject, _ in limits]
    if any(count > limit for count, (_, limit) in zip(counts, limits, strict=True)):
        return WINDOW_SECONDS - elapsed
    return 0


def forget(account: str, peer: str, *, bounds: Bounds = SIGN_IN, browser: str = "") -> None:
    """After a good sign-in: a person who mistyped a few times starts afresh."""
    window = int(time.time()) // WINDOW_SECONDS
    for cache in (caches["default"], caches["process"]):
        try:
            cache.delete(_key(f"{window} {bounds.purpose} {account.lower()} {browser or network_of(peer)}"))
        except (redis.RedisError, OSError):
            continue


def _count(subject: str) -> int:
    try:
        return _raise(caches["default"], _key(subject))
    except (redis.RedisError, OSError) as error:
        logger.warning("sign-in tries are counted by this process alone: %s", error)
        return _raise(caches["process"], _key(subject))


def _raise(cache: BaseCache, key: str) -> int:
    cache.add(key, 0, timeout=WINDOW_SECONDS)
    try:
        return cache.incr(key)
    except ValueError:  # it expired in between
        return 1


def _key(subject: str) -> str:
    return "sign-in:" + hashlib.sha256(subject.encode()).hexdigest()[:32]


def network_of(peer: str) -> str:
    """An IPv4 address; of IPv6 the /64, which one customer has to himself."""
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return peer
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, 64), strict=False))
