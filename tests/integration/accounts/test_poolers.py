"""Through a transaction pooler: each statement may meet another connection of the server."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection

from accounts import database
from tests.support.waiting import until

_CONFIGURATION = """\
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listens}
auth_type = plain
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = 2
"""


@pytest.fixture
def pooler(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """PgBouncer in front of the tests' database; the settings name both."""
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin")
    if program is None:
        pytest.skip("pgbouncer is not installed (apt-get install pgbouncer)")
    server: dict[str, Any] = connection.settings_dict
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        listens = probe.getsockname()[1]
    (tmp_path / "users").write_text(f'"{server["USER"]}" "{server["PASSWORD"]}"\n')
    (tmp_path / "pgbouncer.ini").write_text(
        _CONFIGURATION.format(host=server["HOST"], port=server["PORT"] or 5432, listens=listens, folder=tmp_path)
    )
    # It refuses to be root, and the server's socket is for the server's own user alone.
    owner = pwd.getpwuid((Path(server["HOST"]) / f".s.PGSQL.{server['PORT'] or 5432}").stat().st_uid).pw_name
    arguments = ["-u", owner] if os.geteuid() == 0 else []
    for folder in (tmp_path, *tmp_path.parents):
        if folder == Path("/tmp"):
            break
        folder.chmod(0o711)
    process = subprocess.Popen([program, "-q", *arguments, str(tmp_path / "pgbouncer.ini")], stderr=subprocess.DEVNULL)
    settings.DATABASE_DIRECT_URL = f"{settings.DATABASE_URL}?direct"
    pooled = {**server, "HOST": "127.0.0.1", "PORT": str(listens)}
    monkeypatch.setitem(settings.DATABASES, "default", pooled)
    try:
        until(lambda: _answers(listens), what="pgbouncer")
        yield
    finally:
        process.terminate()
        process.wait(10)


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@pytest.mark.django_db(transaction=True)
def test_statements_said_again_and_again_are_understood_behind_a_pooler(pooler: None) -> None:
    asyncio.run(_say_it_again_and_again())


async def _say_it_again_and_again() -> None:
    first, second = [await database.connect(direct=False) for _ in range(2)]
    try:
        for number in range(12):
            async with first.transaction():
                assert await _sum(first, number) == number + 1
                async with second.transaction():  # takes the other connection of the server, now and then
                    assert await _sum(second, number) == number + 1
            assert await _sum(second, number) == number + 1
    finally:
        await first.close()
        await second.close()


async def _sum(one: psycopg.AsyncConnection[Any], number: int) -> int:
    found = await (await one.execute("SELECT %s::int + 1", [number])).fetchone()
    assert found is not None
    return int(found[0])
