"""A raw SMTP client: sends exactly the bytes it is told to, and reads replies one by one."""

from __future__ import annotations

import socket
import ssl
from typing import NamedTuple, Self

CLIENT_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
CLIENT_TLS.check_hostname = False
CLIENT_TLS.verify_mode = ssl.CERT_NONE


class Said(NamedTuple):
    """A reply of the server."""

    code: int
    lines: list[str]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


class Closed(Exception):
    """The server has closed the connection."""


class Wire:
    def __init__(
        self, address: tuple[str, int], *, source: str = "", is_implicit_tls: bool = False, seconds: float = 10
    ) -> None:
        self._socket: socket.socket = socket.create_connection(
            address, timeout=seconds, source_address=(source, 0) if source else None
        )
        self._unread = b""
        if is_implicit_tls:
            self.start_tls()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start_tls(self, context: ssl.SSLContext = CLIENT_TLS) -> None:
        self._socket = context.wrap_socket(self._socket, server_hostname="relay.test")

    def send(self, octets: bytes) -> None:
        self._socket.sendall(octets)

    def reply(self) -> Said:
        lines: list[str] = []
        while True:
            line = self.line()
            lines.append(line[4:])
            if line[3:4] != "-":
                return Said(int(line[:3]), lines)

    def say(self, command: bytes) -> Said:
        self.send(command + b"\r\n")
        return self.reply()

    def greet(self, name: bytes = b"client.test") -> Said:
        assert self.reply().code == 220
        return self.say(b"EHLO " + name)

    def encrypt(self) -> Said:
        """STARTTLS and EHLO again."""
        assert self.say(b"STARTTLS").code == 220
        self.start_tls()
        return self.say(b"EHLO client.test")

    def envelope(self, reverse_path: bytes, *recipients: bytes) -> list[Said]:
        said = [self.say(b"MAIL FROM:<" + reverse_path + b">")]
        return said + [self.say(b"RCPT TO:<" + recipient + b">") for recipient in recipients]

    def content(self, content: bytes) -> Said:
        """DATA, the content as it is, and the final dot."""
        assert self.say(b"DATA").code == 354
        self.send(content + b".\r\n")
        return self.reply()

    def has_nothing_to_say(self, seconds: float = 0.2) -> bool:
        self._socket.settimeout(seconds)
        try:
            self._unread += self._socket.recv(65536)
            return not self._unread
        except TimeoutError:
            return not self._unread
        finally:
            self._socket.settimeout(10)

    def everything_left(self) -> bytes:
        """What the server says until it closes the connection."""
        said = self._unread
        try:
            while more := self._socket.recv(65536):
                said += more
        except (ConnectionError, ssl.SSLError):
            pass
        return said

    def half_close(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()

    def line(self) -> str:
        while b"\r\n" not in self._unread:
            try:
                more = self._socket.recv(65536)
            except ConnectionError as error:
                raise Closed from error
            if not more:
                raise Closed(self._unread)
            self._unread += more
        line, _, self._unread = self._unread.partition(b"\r\n")
        return line.decode("utf-8")
