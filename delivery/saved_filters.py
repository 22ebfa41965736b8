"""Filters of the send log that are kept under a name, by a person alone or for the whole tenant."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils.translation import gettext as _

from accounts import audit
from accounts.audit import Actor
from accounts.models import Tenant, User
from accounts.refusals import NotFound, Refused
from delivery.models import SavedFilter

MOST = 50  # of a tenant's shared filters, and of a person's own
_LONGEST_QUERY = 4000


def visible_to(tenant: Tenant, person: User) -> list[SavedFilter]:
    """The person's own and the shared ones, by name."""
    mine_or_shared = Q(person=person) | Q(person=None)
    return list(SavedFilter.objects.of(tenant).filter(mine_or_shared).order_by("name", "id")[: 2 * MOST])


def find(tenant: Tenant, person: User, filter_id: UUID) -> SavedFilter:
    """Raises NotFound, also for another person's."""
    found = SavedFilter.objects.of(tenant).filter(Q(person=person) | Q(person=None), pk=filter_id).first()
    if found is None:
        raise NotFound(_("There is no such filter."))
    return found


def save(tenant: Tenant, *, name: str, query: str, owner: User | None, actor: Actor) -> SavedFilter:
    """``owner`` None: for everybody in the tenant. Raises Refused for a name that is taken, and for too many."""
    name = _good_name(name)
    if SavedFilter.objects.of(tenant).filter(person=owner).count() >= MOST:
        raise Refused(_("There are %(n)s saved filters already; remove one first.") % {"n": MOST}, reason="too_many")
    with _name_is_free(), transaction.atomic():
        saved = SavedFilter.objects.create(tenant=tenant, person=owner, name=name, query=query[:_LONGEST_QUERY])
        audit.record(
            actor,
            "filter.save",
            tenant=tenant,
            object_id=saved.id,
            object_name=name,
            after={"filter": saved.query, "shared": owner is None},
        )
    return saved


def rename(saved: SavedFilter, name: str, *, actor: Actor) -> None:
    """Raises Refused."""
    name, before = _good_name(name), saved.name
    with _name_is_free(), transaction.atomic():
        SavedFilter.objects.filter(pk=saved.pk).update(name=name)
        audit.record(
            actor,
            "filter.rename",
            tenant=saved.tenant,
            object_id=saved.id,
            object_name=name,
            before={"name": before},
            after={"name": name},
        )
    saved.name = name


def remove(saved: SavedFilter, *, actor: Actor) -> None:
    with transaction.atomic():
        SavedFilter.objects.filter(pk=saved.pk).delete()
        audit.record(
            actor,
            "filter.remove",
            tenant=saved.tenant,
            object_id=saved.id,
            object_name=saved.name,
            before={"filter": saved.query, "shared": saved.person_id is None},
        )


def _good_name(name: str) -> str:
    name = " ".join(name.split())
    if not name or len(name) > 80:
        raise Refused(_("Give it a name of at most 80 characters."), reason="name_malformed", field="name")
    return name


@contextlib.contextmanager
def _name_is_free() -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        raise Refused(_("There is a filter of this name already."), reason="name_taken", field="name") from error
