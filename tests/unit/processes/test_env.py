"""The typed readers: a value is right, or the process stops with a sentence that names the variable."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from relayweb import env
from relayweb.env import ConfigurationError, Endpoint


@pytest.mark.parametrize(
    ("value", "read", "sentence"),
    [
        ("", lambda: env.text("X"), "RELAY_X is not set"),
        ("ten", lambda: env.integer("X", 1), "RELAY_X must be a whole number, not 'ten'"),
        ("0", lambda: env.integer("X", 1, minimum=1), "RELAY_X must be between 1 and"),
        ("soon", lambda: env.seconds("X", 1), "RELAY_X must be a number of seconds"),
        ("nan", lambda: env.seconds("X", 1), "RELAY_X must be at least"),
        ("maybe", lambda: env.flag("X", False), "RELAY_X must be on or off"),
        ("staging", lambda: env.choice("X", ("development", "production"), "production"), "RELAY_X must be one of"),
        ("10.0.0.1/8", lambda: env.networks("X"), "which is not a network"),
        ("localhost", lambda: env.endpoints("X", ""), "RELAY_X must read host:port"),
        ("localhost:99999", lambda: env.endpoints("X", ""), "RELAY_X must read host:port"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, value: str, read: Callable[[], object], sentence: str
) -> None:
    monkeypatch.setenv("RELAY_X", value)

    with pytest.raises(ConfigurationError, match=sentence):
        read()


def test_binds_take_lists_and_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_X", "0.0.0.0:587, [2001:db8::1]:587")

    assert env.endpoints("X", "") == [Endpoint("0.0.0.0", 587), Endpoint("2001:db8::1", 587)]
    assert [str(endpoint) for endpoint in env.endpoints("X", "")] == ["0.0.0.0:587", "[2001:db8::1]:587"]


def test_a_listener_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_X", "off")

    assert env.endpoints("X", "127.0.0.1:25") == []


def test_a_secret_may_stand_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2\n")
    monkeypatch.setenv("RELAY_X_FILE", str(tmp_path / "secret"))

    assert env.secret("X") == "hunter2"


def test_a_secret_given_twice_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RELAY_X", "hunter2")
    monkeypatch.setenv("RELAY_X_FILE", str(tmp_path / "secret"))

    with pytest.raises(ConfigurationError, match="not both"):
        env.secret("X")


def test_the_first_encryption_key_is_the_current_one() -> None:
    old, new = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))

    assert list(env.encryption_keys(f"new:{new},old:{old}")) == ["new", "old"]


@pytest.mark.parametrize("value", ["short:YWJj", "nokey", ":YWJj", "a:not base64"])
def test_a_key_of_another_form_is_refused_without_showing_it(value: str) -> None:
    with pytest.raises(ConfigurationError, match="32 octets") as refusal:
        env.encryption_keys(value)

    assert value not in str(refusal.value)
