"""The routes that operators and tenants have set, as one small table in memory.

The nearest rule wins: a tenant's own before everybody's, an exact domain before ``*``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from delivery.models.route import ANY_DOMAIN


@dataclass(frozen=True, slots=True)
class SetRoute:
    """A row of delivery_route. The password is still sealed."""

    id: UUID
    domain: str
    tenant_id: UUID | None
    host: str
    port: int
    tls: str
    username: str
    sealed_password: bytes | None
    connections: int | None
    group_id: int


class RouteTable:
    def __init__(self, routes: list[SetRoute]) -> None:
        self._routes = {(route.tenant_id, route.domain): route for route in routes}
        self._by_group = {route.group_id: route for route in routes}

    def match(self, tenant_id: UUID, domain: str) -> SetRoute | None:
        if not self._routes:
            return None
        for key in ((tenant_id, domain), (None, domain), (tenant_id, ANY_DOMAIN), (None, ANY_DOMAIN)):
            route = self._routes.get(key)
            if route is not None:
                return route
        return None

    def of_group(self, group_id: int) -> SetRoute | None:
        """The route behind a smarthost's provider group, while it is set."""
        return self._by_group.get(group_id)


async def read(connection: psycopg.AsyncConnection[Any], *, with_passwords: bool = True) -> RouteTable:
    """Who only asks where mail goes, as a gate does, may not see what opens the door there."""
    password = "sealed_password" if with_passwords else "NULL::bytea AS sealed_password"
    sql = f"""SELECT id, domain, tenant_id, host, port, tls, username, {password}, connections, group_id
              FROM delivery_route"""
    async with connection.cursor(row_factory=class_row(SetRoute)) as cursor:
        await cursor.execute(sql)
        return RouteTable(await cursor.fetchall())
