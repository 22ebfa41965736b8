"""What a receiving host can take, and what TLS its domain asks for, decide how a message is handed over."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.certificates import Authority
from tests.support.dns_server import FakeDns
from tests.support.engine_room import HOST, RECORDS, Room, World, mail
from tests.support.policy_server import PolicyServer, policy_response
from tests.support.smtp_peer import EXTENSIONS, SmtpPeer

NAME = "mx.far.test"
POLICY_HOST = "mta-sts.far.test"
TEXT = "ご注文ありがとうございます。\r\n"
STS_RECORDS = {
    **RECORDS,
    POLICY_HOST: {"A": ["127.0.0.1"]},
    "_mta-sts.far.test": {"TXT": ['"v=STSv1; id=one"']},
}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.make(tmp_path)


def japanese() -> bytes:
    return mail(
        "MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit", body=TEXT
    )


async def notes(room: Room, message_id: Any, attempt: int = 0) -> list[str]:
    transcript = json.loads((await room.attempts(message_id))[attempt].transcript)
    return [text for _, direction, text in transcript if direction == "*"]


async def test_a_host_without_8bitmime_gets_the_message_in_7_bit(world: World):
    extensions = [name for name in EXTENSIONS if name != "8BITMIME"]
    async with (
        Room(world) as room,
        SmtpPeer(host=HOST, at_port=room.port, extensions=extensions) as peer,
        room.engine(),
    ):
        message_id = await room.send("someone@far.test", content=japanese())

        await room.until_state(message_id, "delivered")

        (content,) = peer.connections[0].contents
        assert content.isascii()
        assert b"\r\nContent-Transfer-Encoding: base64\r\n" in content
        assert "converted to 7-bit content for this host" in await notes(room, message_id)
        assert "TLS policy: opportunistic (provider group)" in await notes(room, message_id)


async def test_a_host_with_8bitmime_gets_it_as_it_came(world: World):
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port) as peer, room.engine():
        message_id = await room.send("someone@far.test", content=japanese())

        await room.until_state(message_id, "delivered")

        assert peer.connections[0].contents[0].endswith(japanese())


@pytest.mark.parametrize(("mx", "certificate", "state"), [(NAME, NAME, "delivered"), (NAME, "other.test", "deferred")])
async def test_an_enforced_mta_sts_policy_asks_for_a_trusted_certificate(
    world: World, settings: Any, authority: Authority, mx: str, certificate: str, state: str
):
    answer = policy_response("version: STSv1", "mode: enforce", f"mx: {mx}", "max_age: 86400")
    settings.CA_FILE = str(authority.ca_file)
    async with (
        PolicyServer(authority.server_context(POLICY_HOST), answer) as server,
        Room(world, dns=FakeDns(STS_RECORDS, ttl=1)) as room,
        SmtpPeer(host=HOST, at_port=room.port, tls=authority.server_context(certificate)) as peer,
    ):
        settings.MTA_STS_PORT = server.port
        async with room.engine():
            message_id = await room.send("someone@far.test")

            recipient = await room.until_state(message_id, state)

            assert "TLS policy: verified (MTA-STS)" in await notes(room, message_id)
            (attempt, *_) = await room.attempts(message_id)
            assert (attempt.tls_version == "TLSv1.3") is (state == "delivered")
            assert recipient.reply_class == ("tls" if state == "deferred" else "")
            assert bool(peer.connections[0].contents) is (state == "delivered")


@pytest.mark.parametrize(
    ("asked", "certificate", "state"),
    [
        ("required", None, "deferred"),
        ("required", "other.test", "delivered"),
        ("verified", "other.test", "deferred"),
        ("verified", NAME, "delivered"),
    ],
)
async def test_a_mail_may_ask_for_more_tls_than_its_way_does(
    world: World, settings: Any, authority: Authority, asked: str, certificate: str | None, state: str
):
    settings.CA_FILE = str(authority.ca_file)
    tls = authority.server_context(certificate) if certificate else None
    async with (
        Room(world) as room,
        SmtpPeer(host=HOST, at_port=room.port, tls=tls) as peer,
        room.engine(),
    ):
        plain_id = await room.send("another@far.test")
        await room.until_state(plain_id, "delivered")
        message_id = await room.send("someone@far.test", content=mail(f"X-Relay-TLS: {asked}"))

        recipient = await room.until_state(message_id, state)

        assert f"TLS policy: {asked} (message)" in await notes(room, message_id)
        assert recipient.reply_class == ("tls" if state == "deferred" else "")
        sent = [content for connection in peer.connections for content in connection.contents]
        assert len(sent) == (2 if state == "delivered" else 1)
        assert not any(b"x-relay" in content.lower() for content in sent)


async def test_a_policy_outlives_the_worker_and_whoever_hides_it(world: World, settings: Any, authority: Authority):
    answer = policy_response("version: STSv1", "mode: enforce", "mx: elsewhere.far.test", "max_age: 86400")
    settings.CA_FILE = str(authority.ca_file)
    async with (
        PolicyServer(authority.server_context(POLICY_HOST), answer) as server,
        Room(world, dns=FakeDns(STS_RECORDS, ttl=1)) as room,
        SmtpPeer(host=HOST, at_port=room.port) as peer,
    ):
        settings.MTA_STS_PORT = server.port
        async with room.engine():
            await room.until_state(await room.send("someone@far.test"), "deferred")
        del room.dns.records["_mta-sts.far.test"], room.dns.records[POLICY_HOST]
        async with room.engine("worker-2"):
            message_id = await room.send("another@far.test")
            recipient = await room.until_state(message_id, "deferred")

        assert recipient.reply == "451 4.7.5 the MTA-STS policy of far.test names none of its mail hosts"
        assert (recipient.reply_class, recipient.phase) == ("tls", "starttls")
        assert peer.connections == []
        assert server.connections == 1
        (row,) = await room.rows("SELECT * FROM delivery_mta_sts_policy")
        assert (row.domain, row.policy_id, row.mode, row.mx) == ("far.test", "one", "enforce", ["elsewhere.far.test"])


async def test_an_expired_policy_is_swept_when_another_is_stored(world: World, settings: Any, authority: Authority):
    answer = policy_response("version: STSv1", "mode: testing", "mx: elsewhere.far.test", "max_age: 86400")
    settings.CA_FILE = str(authority.ca_file)
    async with (
        PolicyServer(authority.server_context(POLICY_HOST), answer) as server,
        Room(world, dns=FakeDns(STS_RECORDS, ttl=1)) as room,
        SmtpPeer(host=HOST, at_port=room.port),
    ):
        settings.MTA_STS_PORT = server.port
        await room.rows(
            """INSERT INTO delivery_mta_sts_policy (domain, policy_id, mode, mx, fetched_at, expires_at)
               SELECT name, 'old', 'enforce', '{x.test}', now() - interval '9 days', now() - interval '2 days'
               FROM unnest(ARRAY['far.test', 'gone.test']) AS name"""
        )
        async with room.engine():
            message_id = await room.send("someone@far.test")
            await room.until_state(message_id, "delivered")

        assert "MTA-STS policy one, testing: it does not name mx.far.test" in await notes(room, message_id)
        assert [row.policy_id for row in await room.rows("SELECT policy_id FROM delivery_mta_sts_policy")] == ["one"]


@pytest.mark.parametrize("published", ["the certificate", "another one"])
async def test_a_host_with_tlsa_records_must_have_the_certificate_they_name(
    world: World, settings: Any, authority: Authority, published: str
):
    settings.DNS_TRUST_AD = True
    context = authority.server_context("whatever.test")
    digest = hashlib.sha256(authority.certificate_of("whatever.test").public_bytes(Encoding.DER)).hexdigest()
    record = f"3 0 1 {digest if published == 'the certificate' else '00' * 32}"
    async with (
        Room(world, dns=FakeDns(RECORDS, ttl=1, is_validating=True)) as room,
        SmtpPeer(host=HOST, at_port=room.port, tls=context) as peer,
    ):
        room.dns.records[f"_{room.port}._tcp.{NAME}"] = {"TLSA": [record]}
        async with room.engine():
            message_id = await room.send("someone@far.test")
            state = "delivered" if published == "the certificate" else "deferred"

            recipient = await room.until_state(message_id, state)

            assert "TLS policy: required, certificate by 1 TLSA record (DANE)" in await notes(room, message_id)
            assert bool(peer.connections[0].contents) is (state == "delivered")
            if state == "delivered":
                assert f"the certificate matches TLSA {record}" in await notes(room, message_id)
            else:
                assert recipient.reply == "451 4.7.5 no TLSA record of the host matches its certificate"
                assert recipient.reply_class == "tls"
