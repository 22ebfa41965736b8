"""What is logged, and what never is."""

from __future__ import annotations

import json

import pytest

from relayweb.processes.logs import hide_secrets, shorten
from relayweb.processes.stream import LONGEST_LINE


@pytest.mark.parametrize("name", ["password", "secret", "access_token", "Authorization", "api_key", "set_cookie"])
def test_values_under_secret_names_are_hidden(name: str) -> None:
    assert hide_secrets(None, "info", {"event": "x", name: "hunter2"})[name] == "[hidden]"


def test_passwords_in_urls_are_hidden() -> None:
    event = hide_secrets(None, "info", {"event": "cannot connect to postgresql://relayweb:hunter2@db/relayweb"})

    assert event["event"] == "cannot connect to postgresql://relayweb:[hidden]@db/relayweb"


@pytest.mark.parametrize("octet", ["a", "\\", '"', "\x01", "あ"])
def test_a_line_stays_one_whatever_a_peer_puts_into_it(octet: str) -> None:
    long = octet * 70_000

    event = shorten(
        None, "info", {"event": long, "request": long, "status": 404, "list": [long], "exception": "e\n" * 9999}
    )

    assert len(json.dumps(event, ensure_ascii=False).encode()) < LONGEST_LINE
    assert event["status"] == 404
    assert event["event"].endswith("(70000 characters)")
    assert event["exception"].endswith("e\n")
