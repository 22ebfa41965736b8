"""A gate's protocol on a real port, with a listener behind it that only writes down what it was handed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.certificates import Authority
from tests.support.loop_thread import LoopThread

if TYPE_CHECKING:
    from tests.support.desk import Desk


@pytest.fixture(scope="session")
def certificate_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    authority = Authority.make(tmp_path_factory.mktemp("tls"))
    authority.server_context("relay.test")
    return authority.folder / "relay.test.pem"


@pytest.fixture
def open_desk(certificate_file: Path) -> Iterator[Callable[..., Desk]]:
    """Opens a port with these limits; everything is closed after the test."""
    from tests.support import desk  # what it imports needs Django set up

    with LoopThread() as loop:

        def open_desk(*, has_tls: bool = True, host: str = "127.0.0.1", proxies: Any = (), **limits: Any) -> Desk:
            file = certificate_file if has_tls else None
            opened = desk.open_desk(loop, file, host, replace(desk.LIMITS, **limits), proxies)
            return loop.run(opened)

        yield open_desk


@pytest.fixture
def desk(open_desk: Callable[..., Desk]) -> Desk:
    return open_desk()
