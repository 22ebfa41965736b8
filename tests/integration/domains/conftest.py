"""Who acts, and on whose tenant. Django's tables are imported late: pytest reads this file before Django is set up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from accounts.audit import Actor
    from accounts.models import Tenant


@pytest.fixture
def operator() -> Actor:
    from accounts.audit import Actor

    return Actor("olivia@relay.example", is_operator=True, peer_address="192.0.2.1")


@pytest.fixture
def alice() -> Actor:
    from accounts.audit import Actor

    return Actor("alice@acme.example", peer_address="192.0.2.2")


@pytest.fixture
def acme(db: None, operator: Actor) -> Tenant:
    from delivery.tenants import open_tenant

    return open_tenant("Acme", owner_email="alice@acme.example", actor=operator)[0]


@pytest.fixture
def globex(db: None, operator: Actor) -> Tenant:
    from delivery.tenants import open_tenant

    return open_tenant("Globex", owner_email="charlie@globex.example", actor=operator)[0]
