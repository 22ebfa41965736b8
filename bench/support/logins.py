"""Clients that connect, start TLS, log in, hand one mail over and leave: as applications do that keep no connection."""

from __future__ import annotations

import base64
import multiprocessing
import os
import socket
import ssl
import time

from bench.support.feeder import SENDER


def per_second(port: int, *, username: str, secret: str, body: bytes, recipients: list[str], mails: int) -> float:
    """Mails a second, by two processes for each core. Raises AssertionError when one was refused."""
    processes = 2 * len(os.sched_getaffinity(0))
    share = mails // processes
    # Not fork: the process that measures has threads.
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.map(_nothing, range(processes))
        began = time.monotonic()
        pool.starmap(_hand_over, [(port, username, secret, body, recipients, share)] * processes, chunksize=1)
        return share * processes / (time.monotonic() - began)


def _nothing(_: int) -> None:
    """Has the processes started before the clock runs."""
    time.sleep(0.5)


def _hand_over(port: int, username: str, secret: str, body: bytes, recipients: list[str], mails: int) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    plain = base64.b64encode(f"\0{username}\0{secret}".encode())
    for number in range(mails):
        recipient = recipients[number % len(recipients)]
        with socket.create_connection(("127.0.0.1", port), timeout=60) as bare:
            _expect(bare, b"220")
            _say(bare, b"EHLO bench.example", b"250")
            _say(bare, b"STARTTLS", b"220")
            with context.wrap_socket(bare) as wire:
                _say(wire, b"EHLO bench.example", b"250")
                _say(wire, b"AUTH PLAIN " + plain, b"235")
                _say(wire, f"MAIL FROM:<{SENDER}>".encode(), b"250")
                _say(wire, f"RCPT TO:<{recipient}>".encode(), b"250")
                _say(wire, b"DATA", b"354")
                _say(wire, body + b".", b"250")
                _say(wire, b"QUIT", b"221")


def _say(wire: socket.socket, line: bytes, wanted: bytes) -> None:
    wire.sendall(line + b"\r\n")
    _expect(wire, wanted)


def _expect(wire: socket.socket, wanted: bytes) -> None:
    said = b""
    while not (said.endswith(b"\n") and said.splitlines()[-1][3:4] == b" "):
        piece = wire.recv(4096)
        assert piece, f"closed after {said!r}"
        said += piece
    assert said.startswith(wanted), f"{said!r} instead of {wanted!r}"
