"""Writes and reads the audit log: who changed what, from where, and what it was before.

Every function that changes something an owner or operator would ask about takes an ``Actor`` and records one entry in
the transaction of the change, so that neither exists without the other. Secrets never reach this module.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.dispatch import Signal

from accounts.identifiers import first_of
from accounts.models import AuditEntry, Tenant, User
from accounts.models.tenant import SYSTEM_SLUG

# How the names of those begin who are no person: the log tells operators' doings by them.
COMMAND_LINE = "command line "
SERVICE = "relayweb "
OPERATORS_KEY = f"API key {SYSTEM_SLUG}."

# Sent with `entry`, in the transaction of the change: for layers above, which this one does not know.
recorded = Signal()


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does it. ``name`` is kept in words, so that the entry still reads when the account is gone."""

    name: str
    user: User | None = None
    is_operator: bool = False
    on_behalf_of: str = ""
    peer_address: str | None = None

    @classmethod
    def person(cls, user: User, *, peer_address: str | None = None, on_behalf_of: str = "") -> Actor:
        return cls(
            name=user.email,
            user=user,
            is_operator=user.is_operator,
            on_behalf_of=on_behalf_of,
            peer_address=peer_address,
        )

    @classmethod
    def command_line(cls) -> Actor:
        """Whoever may run the command line on this machine is an operator."""
        return cls(name=f"{COMMAND_LINE}({_login_name()})", is_operator=True)

    @classmethod
    def system(cls, part: str) -> Actor:
        """The service itself, e.g. the periodic check of domains."""
        return cls(name=f"{SERVICE}{part}", is_operator=True)


def record(
    actor: Actor,
    action: str,
    *,
    tenant: Tenant | None = None,
    object_id: object = "",
    object_name: str = "",
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    reason: str = "",
) -> AuditEntry:
    """``action`` reads noun.verb. ``before`` and ``after`` hold only what changed."""
    entry = AuditEntry.objects.create(
        tenant=tenant,
        actor=actor.user,
        actor_name=actor.name[:254],
        on_behalf_of=actor.on_behalf_of[:254],
        action=action,
        object_id=str(object_id)[:64],
        object_name=object_name[:255],
        before=_plain(before or {}),
        after=_plain(after or {}),
        reason=reason[:500],
        peer_address=actor.peer_address,
    )
    recorded.send(AuditEntry, entry=entry)
    return entry


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain_value(value) for name, value in values.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain_value(member) for member in value]
    return str(value)


def _login_name() -> str:
    # sudo's variable names the person; the process itself may run as root.
    for name in ("SUDO_USER", "LOGNAME", "USER"):
        if os.environ.get(name):
            return os.environ[name]
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


# ---------------------------------------------------------------- reading it


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Everything that is said must hold. ``noun`` is the first word of an action."""

    person: str = ""
    noun: str = ""
    thing: str = ""
    tenant: Tenant | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class EntryPage:
    rows: tuple[AuditEntry, ...]
    newer: UUID | None
    older: UUID | None


def page_of(
    tenant: Tenant | None, search: Search, *, before: UUID | None = None, after: UUID | None = None, size: int = 50
) -> EntryPage:
    """Newest first, by keyset. Without a tenant: what operators, the command line and the service itself did anywhere."""
    matching = _matching(tenant, search)
    if after is not None:
        found = list(matching.filter(id__gt=after).order_by("id")[: size + 1])
        more, found = len(found) > size, found[:size][::-1]
        return EntryPage(tuple(found), found[0].id if more else None, found[-1].id if found else None)
    bounded = matching if before is None else matching.filter(id__lt=before)
    found = list(bounded.order_by("-id")[: size + 1])
    more, found = len(found) > size, found[:size]
    newer = found[0].id if found and before is not None else None
    return EntryPage(tuple(found), newer, found[-1].id if more else None)


def entries(tenant: Tenant | None, search: Search, *, size: int = 1000) -> Iterator[AuditEntry]:
    """All of them, newest first, read in short transactions: for exports of any length."""
    before: UUID | None = None
    while True:
        page = page_of(tenant, search, before=before, size=size)
        yield from page.rows
        if page.older is None:
            return
        before = page.older


def _matching(tenant: Tenant | None, search: Search) -> QuerySet[AuditEntry]:
    found: QuerySet[AuditEntry] = _of_operators() if tenant is None else AuditEntry.objects.of(tenant)
    if search.tenant is not None:
        found = found.filter(tenant=search.tenant)
    if search.since is not None:
        found = found.filter(id__gte=first_of(search.since))
    if search.person:
        found = found.filter(Q(actor_name__icontains=search.person) | Q(on_behalf_of__icontains=search.person))
    if search.noun:
        found = found.filter(action__startswith=f"{search.noun}.")
    if search.thing:
        found = found.filter(object_name__icontains=search.thing)
    return found


def _of_operators() -> QuerySet[AuditEntry]:
    """What belongs to no tenant, and what operators, the command line and the service did to one."""
    operators = User.objects.filter(is_operator=True).values("pk")
    return AuditEntry.objects.select_related("tenant").filter(
        Q(tenant=None)
        | Q(actor__in=operators)
        | Q(actor_name__startswith=COMMAND_LINE)
        | Q(actor_name__startswith=SERVICE)
        | Q(actor_name__startswith=OPERATORS_KEY)
    )
