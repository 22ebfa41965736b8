"""One HTTP GET that never blocks: the supervisor asks for its answer again and again between other things."""

from __future__ import annotations

import errno
import os
import socket
import time
from dataclasses import dataclass

from relayweb import env

TIMEOUT_SECONDS = 15.0


@dataclass(frozen=True)
class Answer:
    status: int  # 0: no answer
    body: str


class Probe:
    def __init__(self, endpoint: env.Endpoint, path: str) -> None:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(endpoint.host, endpoint.host)
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._socket.setblocking(False)
        self._request = f"GET {path} HTTP/1.0\r\nHost: {env.Endpoint(host, endpoint.port)}\r\n\r\n".encode()
        self._answer = b""
        self._deadline = time.monotonic() + TIMEOUT_SECONDS
        code = self._socket.connect_ex((host, endpoint.port))
        self._problem = "" if code in {0, errno.EINPROGRESS} else os.strerror(code)

    def poll(self) -> Answer | None:
        """The answer, or None while it is still to come."""
        try:
            if self._problem:
                return self._finish(self._problem)
            if self._request:
                self._request = self._request[self._socket.send(self._request) :]
            while data := self._socket.recv(65_536):
                self._answer += data
        except BlockingIOError:
            return self._finish("no answer in time") if time.monotonic() > self._deadline else None
        except OSError as error:
            if error.errno in {errno.ENOTCONN, errno.EINPROGRESS} and time.monotonic() < self._deadline:
                return None
            return self._finish(error.strerror or str(error))
        return self._finish("")

    def _finish(self, problem: str) -> Answer:
        self._socket.close()
        head, _, body = self._answer.partition(b"\r\n\r\n")
        words = head.split(None, 2)
        if problem or len(words) < 2 or not words[1].isdigit():
            return Answer(0, problem or "no HTTP answer")
        return Answer(int(words[1]), body.decode(errors="replace"))
