"""The cast, signed in where a test asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches
from django.test import Client

from relayweb.processes.catalogues import compile_outdated

if TYPE_CHECKING:  # a conftest is read before Django is set up
    from accounts.models import User
    from tests.support.journeys import Cast

SignedIn = Callable[..., Client]


@pytest.fixture(scope="session", autouse=True)
def _catalogues() -> None:
    compile_outdated()


@pytest.fixture(autouse=True)
def _no_tries_counted() -> None:
    for name in ("default", "process"):
        caches[name].clear()


Mailbox = Callable[[str], list[Any]]


@pytest.fixture
def mailbox() -> Mailbox:
    """What has come for an address, oldest first; letters still on their way are waited for."""
    from django.core import mail

    from relayweb import letters

    def look(address: str) -> list[Any]:
        letters.wait_until_sent()
        return [message for message in mail.outbox if address in message.to]

    return look


@pytest.fixture
def cast(db: None) -> Cast:
    from tests.support.journeys import make_cast

    return make_cast()


@pytest.fixture
def signed_in() -> SignedIn:
    def sign_in(person: User, *, language: str = "en") -> Client:
        client = Client(headers={"accept-language": language})
        client.force_login(person)
        return client

    return sign_in


@pytest.fixture
def alice(cast: Cast, signed_in: SignedIn) -> Client:
    return signed_in(cast.alice)


@pytest.fixture
def charlie(cast: Cast, signed_in: SignedIn) -> Client:
    return signed_in(cast.charlie)
