"""DANE for SMTP (RFC 7672): a host's certificate is the one that its own signed DNS zone names.

It counts only where every answer on the way was validated: the domain's MX records, the host's addresses, the TLSA
records themselves. Then TLS is a must, and certificate authorities have no say:

- DANE-EE(3): the host's own certificate or key is published; names and dates do not matter.
- DANE-TA(2): a certificate above it is; the chain must lead there, and the host's certificate must bear its name.

Other usages, selectors and matching types are unusable; where that is all there is, TLS is a must but nobody is
authenticated (§2.2). TLSA records of a signed host that cannot be looked up forbid to use that host for now, because an
attacker could have suppressed them. A host that is an alias into an unsigned zone is taken for one without records.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError

from delivery.dns import DnsFailure, Resolver, TlsaRecord

TRUST_ANCHOR, END_ENTITY = 2, 3
_WHOLE_CERTIFICATE, _PUBLIC_KEY = 0, 1
_IN_FULL = 0
_DIGESTS = {1: hashlib.sha256, 2: hashlib.sha512}
_MAX_CERTIFICATES = 10


class Mismatch(Exception):
    """The certificate is not one that the records name. The text is for people."""


async def find_tlsa(host: str, port: int, resolver: Resolver) -> tuple[str, list[TlsaRecord]]:
    """The validated TLSA records of an MX host, and the name they were found under, which the certificate must bear.

    The MX answer must have been secure. An empty list means that DANE does not apply. Raises DnsFailure where nobody
    could say; it `is_transient`, and the host must not be used.
    """
    try:
        host_name = await resolver.secure_host_name(host)
    except DnsFailure as failure:
        if failure.is_transient:
            raise
        host_name = None
    if host_name is None:
        # In a zone that is not signed, name servers that fail at TLSA are common and mean nothing (§2.1.2).
        return host, []
    for name in dict.fromkeys((host_name, host)):
        try:
            records = await resolver.tlsa(f"_{port}._tcp.{name}")
        except DnsFailure as failure:
            if failure.is_transient:
                raise
            continue
        if records:
            return name, records
    return host, []


def usable(records: Sequence[TlsaRecord]) -> tuple[TlsaRecord, ...]:
    """Those that SMTP knows (RFC 7672 §3.1) and that are well-formed, in a stable order."""
    return tuple(sorted((record for record in records if _is_usable(record)), key=str))


def check_chain(
    chain: Sequence[bytes], records: Sequence[TlsaRecord], *, names: Sequence[str], now: datetime
) -> TlsaRecord:
    """The record that the peer's certificates match. Raises Mismatch.

    `chain` is in DER, the host's own certificate first; `records` are usable ones; `names` are those of which the
    certificate must bear one below a published trust anchor.
    """
    if not chain:
        raise Mismatch("the host sent no certificate")
    for record in records:
        if record.usage == END_ENTITY and _matches(record, chain[0]):
            return record
    reason = "no TLSA record of the host matches its certificate"
    for record in records:
        if record.usage == TRUST_ANCHOR:
            for anchor in _anchors(record, chain):
                problem = _problem_below(anchor, chain, names, now)
                if problem is None:
                    return record
                reason = f"the certificate does not hold below the published trust anchor: {problem}"
    raise Mismatch(reason)


def _is_usable(record: TlsaRecord) -> bool:
    if record.usage not in (TRUST_ANCHOR, END_ENTITY) or record.selector not in (_WHOLE_CERTIFICATE, _PUBLIC_KEY):
        return False
    if record.matching_type == _IN_FULL:
        return bool(record.data)
    digest = _DIGESTS.get(record.matching_type)
    return digest is not None and len(record.data) == digest().digest_size


def _matches(record: TlsaRecord, certificate: bytes) -> bool:
    try:
        selected = certificate if record.selector == _WHOLE_CERTIFICATE else public_key_info(certificate)
    except ValueError:
        return False
    digest = _DIGESTS.get(record.matching_type)
    return record.data == (digest(selected).digest() if digest else selected)


def _anchors(record: TlsaRecord, chain: Sequence[bytes]) -> list[bytes]:
    """Certificates above the host's own that the record names; one published in full need not have been sent."""
    found = [certificate for certificate in chain[1:_MAX_CERTIFICATES] if _matches(record, certificate)]
    if not found and record.selector == _WHOLE_CERTIFICATE and record.matching_type == _IN_FULL:
        return [record.data]
    return found


def _problem_below(anchor: bytes, chain: Sequence[bytes], names: Sequence[str], now: datetime) -> str | None:
    """Why the chain does not lead from the anchor to one of the names; None if it does."""
    problem = "no name to look for"
    try:
        trusted = Store([x509.load_der_x509_certificate(anchor)])
        own, *others = (x509.load_der_x509_certificate(certificate) for certificate in chain[:_MAX_CERTIFICATES])
        for name in dict.fromkeys(names):
            # What public authorities have agreed upon beyond RFC 5280 does not bind a host that is its own authority.
            policy = (
                PolicyBuilder()
                .store(trusted)
                .time(now)
                .extension_policies(
                    ca_policy=ExtensionPolicy.permit_all().require_present(
                        x509.BasicConstraints, Criticality.AGNOSTIC, None
                    ),
                    ee_policy=ExtensionPolicy.permit_all().require_present(
                        x509.SubjectAlternativeName, Criticality.AGNOSTIC, None
                    ),
                )
            )
            try:
                policy.build_server_verifier(x509.DNSName(name)).verify(own, others)
            except VerificationError as error:
                problem = str(error)
            else:
                return None
    except (ValueError, UnsupportedAlgorithm) as error:
        return f"a certificate cannot be read: {error}"
    return problem


def public_key_info(certificate: bytes) -> bytes:
    """The SubjectPublicKeyInfo as it stands in the certificate (RFC 5280 §4.1). Raises ValueError.

    It is cut out rather than parsed and written again, so that keys of any kind match what was published.
    """
    _, position, _ = _element(certificate, 0)  # Certificate
    _, position, _ = _element(certificate, position)  # tbsCertificate
    tag, _, end = _element(certificate, position)
    if tag == 0xA0:  # the version, which may be absent
        _, _, end = _element(certificate, end)
    for _ in range(4):  # signature, issuer, validity, subject
        _, _, end = _element(certificate, end)
    _, _, end_of_key = _element(certificate, end)
    return certificate[end:end_of_key]


def _element(der: bytes, position: int) -> tuple[int, int, int]:
    """Tag, start of the contents and end of one DER element. Raises ValueError."""
    try:
        tag, length = der[position], der[position + 1]
        start = position + 2
        if length & 0x80:
            count = length & 0x7F
            length = int.from_bytes(der[start : start + count], "big")
            start += count
    except IndexError:
        raise ValueError("the certificate is cut short") from None
    if start + length > len(der):
        raise ValueError("the certificate is cut short")
    return tag, start, start + length
