"""The language of webhooks: secrets and signatures (Standard Webhooks 1.0), when a call is tried again, when an endpoint rests.

Everything here is a function of its arguments; calls are made elsewhere.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import SplitResult, urlsplit

from delivery.core.retry import RetrySchedule

SECRET_PREFIX = "whsec_"  # noqa: S105 - what secrets begin with
SECRET_OCTETS = 32  # Standard Webhooks asks for 24 to 64
TEST = "webhook.test"
BATCH = "batch"
USUAL_PORTS = {"http": 80, "https": 443}

# The waits between the calls of one event; together more than a day, whatever the jitter. After the last the event is dead.
DEFAULT_SCHEDULE = "5s,30s,2m,10m,30m,1h,2h,4h,8h,12h"
_NO_END = timedelta(days=365)


class UrlUnusable(ValueError):
    """``reason`` is a machine word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def read_url(text: str, *, any_port: bool = False) -> SplitResult:
    """A URL that may be called: http or https on its usual port, with a host and without a user. Raises UrlUnusable."""
    if not text.isascii() or any(character.isspace() or not character.isprintable() for character in text):
        raise UrlUnusable("malformed")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise UrlUnusable("malformed") from None
    if parts.scheme not in USUAL_PORTS:
        raise UrlUnusable("scheme")
    if not parts.hostname or "\\" in text or parts.fragment or _is_number_in_disguise(parts.hostname):
        raise UrlUnusable("malformed")
    # What stands before an @ looks like a host to people, and is a secret in every log.
    if "@" in parts.netloc:
        raise UrlUnusable("user")
    if port is not None and port != USUAL_PORTS[parts.scheme] and not any_port:
        raise UrlUnusable("port")
    return parts


def _is_number_in_disguise(host: str) -> bool:
    """2852039166, 0xa9.0xfe.43518 and their like: some resolvers take them for IPv4 addresses, and no DNS name ends so."""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return False
    last = host.rstrip(".").rpartition(".")[2]
    return last.isdigit() or re.fullmatch("0x[0-9a-f]*", last) is not None


def secret_from(octets: bytes) -> str:
    return SECRET_PREFIX + base64.b64encode(octets).decode("ascii")


def key_of(secret: str) -> bytes:
    """The octets a secret stands for. Raises ValueError."""
    try:
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("not a secret of a webhook") from None


def signatures(secrets: Sequence[str], *, webhook_id: str, timestamp: int, body: bytes) -> str:
    """The value of ``webhook-signature``: one for each secret, so that receivers may know the old one or the new one."""
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    found = (base64.b64encode(hmac.digest(key_of(secret), signed, hashlib.sha256)) for secret in secrets)
    return " ".join(f"v1,{signature.decode('ascii')}" for signature in found)


def batch_id(event_ids: Sequence[str]) -> str:
    """The same events make the same id, so that a receiver knows a batch that comes again."""
    if len(event_ids) == 1:
        return event_ids[0]
    return "batch_" + hashlib.sha256(" ".join(event_ids).encode()).hexdigest()[:32]


# ---------------------------------------------------------------- trying again


@dataclass(frozen=True, slots=True)
class CallSchedule:
    schedule: RetrySchedule

    @classmethod
    def parse(cls, text: str) -> CallSchedule:
        """Raises ValueError with a sentence."""
        return cls(RetrySchedule.parse(text, _NO_END))

    def wait_after(self, calls: int, *, jitter: float, asked_for: timedelta | None = None) -> timedelta | None:
        """How long an event waits after its ``calls``-th call failed; None: it is dead.

        ``asked_for`` is what the endpoint said (Retry-After), which may lengthen the wait to an hour at most.
        """
        if calls > len(self.schedule.delays):
            return None
        wait = self.schedule.delay_after(calls, jitter=jitter)
        return wait if asked_for is None else max(wait, min(asked_for, _LONGEST_ASKED_FOR))


_LONGEST_ASKED_FOR = timedelta(hours=1)

# An endpoint that fails this often in a row is only tried now and then, with one call at a time.
FAILURES_BEFORE_REST = 5
_FIRST_REST = timedelta(seconds=5)
_LONGEST_REST = timedelta(minutes=10)


def rest_after(failures: int, *, jitter: float) -> timedelta | None:
    """How long an endpoint rests after so many failures in a row; None: not at all."""
    if failures < FAILURES_BEFORE_REST:
        return None
    doubled: int = 1 << min(failures - FAILURES_BEFORE_REST, 16)
    return min(_FIRST_REST * doubled, _LONGEST_REST) * (1 + 0.2 * jitter)


def has_failed_for_good(failing_since: datetime | None, *, now: datetime, patience: timedelta) -> bool:
    return failing_since is not None and now - failing_since >= patience
