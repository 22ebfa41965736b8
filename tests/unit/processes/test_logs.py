"""What is logged, and what never is."""

from __future__ import annotations

import pytest

from relayweb.processes.logs import hide_secrets


@pytest.mark.parametrize("name", ["password", "secret", "access_token", "Authorization", "api_key", "set_cookie"])
def test_values_under_secret_names_are_hidden(name: str) -> None:
    assert hide_secrets(None, "info", {"event": "x", name: "hunter2"})[name] == "[hidden]"


def test_passwords_in_urls_are_hidden() -> None:
    event = hide_secrets(None, "info", {"event": "cannot connect to postgresql://relayweb:hunter2@db/relayweb"})

    assert event["event"] == "cannot connect to postgresql://relayweb:[hidden]@db/relayweb"
