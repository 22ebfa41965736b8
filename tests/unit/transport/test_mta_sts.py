from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest

from delivery.core.reply import Origin, Phase, Reply
from delivery.dns import Resolver
from delivery.transport.guard import DestinationGuard
from delivery.transport.hops import MxHost, MxHosts
from delivery.transport.mta_sts import (
    ABSENCE_SECONDS,
    MAX_AGE_SECONDS,
    MAX_POLICY_OCTETS,
    PAUSE_AFTER_FAILURE_SECONDS,
    PolicyFetcher,
    PolicyUnavailable,
    StsMode,
    StsPolicies,
    StsPolicy,
    announced_id,
    parse_policy,
)
from delivery.transport.session import SessionFailed
from delivery.transport.tls_choice import Chosen, TlsChooser
from delivery.transport.tls_policy import TlsMode, TlsPolicy, TlsSource
from delivery.transport.transcript import Transcript
from delivery.transport.wire import FailureKind
from tests.support.certificates import Authority
from tests.support.dns_server import Behaviour, FakeDns
from tests.support.policy_server import PolicyServer, policy_response
from tests.support.smtp_client import deliver, hop_to, open_session, texts
from tests.support.smtp_peer import SmtpPeer

HOST = "mta-sts.acme.test"
ENFORCED = policy_response("version: STSv1", "mode: enforce", "mx: mx.acme.test", "mx: *.mail.test", "max_age: 86400")
LOOPBACK = DestinationGuard([ip_network("127.0.0.0/8")])
OURS = TlsPolicy(TlsMode.OPPORTUNISTIC, source=TlsSource.PROVIDER_GROUP)


def records(policy_id: str | None = "one", **others) -> dict:
    txt = {} if policy_id is None else {"_mta-sts.acme.test": {"TXT": [f'"v=STSv1; id={policy_id};"']}}
    return {HOST: {"A": ["127.0.0.1"]}, **txt, **others}


def mx_hosts(*names: str) -> MxHosts:
    return MxHosts("acme.test", tuple(MxHost(10, name) for name in names))


class MemoryStore:
    """What the database does for all workers."""

    def __init__(self, *policies: StsPolicy) -> None:
        self.rows = {policy.domain: policy for policy in policies}
        self.loads = 0

    async def load(self, domain: str) -> StsPolicy | None:
        self.loads += 1
        return self.rows.get(domain)

    async def save(self, policy: StsPolicy) -> None:
        self.rows[policy.domain] = policy


class Clock:
    """One time for everything: a moment for policies, seconds for pauses and the DNS."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def __call__(self) -> float:
        return self.seconds


@dataclass
class World:
    dns: FakeDns
    server: PolicyServer
    store: MemoryStore
    clock: Clock
    policies: StsPolicies
    resolver: Resolver

    async def of(self, domain: str = "acme.test") -> StsPolicy | None:
        self.notes: list[str] = []
        return await self.policies.of(domain, note=self.notes.append)

    def chooser(self, authority: Authority) -> TlsChooser:
        return TlsChooser(self.resolver, sts=self.policies, uses_dane=False, ca_file=str(authority.ca_file))

    def restarted(self) -> World:
        """A worker that knows only what is stored."""
        fetcher = self.policies._fetcher
        policies = StsPolicies(self.resolver, fetcher, self.store, now=self.clock.now, clock=self.clock)
        return replace(self, policies=policies)


@asynccontextmanager
async def world(
    authority: Authority,
    answer: bytes | None = ENFORCED,
    *,
    zone: dict | None = None,
    certificate: str = HOST,
    guard: DestinationGuard = LOOPBACK,
    ca_file: str | None = "given",
    within: float = 5,
    stored: StsPolicy | None = None,
) -> AsyncIterator[World]:
    clock = Clock()
    async with (
        FakeDns(records() if zone is None else zone, ttl=60) as dns,
        PolicyServer(authority.server_context(certificate), answer) as server,
    ):
        resolver = Resolver(dns.address, clock=clock)
        ca = str(authority.ca_file) if ca_file == "given" else ca_file
        fetcher = PolicyFetcher(resolver, guard, port=server.port, ca_file=ca, within=within)
        store = MemoryStore(*([stored] if stored else []))
        policies = StsPolicies(resolver, fetcher, store, now=clock.now, clock=clock)
        yield World(dns, server, store, clock, policies, resolver)


def stored_policy(policy_id: str = "one", mode: StsMode = StsMode.ENFORCE, *, hours: int = 10) -> StsPolicy:
    now = Clock().now()
    return StsPolicy(
        "acme.test", policy_id, mode, ("mx.acme.test",), now - timedelta(hours=1), now + timedelta(hours=hours)
    )


# Reading


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["v=STSv1; id=20240101T000000;"], "20240101T000000"),
        (["v=STSv1;id=1"], "1"),
        (["something else", "v=STSv1; x=y; id=abc ;"], "abc"),
        (["v=STSv1; id=1;", "v=STSv1; id=2;"], None),
        (["v=STSv1; id=;"], None),
        (["v=STSv1; id=a-b;"], None),
        (["v=STSv1; id=" + "a" * 33], None),
        (["v=STSv2; id=1"], None),
        ([], None),
    ],
)
def test_the_txt_record_announces_a_policy(texts, expected):
    assert announced_id(texts) == expected


def test_a_policy_is_read():
    text = parse_policy(
        b"version: STSv1\r\nmode: testing\nmx:MX.acme.test.\nmx: *.acme.test\nunknown: x\nmode: none\nmax_age: 99999999\n\n"
    )

    assert text.mode is StsMode.TESTING
    assert text.mx == ("mx.acme.test", "*.acme.test")
    assert text.max_age == timedelta(seconds=MAX_AGE_SECONDS)


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"<html>not found</html>",
        b"version: STSv2\nmode: none\nmax_age: 1\n",
        b"version: STSv1\nmode: strict\nmx: a.test\nmax_age: 1\n",
        b"version: STSv1\nmode: enforce\nmax_age: 1\n",
        b"version: STSv1\nmode: enforce\nmx: *\nmax_age: 1\n",
        b"version: STSv1\nmode: enforce\nmx: a.*.test\nmax_age: 1\n",
        b"version: STSv1\nmode: enforce\nmx: a.test\n",
        b"version: STSv1\nmode: enforce\nmx: a.test\nmax_age: -1\n",
        b"version: STSv1\nmode: enforce\nmx: a.test\nmax_age: " + "１".encode() + b"\n",
        b"version: STSv1\nmode: none\nmax_age: 1\n\xff",
    ],
)
def test_what_is_no_policy_is_refused(octets):
    with pytest.raises(PolicyUnavailable):
        parse_policy(octets)


@pytest.mark.parametrize(
    ("host", "is_named"),
    [
        ("mx.acme.test", True),
        ("a.mail.test", True),
        ("a.b.mail.test", False),
        ("mail.test", False),
        ("xmx.acme.test", False),
        ("mx.acme.test.evil.test", False),
    ],
)
def test_a_star_stands_for_one_label(host, is_named):
    policy = replace(stored_policy(), mx=("mx.acme.test", "*.mail.test"))

    assert policy.names(host) is is_named


# Fetching


async def test_a_policy_is_fetched_from_the_policy_host(authority):
    async with world(authority) as it:
        policy = await it.of()

        assert policy is not None
        assert (policy.mode, policy.mx) == (StsMode.ENFORCE, ("mx.acme.test", "*.mail.test"))
        assert policy.expires_at == it.clock.now() + timedelta(days=1)
        request = it.server.requests[0]
        assert request[0] == b"GET /.well-known/mta-sts.txt HTTP/1.1"
        assert f"Host: {HOST}:{it.server.port}".encode() in request
        assert b"Accept-Encoding: identity" in request
        assert it.store.rows == {"acme.test": policy}


async def test_a_domain_that_announces_none_has_none_and_nobody_is_called(authority):
    async with world(authority, zone=records(None)) as it:
        assert await it.of() is None

        assert it.server.connections == 0


@pytest.mark.parametrize(
    ("answer", "note"),
    [
        (policy_response(status="404 Not Found"), "answers 404"),
        (policy_response(status="302 Found", extra="Location: https://mta-sts.acme.test/other\r\n"), "answers 302"),
        (policy_response(status="301 Moved Permanently", extra="Location: https://127.0.0.1/\r\n"), "answers 301"),
        (policy_response("version: STSv1", "mode: none", "max_age: 1", content_type="text/html"), "text/html"),
        (
            policy_response("version: STSv1", "mode: none", "max_age: 1", *["x" * 60] * 1100),
            f"{MAX_POLICY_OCTETS} octets",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n" + b"x: y\r\n" * 20_000, f"{MAX_POLICY_OCTETS} octets"),
        (policy_response("hello"), "malformed"),
        (b"220 I am no web server\r\n", "could not be fetched"),
    ],
)
async def test_an_answer_that_is_no_policy_is_noted_and_mail_goes_as_ever(answer, note, authority):
    async with world(authority, answer) as it:
        assert await it.of() is None

        assert note in it.notes[0]
        assert it.server.connections == 1  # no redirect is followed
        assert it.store.rows == {}


async def test_a_policy_host_that_never_answers_is_given_up(authority):
    async with world(authority, None, within=0.3) as it:
        assert await it.of() is None

        assert it.notes == ["MTA-STS: not fetched within 0.3 seconds"]


@pytest.mark.parametrize(("certificate", "ca_file"), [("acme.test", "given"), (HOST, None)])
async def test_the_policy_host_must_have_a_trusted_certificate_for_its_name(certificate, ca_file, authority):
    async with world(authority, certificate=certificate, ca_file=ca_file) as it:
        assert await it.of() is None

        assert "certificate is not trusted" in it.notes[0]
        assert it.server.requests == []


@pytest.mark.parametrize(
    "addresses",
    [
        {"A": ["127.0.0.1"]},
        {"A": ["198.41.0.4", "127.0.0.1"]},
        {"A": ["169.254.169.254"]},
        {"AAAA": ["::ffff:127.0.0.1"]},
    ],
)
async def test_a_policy_host_with_an_address_inside_is_never_dialled(addresses, authority):
    async with world(authority, zone=records() | {HOST: addresses}, guard=DestinationGuard()) as it:
        assert await it.of() is None

        assert "not dialled" in it.notes[0]
        assert it.server.connections == 0


async def test_the_policy_host_is_looked_up_once(authority):
    async with world(authority) as it:
        await it.of()

        assert it.dns.count(HOST, "A") == 1
        assert it.dns.count(HOST, "AAAA") == 1


@pytest.mark.parametrize("zone", [{HOST: {}}, {HOST: {"CNAME": ["gone.test."]}}])
async def test_a_policy_host_without_an_address_has_no_policy(zone, authority):
    async with world(authority, zone=records() | zone) as it:
        assert await it.of() is None
        assert it.notes[0].startswith("MTA-STS: ")


# Remembering


async def test_it_is_fetched_once_for_many(authority):
    async with world(authority) as it:
        answers = await asyncio.gather(*(it.policies.of("acme.test") for _ in range(20)))

        assert len(set(answers)) == 1
        assert it.server.connections == 1
        assert await it.of() == answers[0]
        assert it.server.connections == 1


async def test_a_new_id_brings_a_new_policy(authority):
    async with world(authority) as it:
        await it.of()
        it.dns.records["_mta-sts.acme.test"] = {"TXT": ['"v=STSv1; id=two"']}
        it.server.answer = policy_response("version: STSv1", "mode: none", "max_age: 86400")
        it.clock.seconds += 61  # the TTL of the record

        policy = await it.of()

        assert policy is not None
        assert (policy.policy_id, policy.mode) == ("two", StsMode.NONE)


async def test_the_old_policy_holds_when_the_new_one_cannot_be_had(authority):
    async with world(authority) as it:
        old = await it.of()
        it.dns.records["_mta-sts.acme.test"] = {"TXT": ['"v=STSv1; id=two"']}
        it.server.answer = policy_response(status="500 Oops")
        it.clock.seconds += 61

        assert await it.of() == old
        assert it.notes == ["MTA-STS: the policy host answers 500"]


@pytest.mark.parametrize("behaviour", [Behaviour.NXDOMAIN, Behaviour.SERVFAIL, Behaviour.REFUSED])
async def test_a_policy_holds_although_its_record_was_taken_away_and_across_a_restart(behaviour, authority):
    async with world(authority) as it:
        known = await it.of()
        it.dns.behaviours["_mta-sts.acme.test"] = behaviour
        it.clock.seconds += 3600

        assert await it.of() == known
        assert await it.restarted().of() == known
        assert it.server.connections == 1


async def test_a_policy_ends_when_it_said(authority):
    async with world(authority) as it:
        await it.of()
        it.dns.behaviours["_mta-sts.acme.test"] = Behaviour.NXDOMAIN
        it.clock.seconds += 86_400

        assert await it.of() is None


async def test_an_announced_policy_that_ran_out_is_fetched_again(authority):
    async with world(authority) as it:
        await it.of()
        it.clock.seconds += 86_401

        policy = await it.of()

        assert policy is not None
        assert policy.fetched_at == it.clock.now()


async def test_what_another_worker_has_stored_need_not_be_fetched(authority):
    async with world(authority, stored=stored_policy()) as it:
        assert await it.of() == stored_policy()

        assert it.server.connections == 0


async def test_after_a_failure_there_is_a_pause(authority):
    async with world(authority, policy_response(status="500 Oops")) as it:
        await it.of()
        it.server.answer = ENFORCED
        it.clock.seconds += PAUSE_AFTER_FAILURE_SECONDS - 1

        assert await it.of() is None
        assert it.notes == ["MTA-STS: the policy host answers 500"]
        it.clock.seconds += 2
        assert await it.of() is not None
        assert it.notes == []


async def test_a_policy_in_use_is_refreshed_in_the_background(authority):
    long = policy_response("version: STSv1", "mode: enforce", "mx: mx.acme.test", "max_age: 604800")
    async with world(authority, long) as it:
        old = await it.of()
        it.clock.seconds += 86_401

        assert await it.of() == old
        await asyncio.gather(*it.policies._fetching.values())
        new = await it.of()

        assert new is not None
        assert new.fetched_at == it.clock.now()


async def test_a_domain_without_a_policy_costs_one_look_into_the_store(authority):
    async with world(authority, zone=records(None)) as it:
        for _ in range(5):
            await it.of()

        assert it.store.loads == 1
        it.clock.seconds += ABSENCE_SECONDS + 1
        await it.of()
        assert it.store.loads == 2


async def test_memory_is_bounded(authority):
    async with world(authority, zone={}) as it:
        policies = StsPolicies(it.resolver, it.policies._fetcher, it.store, max_domains=2)
        for name in "abcab":
            await policies.of(f"{name}.test")

        assert it.store.loads == 5
        await policies.of("b.test")
        assert it.store.loads == 5


# What follows for mail


async def choice(it: World, authority: Authority, hosts: MxHosts, ours: TlsPolicy = OURS) -> Chosen | Reply:
    it.notes = []
    return await it.chooser(authority).for_domain(hosts, ours, note=it.notes.append)


async def test_enforced_leaves_only_named_hosts_and_verifies_them(authority):
    async with world(authority) as it:
        chosen = await choice(it, authority, mx_hosts("other.test", "mx.acme.test", "a.mail.test"))

        assert isinstance(chosen, Chosen)
        assert chosen.mx_hosts.names == ("mx.acme.test", "a.mail.test")
        assert (chosen.tls.mode, chosen.tls.source) == (TlsMode.VERIFIED, TlsSource.MTA_STS)
        assert it.notes == ["MTA-STS policy one does not name other.test"]


async def test_enforced_without_a_named_host_is_a_transient_reply(authority):
    async with world(authority) as it:
        reply = await choice(it, authority, mx_hosts("mx.evil.test"))

        assert isinstance(reply, Reply)
        assert (reply.code, reply.enhanced, reply.phase, reply.origin) == (451, "4.7.5", Phase.STARTTLS, Origin.TLS)


@pytest.mark.parametrize("mode", [StsMode.TESTING, StsMode.NONE])
async def test_other_modes_change_nothing(mode, authority):
    async with world(authority, stored=stored_policy(mode=mode)) as it:
        chosen = await choice(it, authority, mx_hosts("other.test", "mx.acme.test"))

        assert chosen == Chosen(mx_hosts("other.test", "mx.acme.test"), OURS)
        noted = ["MTA-STS policy one, testing: it does not name other.test"]
        assert it.notes == (noted if mode is StsMode.TESTING else [])


async def test_where_tls_is_switched_off_nobody_is_asked(authority):
    async with world(authority) as it:
        chosen = await choice(it, authority, mx_hosts("other.test"), TlsPolicy(TlsMode.NONE))

        assert isinstance(chosen, Chosen)
        assert it.dns.questions == []


@pytest.mark.parametrize("trouble", ["wrong name", "no tls", "unknown authority", None])
async def test_an_enforced_policy_decides_whether_the_host_gets_mail(trouble, authority, tmp_path):
    issuer = Authority.make(tmp_path) if trouble == "unknown authority" else authority
    context = issuer.server_context("other.test" if trouble == "wrong name" else "mx.acme.test")
    async with world(authority) as it, SmtpPeer(tls=None if trouble == "no tls" else context) as peer:
        chosen = await choice(it, authority, mx_hosts("mx.acme.test"))
        assert isinstance(chosen, Chosen)
        transcript = Transcript()
        opening = open_session(hop_to(peer), tls=chosen.tls, transcript=transcript)
        if trouble is None:
            session = await opening
            assert (await deliver(session)).reply.code == 250
            session.close()
            assert "* TLS policy: verified (MTA-STS)" in texts(transcript)
            assert "* the certificate is trusted for mx.acme.test" in texts(transcript)
        else:
            with pytest.raises(SessionFailed) as caught:
                await opening
            assert caught.value.kind is FailureKind.TLS
            assert caught.value.reply.is_transient
            assert caught.value.reply.enhanced == "4.7.5"
            await peer.connections[0].is_closed.wait()
            assert "MAIL" not in peer.connections[0].verbs
