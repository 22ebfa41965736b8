"""Asynchronous database connections for the processes that are no Django request: gates, engines, the web's acceptance loop.

They speak SQL directly (COPY, pipelines, LISTEN), with the connection parameters of Django's settings.
"""

from __future__ import annotations

from typing import Any

import psycopg
from django.conf import settings
from psycopg_pool import AsyncConnectionPool

_DJANGO_TO_LIBPQ = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}


def parameters(*, direct: bool = False) -> dict[str, Any]:
    """libpq parameters. ``direct`` goes round a transaction pooler: for LISTEN and for session locks."""
    database = settings.DIRECT_DATABASE if direct else settings.DATABASES["default"]
    named = {libpq: database[name] for name, libpq in _DJANGO_TO_LIBPQ.items() if database.get(name)}
    return {**database.get("OPTIONS", {}), **named}


async def connect(*, direct: bool = True) -> psycopg.AsyncConnection[Any]:
    """One connection in autocommit, for LISTEN or a committer."""
    return await psycopg.AsyncConnection.connect(**parameters(direct=direct), autocommit=True)


def pool(*, max_size: int, name: str, min_size: int = 1) -> AsyncConnectionPool[psycopg.AsyncConnection[Any]]:
    """A pool that is not yet open: ``await pool.open()``. A connection that broke is replaced when next asked for."""
    return AsyncConnectionPool(
        kwargs={**parameters(), "autocommit": True},
        min_size=min_size,
        max_size=max_size,
        name=name,
        open=False,
        timeout=5,
        check=AsyncConnectionPool.check_connection,
        reconnect_timeout=5,
    )
