"""Acceptance, queue and engine over the test database; coroutine tests run on uvloop, as gates and workers do."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

if TYPE_CHECKING:
    from tests.support.engine_room import World

SECONDS_PER_TEST = 30


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: value for name, value in pyfuncitem.funcargs.items() if name in wanted}

    async def bounded() -> None:
        async with asyncio.timeout(SECONDS_PER_TEST):
            await pyfuncitem.obj(**arguments)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())
    return True


@pytest.fixture(autouse=True)
def quick_settings(settings: Any) -> None:
    """Seconds where production has minutes."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.LEASE_SECONDS = 3
    settings.RETRY_SCHEDULE = "1,2,4"
    settings.SWEEP_SECONDS = 0.2
    settings.SMTP_TIMEOUTS = "connect=2,banner=5,command=5,data=5,dot=5"


@pytest.fixture
def world(transactional_db: None, settings: Any) -> World:
    from tests.support.engine_room import make_world

    # The database of the test is known by now; engines go round a pooler.
    settings.DIRECT_DATABASE = settings.DATABASES["default"]
    return make_world()


@pytest.fixture
def environment(database_url: str) -> dict[str, str]:
    """Of an engine in a process of its own."""
    return {
        "RELAY_DATABASE_URL": database_url,
        "RELAY_RETRY_SCHEDULE": "1,2,4",
        "RELAY_SWEEP_SECONDS": "1",
        "RELAY_LEASE_SECONDS": "2",
        "RELAY_PART": "worker",
    }
