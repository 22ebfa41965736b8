from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from delivery.core.reply import Origin, Phase, Reply
from delivery.dns import DnsFailure, Resolver, TlsaRecord, Trust
from delivery.transport import dane
from delivery.transport.guard import DestinationGuard
from delivery.transport.hops import Hop, MxHosts, find_hops, find_mx_hosts
from delivery.transport.pool import ConnectionPool
from delivery.transport.session import SessionFailed
from delivery.transport.tls_choice import Chosen, TlsChooser
from delivery.transport.tls_policy import BrokenTls, TlsMode, TlsPolicy, TlsSource
from delivery.transport.transcript import Transcript
from delivery.transport.wire import FailureKind
from tests.support.certificates import Authority
from tests.support.dns_server import Behaviour, FakeDns
from tests.support.smtp_client import TIMEOUTS, deliver, texts
from tests.support.smtp_peer import SmtpPeer

NAME = "mx.acme.test"
NOW = datetime.now(tz=UTC)
OURS = TlsPolicy(TlsMode.OPPORTUNISTIC, source=TlsSource.PROVIDER_GROUP)
ENFORCED = TlsPolicy(TlsMode.VERIFIED, source=TlsSource.MTA_STS)
LOOPBACK = DestinationGuard([ip_network("127.0.0.0/8")])
PUBLISHED = [(selector, matching) for selector in (0, 1) for matching in (0, 1, 2)]


def tlsa(certificate: x509.Certificate, usage: int = 3, selector: int = 1, matching: int = 1) -> TlsaRecord:
    selected = (
        certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if selector
        else certificate.public_bytes(Encoding.DER)
    )
    digest = {
        0: lambda octets: octets,
        1: lambda o: hashlib.sha256(o).digest(),
        2: lambda o: hashlib.sha512(o).digest(),
    }
    return TlsaRecord(usage, selector, matching, digest[matching](selected))


def der(*certificates: x509.Certificate) -> list[bytes]:
    return [certificate.public_bytes(Encoding.DER) for certificate in certificates]


def check(chain: list[bytes], *records: TlsaRecord, names=(NAME,), now: datetime = NOW) -> TlsaRecord:
    return dane.check_chain(chain, records, names=names, now=now)


def mismatch(chain: list[bytes], *records: TlsaRecord, **options) -> str:
    with pytest.raises(dane.Mismatch) as caught:
        check(chain, *records, **options)
    return str(caught.value)


def zone(*records: TlsaRecord, port: int = 25, **others) -> dict:
    published = {f"_{port}._tcp.{NAME}": {"TLSA": [str(record) for record in records]}} if records else {}
    return {"acme.test": {"MX": [f"10 {NAME}."]}, NAME: {"A": ["127.0.0.1"]}, **published, **others}


# Checking a certificate


@pytest.mark.parametrize(("selector", "matching"), PUBLISHED)
def test_the_hosts_own_certificate_or_key_may_be_published_in_each_way(selector, matching, authority):
    authority.server_context(NAME)
    certificate = authority.certificate_of(NAME)
    record = tlsa(certificate, 3, selector, matching)

    assert check(der(certificate), record) is record
    assert "no TLSA record" in mismatch(der(authority.certificate), record)


def test_names_and_dates_of_a_published_certificate_do_not_matter(authority):
    authority.server_context(NAME)
    certificate = authority.certificate_of(NAME)

    assert check(der(certificate), tlsa(certificate), names=["other.test"], now=NOW + timedelta(days=1000))


@pytest.mark.parametrize(("selector", "matching"), PUBLISHED)
def test_a_certificate_above_may_be_published_in_each_way(selector, matching, authority):
    authority.server_context(NAME)
    chain = der(authority.certificate_of(NAME), authority.certificate)

    assert check(chain, tlsa(authority.certificate, 2, selector, matching))


def test_a_trust_anchor_published_in_full_need_not_be_sent(authority):
    authority.server_context(NAME)
    chain = der(authority.certificate_of(NAME))

    assert check(chain, tlsa(authority.certificate, 2, 0, 0))
    assert "no TLSA record" in mismatch(chain, tlsa(authority.certificate, 2, 0, 1))


@pytest.mark.parametrize("names", [["acme.test"], [NAME + ".evil.test"], []])
def test_below_a_trust_anchor_the_name_matters(names, authority):
    authority.server_context(NAME)
    chain = der(authority.certificate_of(NAME), authority.certificate)

    assert "does not hold below" in mismatch(chain, tlsa(authority.certificate, 2), names=names)
    assert check(chain, tlsa(authority.certificate, 2), names=[*names, NAME])


@pytest.mark.parametrize("days", [-3, 3])
def test_below_a_trust_anchor_the_dates_matter(days, authority):
    authority.server_context(NAME)
    chain = der(authority.certificate_of(NAME), authority.certificate)

    assert "does not hold below" in mismatch(chain, tlsa(authority.certificate, 2), now=NOW + timedelta(days=days))


def test_a_trust_anchor_must_have_signed_what_is_below_it(authority, tmp_path):
    impostor = Authority.make(tmp_path)  # of the same name
    impostor.server_context(NAME)
    chain = der(impostor.certificate_of(NAME), authority.certificate)

    assert "does not hold below" in mismatch(chain, tlsa(authority.certificate, 2))


def test_the_hosts_own_certificate_is_no_trust_anchor(authority):
    authority.server_context(NAME)
    certificate = authority.certificate_of(NAME)

    assert mismatch(der(certificate), tlsa(certificate, 2))


def test_one_match_among_several_records_is_enough(authority):
    authority.server_context(NAME)
    certificate = authority.certificate_of(NAME)
    old, new = TlsaRecord(3, 1, 1, b"\0" * 32), tlsa(certificate)

    assert check(der(certificate), old, tlsa(authority.certificate, 2), new) is new


@pytest.mark.parametrize(
    "octets", [b"", b"\x30", b"\x30\x84\xff\xff\xff\xff", b"\x30\x03\x02\x01\x05", b"not DER at all"]
)
def test_octets_that_are_no_certificate_match_nothing(octets):
    assert mismatch([octets], TlsaRecord(3, 1, 1, b"\0" * 32), TlsaRecord(2, 0, 0, b"x"))
    assert mismatch([], TlsaRecord(3, 1, 1, b"\0" * 32)) == "the host sent no certificate"


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
    ],
    ids=["P-384", "Ed25519", "RSA"],
)
def test_the_key_is_cut_out_as_it_was_written(key):
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x" * 60)])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 2**100, NOW, NOW + timedelta(days=1))
    certificate = builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256())

    cut = dane.public_key_info(certificate.public_bytes(Encoding.DER))

    assert cut == key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("record", "is_usable"),
    [
        (TlsaRecord(3, 1, 1, b"x" * 32), True),
        (TlsaRecord(2, 0, 2, b"x" * 64), True),
        (TlsaRecord(2, 0, 0, b"x"), True),
        (TlsaRecord(0, 1, 1, b"x" * 32), False),
        (TlsaRecord(1, 1, 1, b"x" * 32), False),
        (TlsaRecord(255, 1, 1, b"x" * 32), False),
        (TlsaRecord(3, 2, 1, b"x" * 32), False),
        (TlsaRecord(3, 1, 3, b"x" * 32), False),
        (TlsaRecord(3, 1, 1, b"x" * 31), False),
        (TlsaRecord(3, 1, 2, b"x" * 32), False),
        (TlsaRecord(3, 1, 0, b""), False),
    ],
)
def test_records_that_smtp_does_not_know_are_unusable(record, is_usable):
    assert dane.usable([record]) == ((record,) if is_usable else ())


# Finding records


RECORD = TlsaRecord(3, 1, 1, b"x" * 32)


@pytest.mark.parametrize(
    ("trust", "is_validating", "is_secure"),
    [
        (Trust.LOOPBACK, True, True),
        (Trust.ANYBODY, True, True),
        (Trust.LOOPBACK, False, False),
        (Trust.NOBODY, True, False),
    ],
)
async def test_records_count_only_where_validation_is_trusted(trust, is_validating, is_secure):
    async with FakeDns(zone(RECORD), is_validating=is_validating) as dns:
        resolver = Resolver(dns.address, trust=trust)
        hosts = await find_mx_hosts("acme.test", resolver)

        assert isinstance(hosts, MxHosts)
        assert hosts.is_secure is is_secure
        assert await dane.find_tlsa(NAME, 25, resolver) == (NAME, [RECORD] if is_secure else [])


async def test_records_of_a_host_in_an_unsigned_zone_are_not_even_asked_for():
    async with FakeDns(zone(RECORD), is_validating=True, unsigned=[NAME]) as dns:
        assert await dane.find_tlsa(NAME, 25, Resolver(dns.address, trust=Trust.LOOPBACK)) == (NAME, [])

        assert dns.count(f"_25._tcp.{NAME}") == 0


async def test_unsigned_records_of_a_signed_host_are_ignored():
    async with FakeDns(zone(RECORD), is_validating=True, unsigned=[f"_25._tcp.{NAME}"]) as dns:
        assert await dane.find_tlsa(NAME, 25, Resolver(dns.address, trust=Trust.LOOPBACK)) == (NAME, [])


async def test_a_signed_host_without_records_has_none():
    async with FakeDns(zone(), is_validating=True) as dns:
        assert await dane.find_tlsa(NAME, 25, Resolver(dns.address, trust=Trust.LOOPBACK)) == (NAME, [])


@pytest.mark.parametrize("behaviour", [Behaviour.SERVFAIL, Behaviour.REFUSED, Behaviour.GARBAGE])
async def test_records_of_a_signed_host_that_cannot_be_had_are_a_failure(behaviour):
    behaviours = {f"_25._tcp.{NAME}": behaviour}
    async with FakeDns(zone(RECORD), is_validating=True, behaviours=behaviours) as dns:
        with pytest.raises(DnsFailure) as caught:
            await dane.find_tlsa(NAME, 25, Resolver(dns.address, timeout=0.2, trust=Trust.LOOPBACK))

    assert caught.value.is_transient


@pytest.mark.parametrize(("where", "found_under"), [("real.acme.test", "real.acme.test"), (NAME, NAME)])
async def test_an_alias_may_have_its_records_at_either_end(where, found_under):
    others = {"real.acme.test": {"A": ["127.0.0.1"]}, f"_25._tcp.{where}": {"TLSA": [str(RECORD)]}}
    async with FakeDns(zone() | {NAME: {"CNAME": ["real.acme.test."]}} | others, is_validating=True) as dns:
        found = await dane.find_tlsa(NAME, 25, Resolver(dns.address, trust=Trust.LOOPBACK))

    assert found == (found_under, [RECORD])


async def test_an_alias_into_an_unsigned_zone_has_no_records():
    others = {NAME: {"CNAME": ["real.test."]}, "real.test": {"A": ["127.0.0.1"]}}
    behaviours = {NAME: Behaviour.ALIAS_ONLY}
    async with FakeDns(zone(RECORD) | others, is_validating=True, unsigned=["real.test"], behaviours=behaviours) as dns:
        assert await dane.find_tlsa(NAME, 25, Resolver(dns.address, trust=Trust.LOOPBACK)) == (NAME, [])


# What follows for hops


async def hops_with_policies(
    dns: FakeDns, port: int = 25, *, ours: TlsPolicy = OURS, uses_dane: bool = True
) -> tuple[list[Hop] | Reply, list[str]]:
    """As a conversation asks for them."""
    resolver = Resolver(dns.address, trust=Trust.LOOPBACK)
    chooser = TlsChooser(resolver, sts=None, uses_dane=uses_dane, ca_file=None)
    mx_hosts = await find_mx_hosts("acme.test", resolver)
    assert isinstance(mx_hosts, MxHosts)
    hops = await find_hops(mx_hosts, resolver, port=port, guard=LOOPBACK)
    assert isinstance(hops, list)
    notes: list[str] = []
    return await chooser.for_hops(hops, Chosen(mx_hosts, ours), note=notes.append), notes


@pytest.mark.parametrize("ours", [OURS, ENFORCED])
async def test_records_make_a_policy_of_the_hosts_own(ours):
    async with FakeDns(zone(RECORD), is_validating=True) as dns:
        hops, _ = await hops_with_policies(dns, ours=ours)

    policy = TlsPolicy(TlsMode.REQUIRED, tlsa=(RECORD,), names=(NAME, "acme.test"))
    assert hops == [Hop(NAME, 25, "127.0.0.1", NAME, tls=policy)]
    assert str(replace(policy, source=TlsSource.DANE)) == "TLS policy: required, certificate by 1 TLSA record (DANE)"


@pytest.mark.parametrize(("ours", "mode"), [(OURS, TlsMode.REQUIRED), (ENFORCED, None)])
async def test_unusable_records_make_tls_a_must_but_authenticate_nobody(ours, mode):
    async with FakeDns(zone(TlsaRecord(1, 1, 1, b"x" * 32)), is_validating=True) as dns:
        hops, _ = await hops_with_policies(dns, ours=ours)

    assert isinstance(hops, list)
    assert hops[0].tls == (TlsPolicy(mode) if mode else None)


@pytest.mark.parametrize(
    ("unsigned", "ours", "uses_dane"),
    [(["acme.test"], OURS, True), ([NAME], OURS, True), ([], TlsPolicy(TlsMode.NONE), True), ([], OURS, False)],
)
async def test_without_security_all_the_way_nothing_changes(unsigned, ours, uses_dane):
    async with FakeDns(zone(RECORD), is_validating=True, unsigned=unsigned) as dns:
        hops, _ = await hops_with_policies(dns, ours=ours, uses_dane=uses_dane)

        assert hops == [Hop(NAME, 25, "127.0.0.1", NAME)]
        assert dns.count(f"_25._tcp.{NAME}") == 0


async def test_a_host_whose_records_cannot_be_had_is_passed_over():
    records = zone() | {
        "acme.test": {"MX": [f"10 {NAME}.", "20 mx2.acme.test."]},
        "mx2.acme.test": {"A": ["127.0.0.2"]},
    }
    async with FakeDns(records, is_validating=True, behaviours={f"_25._tcp.{NAME}": Behaviour.SERVFAIL}) as dns:
        hops, notes = await hops_with_policies(dns)

    assert hops == [Hop("mx2.acme.test", 25, "127.0.0.2", "mx2.acme.test")]
    assert notes == [f"{NAME}[127.0.0.1]:25 is not used: its TLSA records could not be looked up (servfail)"]


async def test_when_no_host_is_left_the_reply_is_transient():
    async with FakeDns(zone(), is_validating=True, behaviours={f"_25._tcp.{NAME}": Behaviour.SERVFAIL}) as dns:
        reply, _ = await hops_with_policies(dns)

    assert isinstance(reply, Reply)
    assert (reply.code, reply.enhanced, reply.phase, reply.origin) == (451, "4.7.5", Phase.STARTTLS, Origin.TLS)


# On the wire


def pool() -> ConnectionPool:
    return ConnectionPool(source_address=None, ehlo_name="relay.test", timeouts=TIMEOUTS, broken_tls=BrokenTls())


@pytest.mark.parametrize("usage", [2, 3])
async def test_a_host_whose_certificate_matches_gets_its_mail(usage, authority):
    context = authority.server_context("whatever.test" if usage == 3 else NAME, sends_authority=True)
    published = authority.certificate if usage == 2 else authority.certificate_of("whatever.test")
    async with SmtpPeer(tls=context) as peer, FakeDns(is_validating=True) as dns:
        dns.records.update(zone(tlsa(published, usage), port=peer.port))
        hops, _ = await hops_with_policies(dns, peer.port)
        assert isinstance(hops, list)
        transcript, connections = Transcript(), pool()

        session = await connections.acquire(hops, tls=OURS, transcript=transcript)
        delivery = await deliver(session, transcript=transcript)
        connections.release(session)
        again = await connections.acquire(hops, tls=OURS, transcript=transcript)
        await deliver(again, transcript=transcript)

        assert delivery.reply.code == 250
        assert again is session
        said = texts(transcript)
        assert said.count("* TLS policy: required, certificate by 1 TLSA record (DANE)") == 2
        assert f"* the certificate matches TLSA {tlsa(published, usage)}" in said
        connections.release(again)
        await connections.close_all()


@pytest.mark.parametrize("trouble", ["another certificate", "no tls", "broken handshake"])
async def test_a_host_that_does_not_match_gets_nothing_and_it_is_transient(trouble, authority):
    context = None if trouble == "no tls" else authority.server_context(NAME)
    script = {"starttls": [["220 go", "this is no handshake"]]} if trouble == "broken handshake" else {}
    async with SmtpPeer(tls=context, **script) as peer, FakeDns(is_validating=True) as dns:
        dns.records.update(zone(RECORD, port=peer.port))
        hops, _ = await hops_with_policies(dns, peer.port)
        assert isinstance(hops, list)

        with pytest.raises(SessionFailed) as caught:
            await pool().acquire(hops, tls=OURS, transcript=Transcript())
        await peer.connections[0].is_closed.wait()

        assert len(peer.connections) == 1  # not again without TLS
        assert "MAIL" not in peer.connections[0].verbs
    assert caught.value.kind is FailureKind.TLS
    assert (caught.value.reply.code, caught.value.reply.enhanced) == (451, "4.7.5")
    assert caught.value.reply.origin is Origin.TLS


async def test_a_trust_anchor_sent_by_somebody_else_is_of_no_use(authority, tmp_path):
    impostor = Authority.make(tmp_path)
    context = impostor.server_context(NAME, sends_authority=True)
    async with SmtpPeer(tls=context) as peer, FakeDns(is_validating=True) as dns:
        dns.records.update(zone(tlsa(authority.certificate, 2), port=peer.port))
        hops, _ = await hops_with_policies(dns, peer.port)
        assert isinstance(hops, list)

        with pytest.raises(SessionFailed) as caught:
            await pool().acquire(hops, tls=OURS, transcript=Transcript())

    assert "no TLSA record of the host matches its certificate" in caught.value.reply.text
