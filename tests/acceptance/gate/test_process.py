"""Gates as processes: several on one port, told by signals, ended without an error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.wire import CLIENT_TLS, Wire

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def environment(
    part_environment: dict[str, str], certificate_file: Path, free_port: Callable[[], int]
) -> dict[str, str]:
    return part_environment | {
        "RELAY_PART": "gate",
        "RELAY_SUBMISSION_BIND": f"127.0.0.1:{free_port()}",
        "RELAY_SUBMISSIONS_BIND": f"127.0.0.1:{free_port()}",
        "RELAY_RETURNS_BIND": f"127.0.0.1:{free_port()}",
        "RELAY_TLS_CERT": str(certificate_file),
        "RELAY_TLS_KEY": str(certificate_file),
    }


@pytest.fixture
def start_process(environment: dict[str, str]) -> Iterator[Callable[[int], subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(number: int) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "smtpgate", "--process", str(number)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("gate ready 127.0.0.1:")
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


def address_of(environment: dict[str, str]) -> tuple[str, int]:
    host, _, port = environment["RELAY_SUBMISSION_BIND"].rpartition(":")
    return host, int(port)


def test_two_processes_share_a_port_and_one_may_end(
    environment: dict[str, str], start_process: Callable[[int], subprocess.Popen[str]]
) -> None:
    first, _second = start_process(1), start_process(2)
    codes: Counter[int] = Counter()
    for _ in range(30):
        with Wire(address_of(environment)) as wire:
            codes[wire.reply().code] += 1
    # The tests' database is not durable, so they say so; what counts is that they are there.
    assert codes == {421: 30}

    first.send_signal(signal.SIGTERM)
    assert first.wait(15) == 0
    with Wire(address_of(environment)) as wire:
        assert wire.reply().code == 421


def test_sighup_reads_the_certificate_again_and_the_gate_goes_on(
    environment: dict[str, str], start_process: Callable[[int], subprocess.Popen[str]]
) -> None:
    process = start_process(1)
    host, _, port = environment["RELAY_SUBMISSIONS_BIND"].rpartition(":")

    process.send_signal(signal.SIGHUP)

    with Wire((host, int(port))) as wire:
        wire.start_tls(CLIENT_TLS)
        assert wire.reply().code == 421
    process.send_signal(signal.SIGINT)
    assert process.wait(15) == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"RELAY_TLS_CERT": ""}, "RELAY_TLS_CERT and RELAY_TLS_KEY are not set"),
        ({"RELAY_TLS_CERT": "/nowhere"}, "cannot be used"),
        (
            dict.fromkeys(("RELAY_SUBMISSION_BIND", "RELAY_SUBMISSIONS_BIND", "RELAY_RETURNS_BIND"), "off"),
            "nothing to listen on",
        ),
        ({"RELAY_SUBMISSION_BIND": "192.0.2.1:25"}, "cannot listen on 192.0.2.1 port 25"),
    ],
)
def test_it_says_in_a_sentence_why_it_cannot_start(
    environment: dict[str, str], change: dict[str, str], sentence: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "manage.py", "smtpgate"],
        cwd=ROOT,
        env=environment | change,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert ended.returncode == 1
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr


def test_it_loads_neither_pages_nor_the_api(environment: dict[str, str]) -> None:
    program = (
        "import django, sys; django.setup(); import smtpgate.management.commands.smtpgate;"
        "print(*(name for name in sys.modules if name.split('.')[0] in"
        " {'rest_framework', 'fido2', 'drf_spectacular'} or name in {'relayweb.urls', 'django.contrib.admin'}))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment | {"PYTHONPATH": os.fspath(ROOT)},
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip

    assert ran.stdout.strip() == ""
