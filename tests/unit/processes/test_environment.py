"""What the parts are told."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

import pytest

from relayweb.processes import environment
from relayweb.processes.broker import Broker
from relayweb.processes.postgres import Postgres
from relayweb.processes.state import State

SET_BY_THE_TESTS = (
    "PROFILE",
    "SECRET_KEY",
    "ENCRYPTION_KEYS",
    "DATABASE_URL",
    "BROKER_URL",
    "TEST_PROFILE",
    "ALLOW_DESTINATIONS",
)


@pytest.fixture
def state(var: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    for name in SET_BY_THE_TESTS:
        monkeypatch.delenv(f"RELAY_{name}", raising=False)
    monkeypatch.setenv("RELAY_VAR", str(var))
    return State.open(var)


def test_without_urls_it_is_the_development_profile_with_a_sandbox(state: State) -> None:
    postgres, broker = Postgres.of(state), Broker.of(state)

    found = environment.fill_in(state, postgres=postgres, broker=broker)

    assert found["RELAY_PROFILE"] == "development"
    assert found["RELAY_DATABASE_URL"] == postgres.url()
    assert found["RELAY_BROKER_URL"].startswith("redis+socket://")
    assert (found["RELAY_TEST_PROFILE"], found["RELAY_DNS"], found["RELAY_OUTBOUND_PORT"]) == (
        "1",
        "127.0.0.1:8053",
        "8024",
    )
    assert found["RELAY_ALLOW_DESTINATIONS"] == "127.64.0.0/16"


def test_with_a_url_it_is_the_production_profile_and_makes_nothing_up(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELAY_DATABASE_URL", "postgresql://db.example/relayweb")

    found = environment.fill_in(state, postgres=None, broker=None)

    assert found["RELAY_PROFILE"] == "production"
    assert found["RELAY_SANDBOX"] == "off"
    assert not [name for name in found if "SECRET" in name or "KEY" in name or "TEST" in name]


def test_what_the_person_set_stays(state: State, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RELAY_DNS", "127.0.0.1:53")
    monkeypatch.setenv("RELAY_SECRET_KEY_FILE", str(tmp_path / "mine"))
    monkeypatch.setenv("RELAY_TLS_CERT", "/etc/mine.pem")
    monkeypatch.setenv("RELAY_TLS_KEY", "/etc/mine.key")

    found = environment.fill_in(state, postgres=None, broker=None)

    assert not {"RELAY_DNS", "RELAY_SECRET_KEY_FILE", "RELAY_TLS_CERT", "RELAY_TLS_KEY"} & set(found)


def test_keys_stay_the_same_from_start_to_start(state: State) -> None:
    first = Path(environment.fill_in(state, postgres=None, broker=None)["RELAY_ENCRYPTION_KEYS_FILE"]).read_text()
    second = Path(environment.fill_in(state, postgres=None, broker=None)["RELAY_ENCRYPTION_KEYS_FILE"]).read_text()

    assert first == second


def test_the_certificate_is_for_this_machines_names(tmp_path: Path) -> None:
    certificate, key = environment.ensure_certificate(tmp_path / "tls", hostname="relay.test")

    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    names = ssl._ssl._test_decode_cert(str(certificate))["subjectAltName"]  # type: ignore[attr-defined]
    assert ("DNS", "relay.test") in names
    assert ("DNS", "localhost") in names
    assert ("IP Address", "127.0.0.1") in names


def test_the_certificate_is_made_anew_only_when_the_name_changes(tmp_path: Path) -> None:
    certificate, _ = environment.ensure_certificate(tmp_path / "tls", hostname="relay.test")
    first = certificate.read_bytes()

    environment.ensure_certificate(tmp_path / "tls", hostname="relay.test")
    assert certificate.read_bytes() == first

    environment.ensure_certificate(tmp_path / "tls", hostname="other.test")
    assert certificate.read_bytes() != first
