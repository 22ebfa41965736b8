from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.configuration import ConfigurationError, read_configuration
from sandbox.texts import choose_language


def test_everything_has_a_default() -> None:
    configuration = read_configuration({})

    assert configuration.dns_binds == (("127.0.0.1", 8053),)
    assert configuration.http_binds == (("127.0.0.1", 8025),)
    assert configuration.smtp_port == 8024
    assert configuration.folder == Path("var/sandbox").resolve()


def test_binds_are_lists_and_know_ipv6() -> None:
    configuration = read_configuration({"RELAY_SANDBOX_HTTP_BIND": "127.0.0.1:1, [::1]:2"})

    assert configuration.http_binds == (("127.0.0.1", 1), ("::1", 2))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RELAY_SANDBOX_SMTP_PORT", "many"),
        ("RELAY_SANDBOX_SMTP_PORT", "70000"),
        ("RELAY_SANDBOX_DNS_BIND", "8053"),
        ("RELAY_SANDBOX_HTTP_BIND", "::1:80"),
        ("RELAY_LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        read_configuration({name: value})


@pytest.mark.parametrize(
    ("asked", "accepted", "language"),
    [
        (None, "ja,en-US;q=0.7", "ja"),
        (None, "en-US,ja;q=0.9", "en"),
        (None, "de, ja;q=0.3, en;q=0.2", "ja"),
        (None, "", "en"),
        (None, ";;q=x,,", "en"),
        ("ja", "en", "ja"),
        ("xx", "ja", "ja"),
    ],
)
def test_the_language_is_the_one_asked_for_or_the_browsers(asked: str | None, accepted: str, language: str) -> None:
    assert choose_language(asked, accepted) == language
