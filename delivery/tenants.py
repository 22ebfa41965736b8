"""A tenant as the mail knows it: opened together with the streams its mail flows in.

``accounts`` stands below and knows no streams, so this is the one door for new tenants; a tenant without streams could
accept nothing. Suspending, resuming and closing concern accounts alone.
"""

from __future__ import annotations

from django.db import transaction
from django.utils.translation import gettext as _

from accounts import tenants
from accounts.audit import Actor
from accounts.models import Tenant, User
from accounts.refusals import NotFound
from delivery import foundation
from delivery.models import Stream


def open_tenant(
    name: str, *, owner_email: str, actor: Actor, slug: str = "", language: str = "ja", time_zone: str = "Asia/Tokyo"
) -> tuple[Tenant, User]:
    """The tenant, ready to send, and its owner. Raises accounts.refusals.Refused."""
    with transaction.atomic():
        tenant, owner = tenants.create_tenant(
            name, owner_email=owner_email, actor=actor, slug=slug, language=language, time_zone=time_zone
        )
        foundation.give_streams(tenant)
    return tenant, owner


def find_stream(tenant: Tenant, name: str) -> Stream:
    """Raises NotFound."""
    stream = Stream.objects.of(tenant).filter(name=name).first()
    if stream is None:
        known = ", ".join(Stream.objects.of(tenant).order_by("name").values_list("name", flat=True))
        raise NotFound(
            _("There is no stream %(name)s; there are: %(known)s.") % {"name": name, "known": known}, field="stream"
        )
    return stream
