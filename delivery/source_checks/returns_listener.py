"""The certificate of the listener that takes returned mail: whether it is valid, for the names senders look for, and how long.

Senders that keep to MTA-STS or DANE send no bounces to a host whose certificate does not fit; they say nothing about it.
"""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509

from delivery.dns import DnsFailure, Resolver
from delivery.source_checks.looking import Result, Verdict

CHECK = "returns_tls"
RENEW_WITHIN = timedelta(days=14)
_TIMEOUT_S = 10.0
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - it is not bound here


@dataclass(frozen=True, slots=True)
class Listener:
    """``bounce_domain``: senders find the listener by its MX records. ``is_trial``: nobody's trust is needed yet."""

    host: str
    port: int
    bounce_domain: str
    hostname: str
    ca_file: str = ""
    is_trial: bool = False


async def look(listener: Listener | None, resolver: Resolver, *, now: datetime | None = None) -> Result:
    if listener is None:
        return Result(CHECK, Verdict.SKIPPED, "RELAY_RETURNS_BIND is off")
    try:
        names = await _names(listener, resolver)
    except DnsFailure as failure:
        return Result(CHECK, Verdict.FAILED, str(failure))
    try:
        offered, distrust = await asyncio.to_thread(_certificate, listener)
    except (OSError, smtplib.SMTPException) as error:
        return Result(CHECK, Verdict.FAILED, f"{listener.host}:{listener.port} cannot be asked ({error})")
    return _judge(offered, distrust, names, is_trial=listener.is_trial, now=now or datetime.now(UTC))


def _judge(
    offered: x509.Certificate | None, distrust: str, names: list[str], *, is_trial: bool, now: datetime
) -> Result:
    if offered is None:
        return Result(CHECK, Verdict.BAD, "it offers no STARTTLS")
    left = offered.not_valid_after_utc - now
    until = f"valid until {offered.not_valid_after_utc:%Y-%m-%d}, {max(0, left.days)} days left"
    found = tuple(_names_in(offered))
    if left <= timedelta(0) or offered.not_valid_before_utc > now:
        return Result(CHECK, Verdict.BAD, f"it is not valid now ({until})", found)
    if is_trial and offered.issuer == offered.subject:
        return Result(CHECK, Verdict.SKIPPED, f"the self-signed certificate of a trial ({until})", found)
    if missing := [name for name in names if not _is_for(name, found)]:
        return Result(CHECK, Verdict.BAD, f"it is not for {', '.join(missing)}", found)
    if distrust:
        return Result(CHECK, Verdict.BAD, f"it is not trusted: {distrust}", found)
    if left < RENEW_WITHIN:
        return Result(CHECK, Verdict.BAD, f"it ends soon ({until})", found)
    return Result(CHECK, Verdict.OK, f"for {', '.join(names)}; {until}", found)


async def _names(listener: Listener, resolver: Resolver) -> list[str]:
    """The MX hosts of the bounce domain; where it has none yet, what it should be. Raises DnsFailure."""
    try:
        hosts = [one.host.rstrip(".").lower() for one in await resolver.mx(listener.bounce_domain) if one.host]
    except DnsFailure as failure:
        if failure.is_transient:
            raise
        hosts = []
    return list(dict.fromkeys(hosts)) or [listener.hostname.lower()]


def _certificate(listener: Listener) -> tuple[x509.Certificate | None, str]:
    """The certificate, and why a client that checks would not trust it (or nothing). Raises OSError, SMTPException."""
    unchecked = ssl.create_default_context()
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    der = _offered(listener, unchecked)
    if der is None:
        return None, ""
    checked = ssl.create_default_context(cafile=listener.ca_file or None)
    checked.check_hostname = False  # names are judged by themselves, with a better sentence
    try:
        _offered(listener, checked)
    except ssl.SSLCertVerificationError as error:
        return x509.load_der_x509_certificate(der), error.verify_message
    return x509.load_der_x509_certificate(der), ""


def _offered(listener: Listener, context: ssl.SSLContext) -> bytes | None:
    with smtplib.SMTP(_ANY.get(listener.host, listener.host), listener.port, "localhost", _TIMEOUT_S) as client:
        client.ehlo()
        if not client.has_extn("starttls"):
            return None
        client.starttls(context=context)
        assert isinstance(client.sock, ssl.SSLSocket)
        return client.sock.getpeercert(binary_form=True)


def _names_in(certificate: x509.Certificate) -> list[str]:
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [name.lower() for name in alternatives.get_values_for_type(x509.DNSName)]


def _is_for(name: str, offered: tuple[str, ...]) -> bool:
    """RFC 6125 §6.4: the name itself, or a wildcard for its first label."""
    return name in offered or f"*.{name.partition('.')[2]}" in offered
