"""The sandbox as a process: what it prints, serves and leaves behind, seen from outside."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import signal
import smtplib
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dns.message
import dns.query
import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTENT = (
    "From: =?utf-8?B?44Ki44Kv44Oh?= <shop@acme.example>\r\n"
    "Subject: ご注文の確認 <svg onload=alert(1)>\r\n"
    "Content-Type: text/html; charset=utf-8\r\n\r\n"
    "<script>alert(1)</script>\r\n.dot\r\n..\r\nこんにちは\r\n"
).encode()


@dataclass
class Running:
    process: subprocess.Popen[str]
    var: Path
    dns_port: int
    smtp_port: int
    http_port: int
    first_line: str

    def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, dict(response.headers), response.read()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read()

    def inbox(self, query: str = "") -> list[dict[str, object]]:
        return json.loads(self.get(f"/inbox.json{query}")[2])

    def look_up(self, name: str, rdtype: str) -> list[str]:
        answer = dns.query.udp(dns.message.make_query(name, rdtype), "127.0.0.1", port=self.dns_port, timeout=5).answer
        return [rdata.to_text() for rrset in answer for rdata in rrset]

    def mx(self, domain: str) -> tuple[str, str]:
        host = self.look_up(domain, "MX")[0].split()[1]
        return host.rstrip("."), self.look_up(host, "A")[0]

    def send(self, recipient: str, content: bytes = CONTENT, *, tls: bool = False) -> None:
        host, address = self.mx(recipient.split("@")[1])
        with smtplib.SMTP(address, self.smtp_port, timeout=10) as client:
            if tls:
                client._host = host  # type: ignore[attr-defined]  # the name that the certificate is for
                client.starttls(context=ssl.create_default_context(cafile=self.var / "sandbox" / "tls" / "ca.pem"))
            client.sendmail("bounce@relay.test", [recipient], content, ["BODY=8BITMIME"])


def environment(var: Path, dns_port: int, smtp_port: int, http_port: int) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("RELAY_")},
        "RELAY_VAR": str(var),
        "RELAY_SANDBOX_DNS_BIND": f"127.0.0.1:{dns_port}",
        "RELAY_SANDBOX_SMTP_PORT": str(smtp_port),
        "RELAY_SANDBOX_HTTP_BIND": f"127.0.0.1:{http_port}",
    }


def start(settings: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sandbox", *arguments],
        cwd=ROOT,
        env=settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def sandbox(tmp_path: Path, free_port: Callable[..., int]) -> Iterator[Running]:
    ports = free_port(), free_port(), free_port()
    process = start(environment(tmp_path, *ports))
    assert process.stdout is not None
    first_line = process.stdout.readline().strip()
    try:
        yield Running(process, tmp_path, *ports, first_line)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        process.communicate(timeout=20)


def test_it_says_where_it_is_and_stops_when_told(sandbox: Running) -> None:
    assert sandbox.first_line == (
        f"sandbox ready dns=127.0.0.1:{sandbox.dns_port} smtp=127.64.0.0/16:{sandbox.smtp_port} "
        f"http=127.0.0.1:{sandbox.http_port}"
    )
    client = smtplib.SMTP(sandbox.mx("accept.sandbox.test")[1], sandbox.smtp_port, timeout=10)

    sandbox.process.send_signal(signal.SIGTERM)

    assert sandbox.process.wait(timeout=20) == 0
    client.close()


def test_a_mail_arrives_as_a_file_in_the_ledger_and_in_the_inbox(sandbox: Running) -> None:
    sandbox.send("someone@accept.sandbox.test", tls=True)

    [line] = (sandbox.var / "sandbox" / "ledger.jsonl").read_text().splitlines()
    entry = json.loads(line)
    file = sandbox.var / "sandbox" / "inbox" / entry["file"]
    assert file.read_bytes() == CONTENT
    assert entry["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert (entry["host"], entry["tls"]["version"]) == ("mx1.accept.sandbox.test", "TLSv1.3")
    assert (entry["reverse_path"], entry["recipients"]) == ("bounce@relay.test", ["someone@accept.sandbox.test"])
    [mail] = sandbox.inbox("?to=Someone@accept.sandbox.test")
    assert (mail["id"], mail["subject"]) == (entry["id"], "ご注文の確認 <svg onload=alert(1)>")
    assert mail["dkim"] == {"result": "none", "reason": "the message is not signed", "signatures": []}
    assert sandbox.inbox("?to=nobody@accept.sandbox.test") == []
    assert sandbox.get(f"/mails/{entry['id']}/raw")[2] == CONTENT


def test_the_pages_show_hostile_mail_harmlessly_and_in_both_languages(sandbox: Running) -> None:
    assert "まだメールは届いていません。" in sandbox.get("/", **{"Accept-Language": "ja"})[2].decode()
    sandbox.send("a@accept.sandbox.test")
    [mail] = sandbox.inbox()

    for path in ("/", str(mail["page"]), "/mailboxes/", "/?to=%22%3E%3Cscript%3E"):
        for language in ("ja", "en"):
            status, headers, body = sandbox.get(path + ("&" if "?" in path else "?") + f"lang={language}")
            page = body.decode()
            assert status == 200
            assert f'<html lang="{language}">' in page
            assert "<svg" not in page and "<script" not in page
            assert "default-src 'none'" in headers["Content-Security-Policy"]
            assert "unsafe" not in headers["Content-Security-Policy"]
            assert page.count("<h1>") == 1
    _, headers, body = sandbox.get(f"/mails/{mail['id']}/html")
    assert headers["Content-Security-Policy"].startswith("sandbox;")
    assert "こんにちは" in body.decode()


@pytest.mark.parametrize(
    "path", ["/nothing", "/mails/x/", "/mails/00000000000000-aaaaaaaa/", "/mails/..%2f..%2fledger/raw"]
)
def test_what_is_not_there_is_a_404(sandbox: Running, path: str) -> None:
    assert sandbox.get(path)[0] == 404


def test_a_visitor_under_a_public_name_is_turned_away(sandbox: Running) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", sandbox.http_port, timeout=10)
    connection.request("GET", "/inbox.json", headers={"Host": "rebound.example.com"})

    assert connection.getresponse().status == 421
    connection.close()


def test_records_put_into_its_folder_are_served(sandbox: Running) -> None:
    file = sandbox.var / "sandbox" / "zones" / "acme.example.json"

    file.write_text(json.dumps([{"name": "_relay.acme.example", "type": "TXT", "value": "token"}]))

    assert sandbox.look_up("_relay.acme.example", "TXT") == ['"token"']


def test_the_list_of_mailboxes_is_json(tmp_path: Path) -> None:
    process = start(environment(tmp_path, 1, 2, 3), "mailboxes")

    output, _ = process.communicate(timeout=20)

    listed = json.loads(output)
    assert process.returncode == 0
    assert {"address": "accept@accept.sandbox.test", "behaviour": "accept"}.items() <= next(
        box.items() for box in listed if box["behaviour"] == "accept"
    )
    assert all(set(box["expect"]) == {"state", "class"} for box in listed)


@pytest.mark.parametrize("variable", ["RELAY_SANDBOX_DNS_BIND", "RELAY_SANDBOX_SMTP_PORT", "RELAY_SANDBOX_HTTP_BIND"])
def test_a_port_in_use_ends_it_with_one_sentence(
    sandbox: Running, free_port: Callable[..., int], variable: str
) -> None:
    settings = environment(sandbox.var / "other", free_port(), free_port(), free_port())
    taken = environment(sandbox.var, sandbox.dns_port, sandbox.smtp_port, sandbox.http_port)[variable]

    process = start({**settings, variable: taken})
    output, complaint = process.communicate(timeout=20)

    assert process.returncode == 1
    assert output == ""
    assert len(complaint.strip().splitlines()) == 1
    assert "already in use" in complaint and variable in complaint


def test_wrong_scenarios_end_it_with_one_sentence(tmp_path: Path) -> None:
    scenarios = tmp_path / "scenarios.toml"
    scenarios.write_text("[behaviours.odd]\ncolour = 'red'\n")

    process = start({**environment(tmp_path, 1, 2, 3), "RELAY_SANDBOX_SCENARIOS": str(scenarios)})
    _, complaint = process.communicate(timeout=20)

    assert process.returncode == 1
    assert complaint == "sandbox: behaviour 'odd': unknown key colour.\n"
