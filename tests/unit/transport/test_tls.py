from __future__ import annotations

import ssl
import warnings

import pytest

from delivery.core.reply import Origin, Phase
from delivery.transport.session import Login, SessionFailed
from delivery.transport.tls_policy import BROKEN_TLS_SECONDS, BrokenTls, TlsMode, TlsPolicy
from delivery.transport.transcript import Transcript
from delivery.transport.wire import FailureKind
from tests.support.certificates import Authority
from tests.support.smtp_client import CONTENT, IMPATIENT, deliver, hop_to, open_session, texts
from tests.support.smtp_peer import AcceptTls, Close, Raw, Silence, SmtpPeer

NAME = "mx.acme.test"
LOGIN = Login("alice", "correct horse")
ALL_MODES = [TlsMode.OPPORTUNISTIC, TlsMode.REQUIRED, TlsMode.VERIFIED]


def policy(mode: TlsMode, authority: Authority) -> TlsPolicy:
    return TlsPolicy(mode, str(authority.ca_file))


async def failure_of(opening) -> SessionFailed:
    with pytest.raises(SessionFailed) as caught:
        await opening
    return caught.value


@pytest.mark.parametrize("mode", ALL_MODES)
async def test_it_encrypts_and_greets_again(mode, authority):
    async with SmtpPeer(tls=authority.server_context(NAME)) as peer:
        transcript = Transcript()

        session = await open_session(peer, tls=policy(mode, authority), transcript=transcript)
        delivery = await deliver(session)

        assert delivery.reply.code == 250
        assert peer.connections[0].is_tls
        assert peer.connections[0].verbs == ["EHLO", "STARTTLS", "EHLO", "MAIL", "RCPT", "DATA"]
        assert peer.connections[0].contents == [CONTENT]
        assert session.tls_version == "TLSv1.3"
        assert session.tls_cipher
        assert f"* TLSv1.3, {session.tls_cipher}" in texts(transcript)
        session.close()


async def test_large_content_goes_through_tls(authority):
    content = b"a line of text\r\n" * 300_000
    async with SmtpPeer(tls=authority.server_context(NAME)) as peer:
        session = await open_session(peer, tls=TlsPolicy())

        assert (await deliver(session, [content])).reply.code == 250
        assert peer.connections[0].contents == [content]
        await session.quit()
        assert peer.connections[0].verbs[-1] == "QUIT"


async def test_what_was_offered_in_plain_text_is_forgotten(authority):
    ehlos = ["250-peer\r\n250-STARTTLS\r\n250-SMTPUTF8\r\n250 PIPELINING", "250-peer\r\n250 8BITMIME"]
    async with SmtpPeer(tls=authority.server_context(NAME), ehlo=ehlos) as peer:
        session = await open_session(peer, tls=TlsPolicy())

        assert (session.has_8bitmime, session.has_smtputf8, session.has_pipelining) == (True, False, False)
        session.close()


async def test_without_tls_asked_for_none_is_begun(authority):
    async with SmtpPeer(tls=authority.server_context(NAME)) as peer:
        session = await open_session(peer, tls=TlsPolicy(TlsMode.NONE))

        assert peer.connections[0].verbs == ["EHLO"]
        session.close()


async def test_opportunistic_goes_on_in_plain_text_where_tls_is_not_offered():
    async with SmtpPeer() as peer:
        session = await open_session(peer, tls=TlsPolicy(TlsMode.OPPORTUNISTIC))

        assert (await deliver(session)).reply.code == 250
        session.close()


@pytest.mark.parametrize("mode", [TlsMode.REQUIRED, TlsMode.VERIFIED])
async def test_a_host_without_tls_gets_nothing_where_tls_is_demanded(mode):
    async with SmtpPeer() as peer:
        failure = await failure_of(open_session(peer, tls=TlsPolicy(mode)))
        await peer.connections[0].is_closed.wait()

        assert "MAIL" not in peer.connections[0].verbs
    assert failure.kind is FailureKind.TLS
    assert (failure.reply.phase, failure.reply.enhanced) == (Phase.STARTTLS, "4.7.5")
    assert failure.reply.is_transient
    assert failure.reply.origin is Origin.TLS


async def test_a_helo_host_gets_nothing_where_tls_is_demanded():
    async with SmtpPeer(ehlo=["502 what?"]) as peer:
        failure = await failure_of(open_session(peer, tls=TlsPolicy(TlsMode.REQUIRED)))

    assert failure.kind is FailureKind.TLS


@pytest.mark.parametrize(
    "starttls",
    [
        "454 4.7.0 TLS not available",
        "501 5.5.4 no",
        ["220 go", Close],
        ["220 go", "this is not a handshake"],
        ["220 go", Raw(b"\x15\x03\x01\x00\x02\x02\x28")],  # a fatal alert: handshake failure
        Raw(b"220 go\r\n250 injected\r\n"),
        Raw(b"220 go\r\ninj"),
    ],
)
@pytest.mark.parametrize("mode", ALL_MODES)
async def test_broken_tls_is_a_failure_that_may_fall_back_only_if_opportunistic(starttls, mode, authority):
    async with SmtpPeer(tls=authority.server_context(NAME), starttls=[starttls]) as peer:
        transcript = Transcript()

        failure = await failure_of(open_session(peer, tls=policy(mode, authority), transcript=transcript))
        await peer.connections[0].is_closed.wait()

    assert failure.kind is (FailureKind.BROKEN_TLS if mode is TlsMode.OPPORTUNISTIC else FailureKind.TLS)
    assert (failure.reply.phase, failure.reply.origin) == (Phase.STARTTLS, Origin.TLS)
    assert failure.reply.is_transient
    assert texts(transcript)[-1] == f"* {failure.reply.text}"


async def test_plain_text_behind_the_reply_to_starttls_is_never_used(authority):
    injected = b"220 go\r\n250-evil\r\n250 AUTH PLAIN\r\n"
    async with SmtpPeer(tls=authority.server_context(NAME), starttls=[[Raw(injected), AcceptTls]]) as peer:
        failure = await failure_of(open_session(peer, tls=TlsPolicy(TlsMode.REQUIRED)))

    assert "sent plain text after the reply to STARTTLS" in failure.reply.text


async def test_421_at_starttls_is_no_broken_tls(authority):
    async with SmtpPeer(tls=authority.server_context(NAME), starttls=["421 4.3.2 too busy"]) as peer:
        failure = await failure_of(open_session(peer, tls=TlsPolicy()))

    assert failure.kind is FailureKind.ANSWERED
    assert failure.reply.line == "421 4.3.2 too busy"


async def test_a_handshake_that_never_ends_times_out(authority):
    async with SmtpPeer(tls=authority.server_context(NAME), starttls=[["220 go", Silence]]) as peer:
        failure = await failure_of(open_session(peer, tls=TlsPolicy(), timeouts=IMPATIENT))

    assert failure.kind is FailureKind.BROKEN_TLS


@pytest.mark.parametrize(
    ("certificate", "ca", "text"),
    [("other.test", "given", "certificate is not trusted"), (NAME, "system", "certificate is not trusted")],
)
async def test_a_certificate_must_be_trusted_and_bear_the_name_where_it_is_verified(certificate, ca, text, authority):
    tls = TlsPolicy(TlsMode.VERIFIED, str(authority.ca_file) if ca == "given" else None)
    async with SmtpPeer(tls=authority.server_context(certificate)) as peer:
        failure = await failure_of(open_session(peer, tls=tls))
        await peer.connections[0].is_closed.wait()

        assert peer.connections[0].verbs == ["EHLO", "STARTTLS"]
    assert failure.kind is FailureKind.TLS
    assert text in failure.reply.text


@pytest.mark.parametrize("mode", [TlsMode.OPPORTUNISTIC, TlsMode.REQUIRED])
async def test_the_certificate_is_not_looked_at_otherwise(mode, authority):
    async with SmtpPeer(tls=authority.server_context("other.test")) as peer:
        session = await open_session(peer, tls=TlsPolicy(mode))

        assert session.tls_version
        session.close()


@pytest.mark.parametrize(("mode", "is_accepted"), [(TlsMode.OPPORTUNISTIC, True), (TlsMode.REQUIRED, False)])
async def test_old_tls_is_better_than_none_but_not_where_tls_is_demanded(mode, is_accepted, authority):
    old = authority.server_context(NAME)
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with SmtpPeer(tls=old) as peer:
        if is_accepted:
            session = await open_session(peer, tls=TlsPolicy(mode))
            assert session.tls_version in ("TLSv1", "TLSv1.1")
            session.close()
        else:
            assert (await failure_of(open_session(peer, tls=TlsPolicy(mode)))).kind is FailureKind.TLS


async def test_missing_trusted_certificates_are_our_own_trouble(authority, tmp_path):
    async with SmtpPeer(tls=authority.server_context(NAME)) as peer:
        failure = await failure_of(open_session(peer, tls=TlsPolicy(TlsMode.VERIFIED, str(tmp_path / "gone.pem"))))

    assert failure.reply.is_transient
    assert "cannot be read" in failure.reply.text


@pytest.mark.parametrize("mode", ALL_MODES)
async def test_implicit_tls_begins_before_the_banner(mode, authority):
    async with SmtpPeer(tls=authority.server_context(NAME), has_implicit_tls=True) as peer:
        session = await open_session(hop_to(peer, has_implicit_tls=True), tls=policy(mode, authority))

        assert (await deliver(session)).reply.code == 250
        assert peer.connections[0].verbs == ["EHLO", "MAIL", "RCPT", "DATA"]
        session.close()


# Logins


async def test_it_logs_in_with_plain_over_tls_and_shows_no_secret(authority):
    async with SmtpPeer(tls=authority.server_context(NAME), extensions=["AUTH LOGIN PLAIN"]) as peer:
        transcript = Transcript()

        session = await open_session(peer, tls=TlsPolicy(), login=LOGIN, transcript=transcript)

        assert peer.connections[0].commands[-1] == b"AUTH PLAIN AGFsaWNlAGNvcnJlY3QgaG9yc2U="
        shown = "\n".join(texts(transcript))
        assert "> AUTH PLAIN ***" in shown
        assert "AGFsaWNl" not in shown
        assert "correct horse" not in repr(LOGIN)
        session.close()


async def test_it_logs_in_with_login_where_that_is_all(authority):
    tls = authority.server_context(NAME)
    auth = ["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "235 2.7.0 ok"]
    async with SmtpPeer(tls=tls, extensions=["AUTH=LOGIN"], auth=auth) as peer:
        transcript = Transcript()

        session = await open_session(peer, tls=TlsPolicy(), login=LOGIN, transcript=transcript)

        assert peer.connections[0].commands[-3:] == [b"AUTH LOGIN", b"YWxpY2U=", b"Y29ycmVjdCBob3JzZQ=="]
        assert texts(transcript)[-6:] == [
            "> AUTH LOGIN",
            "< 334 VXNlcm5hbWU6",
            "> ***",
            "< 334 UGFzc3dvcmQ6",
            "> ***",
            "< 235 2.7.0 ok",
        ]
        session.close()


async def test_a_long_secret_is_sent_after_the_challenge(authority):
    login = Login("alice", "x" * 600)
    tls = authority.server_context(NAME)
    async with SmtpPeer(tls=tls, extensions=["AUTH PLAIN"], auth=["334 ", "235 ok"]) as peer:
        session = await open_session(peer, tls=TlsPolicy(), login=login)

        assert peer.connections[0].commands[-2] == b"AUTH PLAIN"
        assert len(peer.connections[0].commands[-1]) > 800
        session.close()


@pytest.mark.parametrize("mode", [TlsMode.NONE, TlsMode.OPPORTUNISTIC])
async def test_a_login_is_never_said_without_tls(mode):
    async with SmtpPeer(extensions=["AUTH PLAIN LOGIN"]) as peer:
        failure = await failure_of(open_session(peer, tls=TlsPolicy(mode), login=LOGIN))
        await peer.connections[0].is_closed.wait()

        assert "AUTH" not in peer.connections[0].verbs
    assert failure.kind in (FailureKind.AUTH, FailureKind.TLS)
    assert failure.reply.is_transient


async def test_broken_tls_never_falls_back_with_a_login(authority):
    async with SmtpPeer(tls=authority.server_context(NAME), starttls=["454 no"]) as peer:
        failure = await failure_of(open_session(peer, tls=TlsPolicy(), login=LOGIN))

    assert failure.kind is FailureKind.TLS


async def test_a_refused_login_is_told_apart(authority):
    tls = authority.server_context(NAME)
    async with SmtpPeer(tls=tls, extensions=["AUTH PLAIN"], auth=["535 5.7.8 bad credentials"]) as peer:
        failure = await failure_of(open_session(peer, tls=TlsPolicy(), login=LOGIN))

    assert failure.kind is FailureKind.AUTH
    assert (failure.reply.phase, failure.reply.line) == (Phase.AUTH, "535 5.7.8 bad credentials")


async def test_a_host_without_a_way_to_log_in_is_transient(authority):
    async with SmtpPeer(tls=authority.server_context(NAME), extensions=["AUTH CRAM-MD5"]) as peer:
        failure = await failure_of(open_session(peer, tls=TlsPolicy(), login=LOGIN))

    assert failure.kind is FailureKind.AUTH
    assert failure.reply.is_transient


# Remembering


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_broken_tls_is_remembered_for_three_days():
    clock = Clock()
    broken = BrokenTls(clock=clock)

    broken.remember("192.0.2.1:25")

    assert broken.contains("192.0.2.1:25")
    assert not broken.contains("192.0.2.2:25")
    clock.now += BROKEN_TLS_SECONDS - 1
    assert broken.contains("192.0.2.1:25")
    clock.now += 2
    assert not broken.contains("192.0.2.1:25")


def test_the_memory_is_bounded():
    broken = BrokenTls(max_hosts=2)

    for host in ("a", "b", "a", "c"):
        broken.remember(host)

    assert [broken.contains(host) for host in "abc"] == [True, False, True]


def test_contexts_are_made_once():
    assert TlsPolicy().context() is TlsPolicy(ca_file="unused").context()
    assert TlsPolicy().context() is not TlsPolicy(TlsMode.REQUIRED).context()
