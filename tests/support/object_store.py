"""An S3-compatible store on loopback (moto's server), that can be taken away and comes back."""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

BUCKET = "mail"


class ObjectStore:
    """Everything is lost with the process; `away` refuses connections for as long as a block runs."""

    def __init__(self) -> None:
        from moto.server import ThreadedMotoServer

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._make = lambda: ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self._server: Any = self._make()
        self._server.start()
        self.ask("PUT", f"/{BUCKET}")

    def use(self, settings: Any, *, from_bytes: int = 0) -> None:
        settings.OBJECT_STORE = f"s3://{BUCKET}/content"
        settings.OBJECT_STORE_ENDPOINT = f"http://127.0.0.1:{self.port}"
        settings.OBJECT_STORE_KEY_ID, settings.OBJECT_STORE_SECRET = "key", "secret"
        settings.OBJECT_STORE_FROM_BYTES = from_bytes

    def names(self) -> list[str]:
        from delivery import content_store

        return [
            one.name
            for kind in content_store.folders()
            for folder in content_store.folders(kind)
            for page in content_store.objects_in(folder)
            for one in page
        ]

    def octets(self, name: str) -> bytes:
        return self.ask("GET", f"/{BUCKET}/content/{name}")

    def put(self, name: str, octets: bytes) -> None:
        self.ask("PUT", f"/{BUCKET}/content/{name}", octets)

    def empty(self) -> None:
        self.ask("POST", "/moto-api/reset")
        self.ask("PUT", f"/{BUCKET}")

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        self._server.stop()
        try:
            yield
        finally:
            self._server = self._make()
            self._server.start()

    def stop(self) -> None:
        self._server.stop()

    def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        with contextlib.closing(connection):
            headers = {"Authorization": "AWS4-HMAC-SHA256 Credential=key/20261124/us-east-1/s3/aws4_request"}
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            assert answer.status < 300, (method, path, answer.status, os.getpid())
            return answer.read()
