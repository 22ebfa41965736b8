"""What several kinds of these tests need. Django's tables are imported late: pytest reads this file before Django is set up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.dns_server import FakeDns
from tests.support.loop_thread import LoopThread


@pytest.fixture
def name_server(settings: Any) -> Iterator[FakeDns]:
    """The name server that domains are looked up at. What a test writes into it counts for the next look."""
    from relayweb.env import Endpoint

    async def start() -> FakeDns:
        return await FakeDns().__aenter__()

    with LoopThread() as loop:
        server = loop.run(start())
        settings.DNS = Endpoint(*server.address)
        yield server
        loop.run(server.__aexit__(None, None, None))
