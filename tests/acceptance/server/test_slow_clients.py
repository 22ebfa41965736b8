"""The web part alone, as it is started, and clients that let it wait."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from relayweb.processes import children, parts
from relayweb.processes.stream import LONGEST_LINE
from tests.conftest import ROOT
from tests.support.ports import find_free_ports
from tests.support.waiting import until

SILENCE_S = 1.5
OCTETS_PER_SECOND = 20_000
SENDING = (
    b"POST /api/v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    (port,) = find_free_ports(1)
    log: Path = tmp_path_factory.mktemp("web") / "log"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELAY_HTTP_BIND", f"127.0.0.1:{port}")
        (web,) = parts.web_parts(needs=())
    process = subprocess.Popen(
        web.command,
        cwd=ROOT,
        env={
            **os.environ,
            "RELAY_HTTP_BIND": f"127.0.0.1:{port}",
            "RELAY_WEB_BODY_SECONDS": str(SILENCE_S),
            "RELAY_WEB_BODY_BYTES_PER_SECOND": str(OCTETS_PER_SECOND),
        },
        stdout=log.open("wb"),
        stderr=subprocess.STDOUT,
        preexec_fn=children.die_with_parent(9),
    )

    def answers() -> bool:
        try:
            return ask(port, "GET", "/health/live")[0] == 200
        except OSError:
            assert process.poll() is None, log.read_text()
            return False

    until(answers, seconds=30, what="the web part")
    ask(port, "GET", "/api/v1/nothing")  # the first one loads every page
    yield port
    process.terminate()
    assert process.wait(20) == 0
    lines = log.read_bytes().split(b"\n")
    assert not [line for line in lines if line.startswith(b"Traceback") or len(line) > LONGEST_LINE]
    refused = [json.loads(line) for line in lines if b"elsewhere.example" in line]
    assert refused and not [event for event in refused if "exception" in event]


def ask(port: int, method: str, path: str, body: bytes | None = None, **fields: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request(method, path, body, {"Host": "localhost", **fields})
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer


def answer_on(connection: socket.socket) -> tuple[int, dict[str, str], bytes, float]:
    """Status, fields, body, and when the server closed the connection."""
    connection.settimeout(15)
    response = http.client.HTTPResponse(connection)
    response.begin()
    body = response.read()
    assert connection.recv(1) == b""
    return response.status, {name.lower(): value for name, value in response.getheaders()}, body, time.monotonic()


@contextmanager
def crowd(port: int, first: bytes, *, count: int) -> Iterator[list[socket.socket]]:
    """So many connections that begin so, and go on with one octet now and then for as long as they can."""
    done = threading.Event()
    with ExitStack() as held:
        all_of_them = [held.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(count)]

        def trickle() -> None:
            while not done.wait(0.4):
                for one in all_of_them[::2]:  # the others say nothing more at all
                    try:
                        one.send(b"a")
                    except OSError:
                        continue

        for one in all_of_them:
            one.sendall(first)
        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            yield all_of_them
        finally:
            done.set()
            thread.join()


def test_slow_clients_delay_nobody(port: int) -> None:
    with (
        crowd(port, SENDING % 5000 + b"{", count=45) as slow,
        crowd(port, SENDING % 5000, count=155),
        crowd(port, b"POST /accounts/login/ HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", count=100),
    ):
        began, waits = time.monotonic(), []
        while time.monotonic() < began + 2 * SILENCE_S:
            asked = time.monotonic()
            assert ask(port, "GET", "/health/live")[0] == 200
            if asked > began + 1.2:  # from the address that has taken all its places: the slowest makes room
                assert (
                    ask(port, "POST", "/api/v1/messages", b'{"a": 1}', **{"Content-Type": "application/json"})[0] == 401
                )
            waits.append(time.monotonic() - asked)
            time.sleep(0.05)
        answers = [answer_on(one) for one in slow]

    assert sorted(waits)[len(waits) * 9 // 10] < 1.0  # the machine itself may stand still once
    assert {answer[0] for answer in answers} <= {408, 429}  # the order in which they were accepted is the kernel's
    assert max(answer[3] for answer in answers) < began + 20 * SILENCE_S
    _, fields, body, _ = next(answer for answer in answers if answer[0] == 408)
    assert fields["content-type"] == "application/problem+json"
    assert json.loads(body)["type"] == "urn:relayweb:problem:too_slow"


def test_a_form_that_comes_too_slowly_gets_a_page(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as slow:
        slow.sendall(
            b"POST /accounts/login/ HTTP/1.1\r\nHost: localhost\r\nAccept-Language: en\r\nContent-Length: 9\r\n\r\na"
        )

        status, fields, body, _ = answer_on(slow)

    assert status == 408
    assert fields["content-type"].startswith("text/html")
    assert b"took too long" in body


def test_an_honest_upload_may_take_its_time(port: int) -> None:
    piece = b" " * 10_000
    with socket.create_connection(("127.0.0.1", port)) as honest:
        honest.sendall(SENDING % (30 * len(piece)))
        began = time.monotonic()
        for number in range(30):  # 100 kB/s, for twice the time that silence may last
            time.sleep(max(0, began + number * 0.1 - time.monotonic()))
            honest.sendall(piece)

        honest.settimeout(5)
        answer = honest.recv(100)

    assert answer.startswith(b"HTTP/1.1 401")  # it has been read: without a key it is no mail


def test_a_body_too_large_is_refused_before_it_comes(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as large:
        large.sendall(SENDING % 10**10)

        large.settimeout(1)
        answer = large.recv(100)

    assert answer.startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize("host", ["", "elsewhere.example"])
def test_a_host_not_ours_is_told_to_programs_as_a_problem(port: int, host: str) -> None:
    status, body = ask(port, "GET", "/api/v1/messages", Host=host)

    assert status == 400
    assert json.loads(body)["type"] == "urn:relayweb:problem:unknown_host"


def test_a_body_that_ends_early_is_told_so(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as half:
        half.sendall(SENDING % 30 + b"{")
        half.shutdown(socket.SHUT_WR)

        status, _, body, _ = answer_on(half)

    assert (status, body) == (400, b"")


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 0\r\nContent-Length: 46\r\n\r\n",
        b"Content-Length: 0, 46\r\n\r\n",
        b"Content-Length: +46\r\n\r\n",
        b"Content-Length : 46\r\n\r\n",
        b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n5c\r\n",
        b"Transfer-Encoding: xchunked\r\n\r\n",
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: \x0bchunked\r\nContent-Length: 0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n",
        b"X: a\rContent-Length: 0\r\n\r\n",
        b"X: a\r\n Content-Length: 0\r\n\r\n",
    ],
)
def test_no_second_request_hides_behind_an_ambiguous_first(port: int, framing: bytes) -> None:
    """RFC 9112 §6.3: whoever counts otherwise than a proxy before us answers what the proxy has not seen."""
    with socket.create_connection(("127.0.0.1", port)) as smuggler:
        smuggler.settimeout(5)
        smuggler.sendall(b"POST /health/live HTTP/1.1\r\nHost: localhost\r\n" + framing)
        smuggler.sendall(b"GET /accounts/login/ HTTP/1.1\r\nHost: localhost\r\n\r\n")

        answers = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := smuggler.recv(65_536):
                answers += chunk

    assert answers.count(b"HTTP/1.1 ") <= 1


def test_a_very_long_path_is_one_line_of_the_log(port: int) -> None:
    assert ask(port, "GET", "/" + "%01" * 20_000)[0] == 404
