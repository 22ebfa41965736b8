"""A name server for the destinations of a benchmark, on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Self

from tests.support.dns_server import FakeDns


class Names:
    """``hosts``: recipient domain → address of its only mail host."""

    def __init__(self, hosts: Mapping[str, str]) -> None:
        records: dict[str, dict[str, list[str]]] = {}
        for domain, address in hosts.items():
            records[domain] = {"MX": [f"10 mx.{domain}."]}
            records[f"mx.{domain}"] = {"A": [address]}
        self._dns = FakeDns(records, ttl=3600, negative_ttl=3600)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._dns.__aenter__(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._dns.__aexit__(None, None, None), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def address(self) -> str:
        host, port = self._dns.address
        return f"{host}:{port}"
