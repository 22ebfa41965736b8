"""What development starts with, made once, with a domain that the sandbox's DNS really proves."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from accounts.models import Credential, User
from delivery.models import DkimKey, SendingDomain, SourceAddress
from relayweb.env import Endpoint
from relayweb.processes import demo
from sandbox.dns_server import DnsServer
from sandbox.zones import Zones
from tests.support.loop_thread import LoopThread


@pytest.fixture
def sandbox_dns(db: None, var: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The sandbox's name server, serving what the demo writes into the state directory."""
    monkeypatch.setenv("RELAY_VAR", str(var))
    monkeypatch.setenv("RELAY_SANDBOX", "on")
    settings.MAIL_FROM = "relayweb <no-reply@system.relay.test>"
    zones = var / "sandbox" / "zones"
    zones.mkdir(parents=True)

    with LoopThread() as loop:
        server = DnsServer(Zones(folder=zones))

        async def start() -> tuple[str, int]:
            return await server.start("127.0.0.1", 0)

        async def stop() -> None:
            await server.stop()

        settings.DNS = Endpoint(*loop.run(start()))
        yield
        loop.run(stop())


def test_the_demo_domain_is_proved_by_the_dns(sandbox_dns: None, capsys: pytest.CaptureFixture[str]) -> None:
    demo.seed()

    domain = SendingDomain.objects.get(name=demo.DOMAIN)
    assert (domain.state, domain.is_assumed, domain.bounce_host) == ("verified", False, f"bounce.{demo.DOMAIN}")
    assert DkimKey.objects.get(domain=domain, state="signing").selector == "rw1"
    assert not [entry for entry in domain.findings if entry["level"] == "P"]
    assert SourceAddress.objects.get().address is None


def test_what_is_printed_lets_people_in(sandbox_dns: None, var: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo.seed()

    said, made = capsys.readouterr().out, json.loads((var / "demo.json").read_text())
    assert all(secret in said for secret in made.values())
    assert User.objects.get(email=demo.OWNER).check_password(made["owner_password"])
    operator = User.objects.get(email=demo.OPERATOR)
    assert operator.is_operator
    assert operator.check_password(made["operator_password"])
    assert Credential.objects.filter(username=made["smtp_username"]).exists()


def test_a_second_start_prints_the_same(sandbox_dns: None, var: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo.seed()
    first = capsys.readouterr().out

    demo.seed()

    assert capsys.readouterr().out == first
    assert Credential.objects.count() == 2
    assert (var / "demo.json").stat().st_mode & 0o777 == 0o600


def test_secrets_the_database_does_not_know_are_made_anew(sandbox_dns: None, var: Path) -> None:
    demo.seed()
    before = json.loads((var / "demo.json").read_text())
    Credential.objects.all().delete()

    demo.seed()

    after = json.loads((var / "demo.json").read_text())
    assert after["smtp_secret"] != before["smtp_secret"]
    assert Credential.objects.filter(username=after["smtp_username"]).exists()


def test_without_a_sandbox_the_demo_domain_is_vouched_for(db: None, var: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_VAR", str(var))
    monkeypatch.setenv("RELAY_SANDBOX", "off")

    demo.seed()

    domain = SendingDomain.objects.get(name=demo.DOMAIN)
    assert (domain.state, domain.is_assumed) == ("verified", True)


def test_a_password_that_chance_made_like_the_address_is_drawn_again(
    db: None, var: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RELAY_VAR", str(var))
    monkeypatch.setenv("RELAY_SANDBOX", "off")
    drawn = iter(["sandboxdemox"])
    chance = secrets.token_urlsafe
    monkeypatch.setattr(secrets, "token_urlsafe", lambda octets: next(drawn, None) or chance(octets))

    demo.seed()

    kept = json.loads((var / "demo.json").read_text())
    assert User.objects.get(email=demo.OWNER).check_password(kept["owner_password"])
    assert kept["owner_password"] != "sandboxdemox"
