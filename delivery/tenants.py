"""A tenant as the mail knows it: opened together with the streams its mail flows in.

``accounts`` stands below and knows no streams, so this is the one door for new tenants; a tenant without streams could
accept nothing. Suspending, resuming and closing concern accounts alone.
"""

from __future__ import annotations

from django.db import transaction
from django.utils.translation import gettext as _

from accounts import quotas, tenants
from accounts.audit import Actor
from accounts.authentication import Principal
from accounts.models import CredentialUse, Tenant, User
from accounts.refusals import NotFound
from delivery import foundation
from delivery.models import Stream


def open_tenant(
    name: str,
    *,
    owner_email: str,
    actor: Actor,
    slug: str = "",
    language: str = "ja",
    time_zone: str = "Asia/Tokyo",
    by_themselves: bool = False,
) -> tuple[Tenant, User]:
    """The tenant, ready to send, and its owner. Raises accounts.refusals.Refused.

    Opened ``by_themselves`` it waits for an operator's approval where the installation asks for one.
    """
    with transaction.atomic():
        tenant, owner = tenants.create_tenant(
            name, owner_email=owner_email, actor=actor, slug=slug, language=language, time_zone=time_zone
        )
        foundation.give_streams(tenant)
        if by_themselves:
            tenants.set_out(tenant)
    return tenant, owner


def principal_of(tenant: Tenant, *, as_mail_server: bool = False) -> Principal:
    """The tenant itself, without a credential: what it may hand over is limited by its own limits alone.

    ``as_mail_server``: it may hand over reports, which have the null reverse-path.
    """
    limits = quotas.limits_of(tenant)
    return Principal(
        tenant_id=tenant.id,
        tenant_slug=tenant.slug,
        tenant_state=tenant.state,
        tenant_is_system=tenant.is_system,
        credential_id=None,
        credential_kind="",
        credential_use=(CredentialUse.MAIL_SERVER if as_mail_server else CredentialUse.APPLICATION).value,
        is_test=False,
        stream_id=Stream.objects.of(tenant).values_list("id", flat=True).get(is_default=True),
        pool_id=None,
        only_domain="",
        max_message_bytes=limits.max_message_bytes,
        max_recipients=limits.max_recipients,
        retention_days=tenant.content_class,
        scopes=frozenset(),
        hourly_limit=limits.hourly_limit,
        daily_limit=limits.daily_limit,
        monthly_limit=limits.monthly_limit,
        credential_daily_limit=None,
        has_rate=limits.rate_per_second is not None,
    )


def find_stream(tenant: Tenant, name: str) -> Stream:
    """Raises NotFound."""
    stream = Stream.objects.of(tenant).filter(name=name).first()
    if stream is None:
        known = ", ".join(Stream.objects.of(tenant).order_by("name").values_list("name", flat=True))
        raise NotFound(
            _("There is no stream %(name)s; there are: %(known)s.") % {"name": name, "known": known}, field="stream"
        )
    return stream
