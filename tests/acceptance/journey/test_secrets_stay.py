"""Secrets go through everything that uses them, and stand nowhere afterwards: not in the log, the broker or the database.

What is looked through is the state directory as a thief would find it: tables, write-ahead log and dead rows of the
database, the broker's file of tasks, all that the parts have written. Only the keys that seal are there to be found.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
import smtplib
from collections.abc import Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from tests.acceptance.journey.conftest import Sender
from tests.support.stack import Stack
from tests.support.waiting import until

PASSWORD = "canary of somebody who operates"
WRONG = "canary-that-fits-nobody-7f3a91"
SMARTHOST = "canary-of-a-smarthost-55c1d2"
ROUTE = {"host": "203.0.114.5", "port": 587, "username": "u", "password": SMARTHOST, "tls": "required"}


class Browser:
    """Forms by HTTP, with its cookies."""

    def __init__(self, stack: Stack) -> None:
        self.port = stack.ports["http"]
        self.cookies: dict[str, str] = {}

    def ask(self, method: str, path: str, body: bytes | None = None, **fields: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        connection.request(
            method, path, body, {"Cookie": cookie, **{k.replace("_", "-"): v for k, v in fields.items()}}
        )
        answer = connection.getresponse()
        for value in answer.headers.get_all("Set-Cookie") or []:
            self.cookies |= {name: morsel.value for name, morsel in SimpleCookie(value).items()}
        said = answer.read()
        connection.close()
        return answer.status, said

    def sign_in(self, email: str, password: str) -> int:
        _, page = self.ask("GET", "/accounts/login/")
        token = re.search(rb'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert token is not None
        form = urlencode({"csrfmiddlewaretoken": token[1].decode(), "email": email, "password": password}).encode()
        return self.ask("POST", "/accounts/login/", form, Content_Type="application/x-www-form-urlencoded")[0]

    def call(self, key: str, method: str, path: str, body: Any = None) -> Any:
        octets = json.dumps(body).encode() if body is not None else None
        status, said = self.ask(
            method, f"/api/v1/{path}", octets, Authorization=f"Bearer {key}", Content_Type="application/json"
        )
        return (status, json.loads(said)) if said else (status, None)


def disguises(secret: str) -> Iterator[bytes]:
    """As it is, and as it looks within base64 (at each of three offsets), in a URL, in capitals, in hexadecimals."""
    octets = secret.encode()
    yield from {octets, octets.upper(), quote(secret, safe="").encode(), octets.hex().encode()}
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + octets)
        # The first and the last characters depend on what stands beside it.
        yield encoded[4 if shift else 0 : len(encoded) // 4 * 4 - 4]


def test_no_secret_is_left_anywhere(stack: Stack, acme: Sender) -> None:
    stack.relay("operator", "create", "--email", "canary@relay.example", "--password-stdin", stdin=PASSWORD)
    key = stack.relay("credential", "issue", "--tenant", acme.slug, "--kind", "api", "--name", "canary")["secret"]
    browser, program = Browser(stack), Browser(stack)

    assert browser.sign_in("canary@relay.example", PASSWORD) == 302
    assert Browser(stack).sign_in("canary@relay.example", WRONG) == 200
    _, hook = program.call(key, "POST", "webhooks", {"url": "http://127.0.0.1:9/canary", "events": ["delivered"]})
    _, login = program.call(key, "POST", "credentials", {"kind": "smtp", "name": "canary"})
    status, answer = program.call(key, "PUT", "routes/canary.test", ROUTE)
    assert status in (200, 201), answer
    with stack.smtp(login["username"], login["secret"]) as client:
        content = f"From: c@{acme.domain}\r\nTo: x\r\nSubject: c\r\n\r\n{{}}\r\n"
        client.sendmail(f"c@{acme.domain}", ["canary@accept.sandbox.test"], content)
        client.sendmail(f"c@{acme.domain}", ["canary@canary.test"], content)
    with contextlib.suppress(smtplib.SMTPException):
        stack.smtp(login["username"], WRONG).close()
    assert program.call(WRONG, "GET", "messages")[0] == 401
    until(lambda: program.call(key, "GET", f"webhooks/{hook['id']}/calls")[1]["data"], seconds=40, what="a failed call")
    _, hook_again = program.call(key, "POST", f"webhooks/{hook['id']}/rotate", {"overlap_hours": 1})
    _, login_again = program.call(key, "POST", f"credentials/{login['id']}/rotate", {})
    program.call(key, "DELETE", "routes/canary.test")
    pages = b"".join(
        program.ask("GET", f"/api/v1/{path}", Authorization=f"Bearer {key}")[1] for path in ("webhooks", "credentials")
    )

    secrets = {
        "password": PASSWORD, "what was tried": WRONG, "session": browser.cookies["relay_session"], "API key": key.split(".")[-1],
        "webhook secret": hook["secret"].removeprefix("whsec_"), "its successor": hook_again["secret"].removeprefix("whsec_"),
        "SMTP secret": login["secret"], "its own successor": login_again["secret"], "smarthost's password": SMARTHOST,
        "DKIM key": "PRIVATE KEY-----",
    }  # fmt: skip
    places = {str(path): path.read_bytes() for path in _files(stack.var)}
    places |= {"the log": "\n".join(stack.log).encode(), "lists of the API": pages}
    assert any(
        acme.domain.encode() in octets for name, octets in places.items() if "/pg_wal/" in name
    )  # it can be found
    found = {
        (what, name)
        for what, secret in secrets.items()
        for form in disguises(secret)
        for name, octets in places.items()
        if form in octets
    }
    assert not found


def _files(var: Path) -> list[Path]:
    """All but what belongs to the sandbox, which is not part of the product, and the gates' own key for TLS."""
    return [
        path
        for path in var.rglob("*")
        if path.is_file()
        and path.relative_to(var).parts[0] not in {"sandbox", "tls", "static"}
        and path.name != "demo.json"
    ]
