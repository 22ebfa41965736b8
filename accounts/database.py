"""Asynchronous database connections for the processes that are no Django request: gates, engines, the web's acceptance loop.

They speak SQL directly (COPY, pipelines, LISTEN), with the connection parameters of Django's settings.
"""

from __future__ import annotations

import select
from typing import Any

import psycopg
from django.conf import settings
from psycopg_pool import AsyncConnectionPool

_DJANGO_TO_LIBPQ = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}


def parameters(*, direct: bool = False) -> dict[str, Any]:
    """libpq parameters. ``direct`` goes round a transaction pooler: for LISTEN and for session locks."""
    database: dict[str, Any] = settings.DIRECT_DATABASE if direct else settings.DATABASES["default"]
    named = {libpq: database[name] for name, libpq in _DJANGO_TO_LIBPQ.items() if database.get(name)}
    # A statement that was prepared would be looked for on whichever connection the pooler takes next.
    unprepared = {} if direct or settings.DATABASE_URL == settings.DATABASE_DIRECT_URL else {"prepare_threshold": None}
    return {**database.get("OPTIONS", {}), **named, **unprepared}


async def connect(*, direct: bool = True) -> psycopg.AsyncConnection[Any]:
    """One connection in autocommit, for LISTEN or a committer."""
    return await psycopg.AsyncConnection.connect(**parameters(direct=direct), autocommit=True)


class _Pool(AsyncConnectionPool[psycopg.AsyncConnection[Any]]):
    """Hands out no connection that the server closed while nobody used it.

    The library's own check costs a question each time, and after each dead connection it finds it sleeps for longer: with
    a handful of them, as a restarted database leaves behind, nobody gets one for many seconds.
    """

    async def getconn(self, timeout: float | None = None) -> psycopg.AsyncConnection[Any]:
        while True:
            connection = await super().getconn(timeout)
            if await is_alive(connection):
                return connection
            await connection.close()
            await self.putconn(connection)


async def is_alive(connection: psycopg.AsyncConnection[Any]) -> bool:
    """An idle connection has nothing to say, unless it is a farewell."""
    if connection.closed:
        return False
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if not poll.poll(0):
        return True
    try:
        await connection.execute("")
    except psycopg.Error:
        return False
    return True


def pool(*, max_size: int, name: str, min_size: int = 1) -> AsyncConnectionPool[psycopg.AsyncConnection[Any]]:
    """A pool that is not yet open: ``await pool.open()``. A connection that broke is replaced when next asked for."""
    return _Pool(
        kwargs={**parameters(), "autocommit": True},
        min_size=min_size,
        max_size=max_size,
        name=name,
        open=False,
        timeout=5,
        reconnect_timeout=5,
    )
