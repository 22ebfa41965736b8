"""Keys of Acme and Globex, and a client that speaks HTTP to the application as programs do."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches
from django.test import Client

if TYPE_CHECKING:  # a conftest is read before Django is set up
    from tests.support.engine_room import World


@dataclass
class Program:
    """Holds a key and calls the API; ``json`` bodies are written out, ``bytes`` sent as they are."""

    key: str
    client: Client

    def call(self, method: str, path: str, body: Any = None, *, kind: str = "application/json", **headers: str) -> Any:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        if self.key:
            headers.setdefault("Authorization", f"Bearer {self.key}")
        return self.client.generic(method, path, data, content_type=kind if data else "", headers=headers)

    def get(self, path: str, **headers: str) -> Any:
        return self.call("GET", path, **headers)

    def post(self, path: str, body: Any = None, **more: Any) -> Any:
        return self.call("POST", path, body, **more)


IssueKey = Callable[..., Program]


@pytest.fixture(autouse=True)
def _nothing_counted() -> None:
    caches["process"].clear()


@pytest.fixture(autouse=True)
def _open_door(safe_database: None, own_door: None) -> None:
    """Every request of these tests goes through it."""


@pytest.fixture
def world(transactional_db: None, settings: Any) -> World:
    from tests.support.engine_room import make_world

    settings.DIRECT_DATABASE = settings.DATABASES["default"]
    return make_world()


@pytest.fixture
def issue_key(world: World) -> IssueKey:
    from accounts.audit import Actor
    from accounts.credentials import api_key, issue_credential

    def issue(tenant: Any = None, **options: Any) -> Program:
        options.setdefault("actor", Actor("alice@acme.example"))
        credential, secret = issue_credential(tenant or world.cast.acme, kind="api", **options)
        assert secret is not None
        return Program(api_key(credential, secret), Client(raise_request_exception=False))

    return issue


@pytest.fixture
def acme(issue_key: IssueKey) -> Program:
    return issue_key()


@pytest.fixture
def globex(issue_key: IssueKey, world: World) -> Program:
    return issue_key(world.cast.globex)


@pytest.fixture
def stranger() -> Program:
    return Program("", Client(raise_request_exception=False))
