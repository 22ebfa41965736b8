"""Credentials: issued, rotated, approved, revoked. A secret is returned once, by the function that made it.

User names read ``<slug>.<six characters>``, secrets carry 192 random bits and are stored as SHA-256. A network
credential has neither: it names a network that may hand over a tenant's mail without AUTH, works once an operator
agreed, and never overlaps another tenant's (the database sees to that too, for two that are issued at the same
moment).
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import audit, delegation, quotas
from accounts.audit import Actor
from accounts.models import Credential, CredentialKind, CredentialUse, Membership, Role, Tenant
from accounts.models.fields import Network
from accounts.refusals import NotFound, Refused

SECRET_OCTETS = 24
OVERLAP = timedelta(hours=24)  # how long a rotated secret stays valid beside the new one
SHORTEST_PREFIX = {4: 24, 6: 48}
API_SCOPES = ("send", "read", "manage")
# Of its own, because admins alone manage members: keys are issued by developers too.
MEMBERS = "members"
TENANT_SCOPES = (*API_SCOPES, MEMBERS)
OPERATE = "operate"  # of the operator's keys, which belong to the system tenant
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


class Issued(NamedTuple):
    credential: Credential
    secret: str | None  # None: a network needs none


def issue_credential(
    tenant: Tenant,
    *,
    kind: str,
    actor: Actor,
    name: str = "",
    use: str = CredentialUse.APPLICATION,
    is_test: bool = False,
    network: str | None = None,
    stream_id: UUID | None = None,
    pool_id: UUID | None = None,
    only_domain: str = "",
    only_networks: Sequence[str] = (),
    scopes: Sequence[str] = API_SCOPES,
    rate_per_second: float | None = None,
    daily_limit: int | None = None,
    expires_at: datetime | None = None,
    within: Credential | None = None,
) -> Issued:
    """Raises Refused. ``stream_id`` and ``pool_id`` must have been looked up for this tenant by the caller.

    ``within`` is the key that asks, where one does: it cannot give away more than it has.
    """
    _refuse_unknown(kind, CredentialKind.values, field="kind")
    _refuse_unknown(use, CredentialUse.values, field="use")
    _check_scopes(tenant, kind, scopes, actor)
    _ensure_may_hold(tenant, scopes, actor, within)
    if tenant.state == "closed":
        raise Refused(_("The tenant %(slug)s is closed.") % {"slug": tenant.slug}, reason="tenant_closed")
    if expires_at is not None and expires_at <= timezone.now():
        raise Refused(_("The credential would have expired already."), reason="expiry_past", field="expires_at")
    credential = Credential(
        tenant=tenant,
        kind=kind,
        use=use,
        is_test=is_test,
        name=name.strip()[:120] or _default_name(kind, network),
        scopes=list(scopes) if kind == CredentialKind.API else [],
        stream_id=stream_id,
        pool_id=pool_id,
        only_domain=only_domain,
        only_networks=[_parse_network(text, field="only_networks") for text in only_networks],
        rate_per_second=rate_per_second,
        daily_limit=daily_limit,
        expires_at=expires_at,
        created_by=actor.user,
    )
    if kind == CredentialKind.NETWORK and network:
        credential.network = _parse_network(network, field="network")
    if within is not None:
        delegation.ensure_within(within, credential)
    with transaction.atomic():
        secret: str | None = None
        if kind == CredentialKind.NETWORK:
            _insert_network(credential, network, actor)
        else:
            secret = _insert_login(credential, network)
        quotas.keep_rate_bucket(credential.id, rate_per_second)
        _record_issue(credential, actor)
    return Issued(credential, secret)


def _record_issue(credential: Credential, actor: Actor) -> None:
    audit.record(
        actor,
        "credential.issue",
        tenant=credential.tenant,
        object_id=credential.id,
        object_name=credential.name,
        after={
            "kind": credential.kind,
            "use": credential.use,
            "is_test": credential.is_test,
            "username": credential.username,
            "network": credential.network,
            "stream_id": credential.stream_id,
            "pool_id": credential.pool_id,
            "scopes": credential.scopes,
            "only_domain": credential.only_domain,
            "only_networks": credential.only_networks,
            "expires_at": credential.expires_at,
        },
    )


def api_key(credential: Credential, secret: str) -> str:
    """What a client puts behind ``Authorization: Bearer``."""
    return f"{credential.username}.{secret}"


def rotate_credential(
    credential: Credential, *, actor: Actor, overlap: timedelta = OVERLAP, within: Credential | None = None
) -> str:
    """A new secret; the old one works on for ``overlap``. Raises Refused for networks and revoked credentials.

    ``within`` is the key that asks, where one does: it is not told the secret of a credential that may do more.
    """
    if within is not None and within.pk != credential.pk:
        delegation.ensure_within(within, credential)
    _ensure_may_hold(credential.tenant, credential.scopes, actor, within)
    if credential.secret_sha256 is None:
        raise Refused(_("A network credential has no secret."), reason="no_secret")
    secret, now = _new_secret(), timezone.now()
    former = bytes(credential.secret_sha256)
    with transaction.atomic():
        changed = Credential.objects.filter(pk=credential.pk, revoked_at=None, secret_sha256=former).update(
            secret_sha256=_digest(secret),
            former_secret_sha256=former if overlap > timedelta(0) else None,
            former_secret_until=now + overlap if overlap > timedelta(0) else None,
        )
        if not changed:
            raise Refused(_("The credential was revoked or rotated meanwhile."), reason="credential_changed")
        audit.record(
            actor,
            "credential.rotate",
            tenant=credential.tenant,
            object_id=credential.id,
            object_name=credential.name,
            after={"former_secret_until": now + overlap},
        )
    credential.refresh_from_db()
    return secret


def revoke_credential(credential: Credential, *, actor: Actor, reason: str = "") -> Credential:
    """Open sessions that used it end within seconds; mail already taken is delivered. Cannot be undone."""
    now = timezone.now()
    with transaction.atomic():
        if not Credential.objects.filter(pk=credential.pk, revoked_at=None).update(revoked_at=now):
            raise Refused(
                _("The credential %(name)s is revoked already.") % {"name": credential.name}, reason="revoked"
            )
        quotas.keep_rate_bucket(credential.id, None)
        audit.record(
            actor,
            "credential.revoke",
            tenant=credential.tenant,
            object_id=credential.id,
            object_name=credential.name,
            before={"username": credential.username, "network": credential.network},
            after={"revoked_at": now},
            reason=reason,
        )
    credential.refresh_from_db()
    return credential


def approve_credential(credential: Credential, *, actor: Actor) -> Credential:
    """An operator agrees to a network that a tenant asked for."""
    if not actor.is_operator:
        raise Refused(_("Only an operator can approve a network."), reason="operators_only")
    now = timezone.now()
    with transaction.atomic():
        changed = Credential.objects.filter(
            pk=credential.pk, kind=CredentialKind.NETWORK, approved_at=None, revoked_at=None
        ).update(approved_at=now, approved_by=actor.user)
        if not changed:
            raise Refused(_("There is nothing to approve here."), reason="nothing_to_approve")
        audit.record(
            actor,
            "credential.approve",
            tenant=credential.tenant,
            object_id=credential.id,
            object_name=credential.name,
            after={"network": credential.network},
        )
    credential.refresh_from_db()
    return credential


def find_credential(key: str | UUID, *, tenant: Tenant | None = None) -> Credential:
    """By id or user name; with a tenant, among that tenant's only. Raises NotFound."""
    credentials = Credential.objects.all() if tenant is None else Credential.objects.of(tenant)
    found = credentials.select_related("tenant").filter(Q(username=str(key)) | Q(pk=_as_uuid(key))).first()
    if found is None:
        raise NotFound(_("There is no credential %(key)s.") % {"key": key}, field="credential")
    return found


def list_credentials(tenant: Tenant, *, with_revoked: bool = False) -> list[Credential]:
    credentials = Credential.objects.of(tenant).order_by("-created_at")
    return list(credentials if with_revoked else credentials.filter(revoked_at=None))


def _check_scopes(tenant: Tenant, kind: str, scopes: Sequence[str], actor: Actor) -> None:
    for scope in scopes:
        _refuse_unknown(scope, (*TENANT_SCOPES, OPERATE), field="scopes")
    if kind == CredentialKind.API and not scopes:
        raise Refused(_("A key without a scope could do nothing."), reason="scopes_missing", field="scopes")
    if OPERATE in scopes and not (actor.is_operator and tenant.is_system):
        raise Refused(
            _("Only an operator can have a key that operates the service."), reason="operators_only", field="scopes"
        )


def _ensure_may_hold(tenant: Tenant, scopes: Sequence[str], actor: Actor, within: Credential | None) -> None:
    """A secret with which members are managed is for whoever may do that themselves. ``within`` was looked at before."""
    if MEMBERS not in scopes or within is not None or actor.is_operator:
        return
    member = Membership.objects.of(tenant).filter(user=actor.user).first() if actor.user else None
    if member is None or not Role(member.role).includes(Role.ADMIN):
        raise Refused(
            _("Only an admin or an owner can have a key that manages members."), reason="admins_only", field="scopes"
        )


# ---------------------------------------------------------------- logins


def _insert_login(credential: Credential, network: str | None) -> str:
    if network:
        raise Refused(_("Only a network credential takes a network."), reason="network_not_wanted", field="network")
    secret = _new_secret()
    credential.secret_sha256 = _digest(secret)
    for _attempt in range(5):
        suffix = "".join(secrets.choice(_ALPHABET) for _place in range(6))
        credential.username = f"{credential.tenant.slug}.{suffix}"
        try:
            with transaction.atomic():
                credential.save(force_insert=True)
            return secret
        except IntegrityError:
            if not Credential.objects.filter(username=credential.username).exists():
                raise
    raise Refused(_("No free user name was found; try again."), reason="username_taken")


def _new_secret() -> str:
    secret = secrets.token_urlsafe(SECRET_OCTETS)
    # A program that is given it as an argument must not take it for an option.
    return _new_secret() if secret.startswith("-") else secret


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


# ---------------------------------------------------------------- networks


def _insert_network(credential: Credential, text: str | None, actor: Actor) -> None:
    if not text:
        raise Refused(
            _("A network credential needs a network, such as 192.0.2.0/28."), reason="network_missing", field="network"
        )
    network = _parse_network(text, field="network")
    shortest = SHORTEST_PREFIX[network.version]
    if network.prefixlen < shortest:
        raise Refused(
            _("%(network)s is too large: at most a /%(prefix)s can be named.")
            % {"network": network, "prefix": shortest},
            reason="network_too_large",
            field="network",
        )
    if network.is_multicast or network.is_unspecified:
        raise Refused(
            _("No mail comes from %(network)s.") % {"network": network}, reason="network_unusable", field="network"
        )
    _refuse_overlap(credential.tenant, network)
    credential.network = network
    if actor.is_operator:
        credential.approved_at, credential.approved_by = timezone.now(), actor.user
    try:
        with transaction.atomic():
            credential.save(force_insert=True)
    except IntegrityError as error:  # issued to two tenants at the same moment
        if "credential_networks_of_tenants_apart" not in str(error):
            raise
        raise _overlaps(network) from None


def _refuse_overlap(tenant: Tenant, network: Network) -> None:
    overlapping = Credential.objects.filter(kind=CredentialKind.NETWORK, revoked_at=None).exclude(tenant=tenant)
    if overlapping.extra(where=["network && %s::cidr"], params=[str(network)]).exists():
        raise _overlaps(network)


def _overlaps(network: Network) -> Refused:
    # Whose network it is stays untold.
    return Refused(
        _("%(network)s overlaps a network that belongs to another tenant.") % {"network": network},
        reason="network_taken",
        field="network",
    )


def _parse_network(text: str, *, field: str) -> Network:
    try:
        if "%" in text:
            raise ValueError("a zone is no part of it")
        return ipaddress.ip_network(text.strip())
    except ValueError as error:
        raise Refused(
            _("%(text)s is no network: %(why)s.") % {"text": text, "why": error},
            reason="network_malformed",
            field=field,
        ) from None


def _default_name(kind: str, network: str | None) -> str:
    return network[:120] if network else {"smtp": "SMTP", "api": "API"}.get(kind, kind)


def _refuse_unknown(value: str, known: Sequence[str], *, field: str) -> None:
    if value not in known:
        raise Refused(
            _("%(value)s is none of: %(known)s.") % {"value": value, "known": ", ".join(known)},
            reason="value_unknown",
            field=field,
        )


def _as_uuid(key: str | UUID) -> UUID | None:
    try:
        return key if isinstance(key, UUID) else UUID(key)
    except ValueError:
        return None
