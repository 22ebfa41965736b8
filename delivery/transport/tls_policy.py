"""How much TLS a hop must offer before mail goes to it, and which hosts turned out to offer a broken one.

Opportunistic is what mail between strangers uses: any TLS is better than none, so the certificate is not looked at
and old protocol versions are accepted, but a host whose TLS fails gets the mail in plain text, and is remembered for
three days so that not every mail has to fail first. The other policies never fall back.

A receiving domain can ask for more than our own settings do: by MTA-STS (`delivery.transport.mta_sts`) or by DANE
(`delivery.transport.dane`). Every policy knows where it came from, and an attempt's transcript says it.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from delivery.dns import TlsaRecord

BROKEN_TLS_SECONDS = 3 * 24 * 3600
MAX_BROKEN_HOSTS = 10_000


class TlsMode(StrEnum):
    NONE = "none"  # never STARTTLS
    OPPORTUNISTIC = "opportunistic"  # if offered, unverified; plain text otherwise
    REQUIRED = "required"  # TLS or no mail; the certificate is not looked at
    VERIFIED = "verified"  # TLS with a trusted certificate for the name, or no mail


_STRICTNESS = {mode: place for place, mode in enumerate(TlsMode)}


class TlsSource(StrEnum):
    """Who asks for a policy."""

    PROVIDER_GROUP = "provider group"
    ROUTE = "route"
    MTA_STS = "MTA-STS"
    DANE = "DANE"
    MESSAGE = "message"


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """What a hop must fulfil. `ca_file` has the trusted certificates, in place of the system's; for VERIFIED only.

    With `tlsa` the certificate must match one of these records; it is then verified by nothing else. `names` are those
    it may bear beside the hop's own, where the records ask for a name.
    """

    mode: TlsMode = TlsMode.OPPORTUNISTIC
    ca_file: str | None = None
    tlsa: tuple[TlsaRecord, ...] = ()
    names: tuple[str, ...] = ()
    source: TlsSource | None = field(default=None, compare=False)

    @property
    def is_mandatory(self) -> bool:
        return self.mode in (TlsMode.REQUIRED, TlsMode.VERIFIED)

    def at_least(self, mode: TlsMode, *, ca_file: str | None, source: TlsSource) -> TlsPolicy:
        """This policy where it asks for as much, otherwise one that asks for ``mode``."""
        if _STRICTNESS[self.mode] >= _STRICTNESS[mode]:
            return self
        return TlsPolicy(mode, ca_file, source=source)

    def context(self) -> ssl.SSLContext:
        """Raises OSError or ssl.SSLError when the file of trusted certificates cannot be used."""
        return _client_context(self.mode, self.ca_file if self.mode is TlsMode.VERIFIED else None)

    def __str__(self) -> str:
        records = f", certificate by {len(self.tlsa)} TLSA record{'s'[: len(self.tlsa) != 1]}" if self.tlsa else ""
        return f"TLS policy: {self.mode.value}{records}" + (f" ({self.source.value})" if self.source else "")


@lru_cache(maxsize=64)
def _client_context(mode: TlsMode, ca_file: str | None) -> ssl.SSLContext:
    if mode is TlsMode.VERIFIED:
        context = ssl.create_default_context(cafile=ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if mode is TlsMode.REQUIRED:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    else:
        # RFC 7435 §3: where the alternative is plain text, weak encryption is still better.
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context


class BrokenTls:
    """Hosts whose TLS failed lately, by the key the caller chooses. Kept in memory: forgetting costs one more try."""

    def __init__(
        self,
        *,
        seconds: float = BROKEN_TLS_SECONDS,
        max_hosts: int = MAX_BROKEN_HOSTS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._max_hosts = max_hosts
        self._clock = clock
        self._until: dict[str, float] = {}

    def remember(self, host: str) -> None:
        self._until.pop(host, None)
        if len(self._until) >= self._max_hosts:
            del self._until[next(iter(self._until))]  # the one remembered longest
        self._until[host] = self._clock() + self._seconds

    def contains(self, host: str) -> bool:
        until = self._until.get(host)
        if until is None:
            return False
        if until <= self._clock():
            del self._until[host]
            return False
        return True
