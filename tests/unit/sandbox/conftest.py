"""A client that says exactly what a test wants to have said."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator

import pytest


class Client:
    """One SMTP connection, spoken by hand."""

    def __init__(self, address: str, port: int) -> None:
        self.socket: socket.socket = socket.create_connection((address, port), timeout=10)
        self._received = b""

    def say(self, octets: bytes) -> None:
        self.socket.sendall(octets)

    def reply(self) -> str:
        """The next reply as `code text`, its lines joined by newlines; "" when the connection has been closed."""
        lines = []
        while True:
            line = self._line()
            if not line:
                return ""
            lines.append(line[4:])
            if line[3:4] != "-":
                return f"{line[:3]} " + "\n".join(lines)

    def ask(self, line: str) -> str:
        self.say(line.encode() + b"\r\n")
        return self.reply()

    def begin(self, recipient: str, reverse_path: str = "bounce@relay.test") -> str:
        """Everything up to RCPT; returns the reply to it."""
        self.reply()
        self.ask("EHLO relay.test")
        self.ask(f"MAIL FROM:<{reverse_path}>")
        return self.ask(f"RCPT TO:<{recipient}>")

    def send(self, content: bytes) -> str:
        """DATA and the content, which must end with CRLF "." CRLF; returns the last reply."""
        answer = self.ask("DATA")
        if not answer.startswith("354"):
            return answer
        self.say(content)
        return self.reply()

    def start_tls(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.socket = context.wrap_socket(self.socket)

    def close(self) -> None:
        self.socket.close()

    def _line(self) -> str:
        while b"\r\n" not in self._received:
            try:
                piece = self.socket.recv(65536)
            except ConnectionResetError:
                piece = b""
            if not piece:
                return ""
            self._received += piece
        line, _, self._received = self._received.partition(b"\r\n")
        return line.decode()


@pytest.fixture
def connect() -> Iterator[Callable[..., Client]]:
    clients = []

    def make(address: str, port: int) -> Client:
        clients.append(Client(address, port))
        return clients[-1]

    yield make
    for client in clients:
        client.close()
