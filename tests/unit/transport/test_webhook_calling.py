"""One call: where it may lead, what is read of its answer, and what it is called when something goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network

import pytest

from delivery.dns import Resolver
from delivery.models import WebhookOutcome
from delivery.transport.guard import DestinationGuard
from delivery.webhooks.calling import Answer, HttpCaller
from tests.support.certificates import Authority
from tests.support.dns_server import Behaviour, FakeDns
from tests.support.webhook_receiver import Call, Receiver, endless, hang, status

LOOPBACK = [ip_network("127.0.0.0/8")]


@asynccontextmanager
async def _caller(
    dns: FakeDns, *, allowed: bool = True, timeout_s: float = 2.0, ca_file: str | None = None
) -> AsyncIterator[HttpCaller]:
    guard = DestinationGuard(LOOPBACK if allowed else [])
    caller = HttpCaller(Resolver(dns.address), guard, timeout_s=timeout_s, any_port=True, ca_file=ca_file)
    try:
        yield caller
    finally:
        await caller.close()


async def _post(dns: FakeDns, url: str, **options: object) -> Answer:
    async with _caller(dns, **options) as caller:  # type: ignore[arg-type]
        return await caller.post(url, b"{}", {"Content-Type": "application/json", "webhook-id": "1"})


async def test_it_posts_and_gives_the_answer() -> None:
    async with FakeDns({"hooks.test": {"A": ["127.0.0.1"]}}) as dns, Receiver() as receiver:
        receiver.answers["/a"] = status(201, b"made", X_Thing="yes")

        answer = await _post(dns, receiver.url("/a", host="hooks.test"))

        assert (answer.outcome, answer.status, answer.body) == (WebhookOutcome.OK, 201, "made")
        assert answer.headers["X-Thing"] == "yes"
        assert answer.address == "127.0.0.1"
        (call,) = receiver.calls
        assert call.body == b"{}" and call.headers["host"] == f"hooks.test:{receiver.port}"
        assert call.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "[::1]", "localhost", "0.0.0.0", "2130706433", "127.1", "0x7f.1", "0177.0.0.1", "[::ffff:127.0.0.1]"],
)
async def test_without_leave_loopback_is_not_called_in_any_spelling(host: str) -> None:
    async with FakeDns({"localhost": {"A": ["127.0.0.1"], "AAAA": ["::1"]}}) as dns, Receiver() as receiver:
        answer = await _post(dns, f"http://{host}:{receiver.port}/", allowed=False)

        assert not answer.is_good
        assert receiver.connections == 0


@pytest.mark.parametrize(
    "address",
    ["10.0.0.7", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "168.63.129.16"],
)
async def test_a_name_that_leads_inside_is_not_called(address: str) -> None:
    async with FakeDns({"inside.test": {"A": [address]}}) as dns:
        answer = await _post(dns, "http://inside.test/")

        assert answer.outcome is WebhookOutcome.REFUSED
        assert address in answer.error


@pytest.mark.parametrize("address", ["::1", "fd00::1", "fe80::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::"])
async def test_nor_one_that_does_so_over_ipv6(address: str) -> None:
    async with FakeDns({"inside.test": {"AAAA": [address]}}) as dns:
        assert (await _post(dns, "http://inside.test/")).outcome is WebhookOutcome.REFUSED


async def test_one_address_inside_spoils_all_of_them() -> None:
    async with FakeDns({"mixed.test": {"A": ["127.0.0.1", "10.0.0.7"]}}) as dns, Receiver() as receiver:
        answer = await _post(dns, receiver.url(host="mixed.test"))

        assert answer.outcome is WebhookOutcome.REFUSED
        assert receiver.connections == 0


async def test_a_name_that_changes_after_the_check_gains_nothing() -> None:
    """DNS rebinding: what is dialled is what was checked, and at each new connection it is checked anew."""
    async with FakeDns({"rebind.test": {"A": ["127.0.0.1"]}}, ttl=0) as dns, Receiver() as receiver:
        receiver.answers["/"] = status(200, Connection="close")
        guard = DestinationGuard([ip_network("127.0.0.1/32")])
        caller = HttpCaller(Resolver(dns.address), guard, timeout_s=2, any_port=True)
        first = await caller.post(receiver.url(host="rebind.test"), b"{}", {})
        dns.records["rebind.test"] = {"A": ["127.0.0.2"]}  # stands for an address inside
        second = await caller.post(receiver.url(host="rebind.test"), b"{}", {})
        await caller.close()

        assert first.is_good
        assert second.outcome is WebhookOutcome.REFUSED
        assert len(receiver.calls) == 1


async def test_redirects_are_not_followed() -> None:
    async with FakeDns() as dns, Receiver() as receiver:
        receiver.answers["/"] = status(307, Location=receiver.url("/elsewhere"))

        answer = await _post(dns, receiver.url("/"))

        assert (answer.outcome, answer.status) == (WebhookOutcome.REDIRECT, 307)
        assert [call.path for call in receiver.calls] == ["/"]


async def test_an_endless_answer_is_read_to_its_bound() -> None:
    async with FakeDns() as dns, Receiver() as receiver:
        receiver.answers["/"] = endless

        answer = await _post(dns, receiver.url("/"))

        assert answer.outcome is WebhookOutcome.OK
        assert answer.is_body_cut
        assert len(answer.body) == 8192


async def test_an_endpoint_that_does_not_answer_is_given_up() -> None:
    async with FakeDns() as dns, Receiver() as receiver:
        receiver.answers["/"] = hang

        answer = await _post(dns, receiver.url("/"), timeout_s=0.2)

        assert answer.outcome is WebhookOutcome.TIMEOUT
        assert 150 <= answer.duration_ms < 30_000


async def test_a_host_without_an_address_and_a_name_server_that_fails_are_told() -> None:
    async with FakeDns(behaviours={"broken.test": Behaviour.SERVFAIL}) as dns:
        for host in ("nowhere.test", "broken.test"):
            answer = await _post(dns, f"http://{host}/")
            assert answer.outcome is WebhookOutcome.DNS
            assert host in answer.error


async def test_a_refused_connection_and_an_answer_that_is_none_are_told() -> None:
    async with FakeDns() as dns, Receiver() as receiver:

        async def nonsense(_call: Call, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mx.example ESMTP\r\n")
            writer.close()

        receiver.answers["/"] = nonsense

        assert (await _post(dns, receiver.url("/"))).outcome is WebhookOutcome.CONNECTION
        assert (await _post(dns, "http://127.0.0.1:9/")).outcome is WebhookOutcome.CONNECTION


async def test_a_certificate_has_to_be_trusted_and_for_the_name(authority: Authority) -> None:
    context = authority.server_context("hooks.test")
    records = {"hooks.test": {"A": ["127.0.0.1"]}, "other.test": {"A": ["127.0.0.1"]}}
    async with FakeDns(records) as dns, Receiver(tls=context) as receiver:
        good = await _post(dns, receiver.url(host="hooks.test"), ca_file=str(authority.ca_file))
        wrong_name = await _post(dns, receiver.url(host="other.test"), ca_file=str(authority.ca_file))
        unknown = await _post(dns, receiver.url(host="hooks.test"))

        assert good.is_good
        assert wrong_name.outcome is WebhookOutcome.TLS
        assert unknown.outcome is WebhookOutcome.TLS


async def test_what_the_endpoint_writes_cannot_break_the_log() -> None:
    async with FakeDns() as dns, Receiver() as receiver:
        receiver.answers["/"] = status(500, b"\x00\xff<script>", X_Evil="a\x07b")

        answer = await _post(dns, receiver.url("/"))

        assert "\0" not in answer.body
        assert answer.body.endswith("<script>")  # escaped where it is shown
        assert answer.headers.get("X-Evil", "a").isprintable()


async def test_retry_after_is_understood() -> None:
    async with FakeDns() as dns, Receiver() as receiver:
        receiver.answers["/"] = status(429, Retry_After="120")

        answer = await _post(dns, receiver.url("/"))

        assert answer.asked_for is not None and answer.asked_for.total_seconds() == 120
