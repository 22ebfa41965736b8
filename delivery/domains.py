"""Sending domains: claimed, changed, given up, found.

A claim stands in nobody's way until its tenant has published the token that belongs to this claim alone; from then on
the domain has one owner. What a domain publishes is in ``delivery.domain_records``, the keys it signs with change in
``delivery.domain_keys``, and ``delivery.domain_watch`` looks at its records again and again.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable
from email.utils import parseaddr
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import audit
from accounts.audit import Actor
from accounts.models import Tenant
from accounts.refusals import NotFound, Refused
from delivery.core.mailbox import MailboxSyntaxError, parse_domain
from delivery.domain_keys import choose_signing_key
from delivery.domain_names import checked_name
from delivery.domain_records import SELECTORS, ensure_keys, wanted_of
from delivery.domain_watch import HELD_REMOVED, UNDO_WINDOW, hold_or_release, record_state
from delivery.models import DomainState, SendingDomain
from delivery.queue import control

LOG = logging.getLogger(__name__)


# ---------------------------------------------------------------- claiming and giving up


def add_domain(tenant: Tenant, name: str, *, actor: Actor, assume_verified: bool = False) -> SendingDomain:
    """A claim, to be proved by its ownership record; ``assume_verified`` is an operator's word instead.

    Raises Refused.
    """
    if assume_verified and not actor.is_operator:
        raise Refused(_("Only an operator can vouch for a domain."), reason="operators_only")
    if tenant.awaits_approval and not actor.is_operator:
        # Without a domain it writes to its own members only, by the onboarding domain.
        raise Refused(
            _("An operator has to agree first. Until then you can send to the members of the tenant."),
            reason="awaits_approval",
        )
    checked = checked_name(name, is_vouched_for=assume_verified)
    now = timezone.now()
    domain = SendingDomain(
        tenant=tenant,
        name=checked,
        ownership_token=secrets.token_hex(16),
        state=DomainState.VERIFIED if assume_verified else DomainState.PENDING,
        is_assumed=assume_verified,
        verified_at=now if assume_verified else None,
        next_check_at=None if assume_verified else now,
    )
    try:
        with transaction.atomic():
            domain.save(force_insert=True)
            ensure_keys(domain)
            if assume_verified:
                choose_signing_key(domain, seen=frozenset(SELECTORS), now=now)
            audit.record(
                actor,
                "domain.add",
                tenant=tenant,
                object_id=domain.id,
                object_name=domain.name,
                after={"name": domain.name, "state": domain.state, "is_assumed": assume_verified},
            )
    except IntegrityError as error:
        raise _taken(error, checked) from None
    return domain


def assume_verified(domain: SendingDomain, *, actor: Actor) -> SendingDomain:
    """An operator vouches for a domain that cannot be looked up, e.g. one of a closed network."""
    if not actor.is_operator:
        raise Refused(_("Only an operator can vouch for a domain."), reason="operators_only")
    now = timezone.now()
    try:
        with transaction.atomic():
            changed = SendingDomain.objects.filter(
                pk=domain.pk, state__in=[DomainState.PENDING, DomainState.LAPSED, DomainState.VERIFIED]
            ).update(
                state=DomainState.VERIFIED, is_assumed=True, verified_at=now, failing_since=None, next_check_at=None
            )
            if not changed:
                raise Refused(_("The domain was removed."), reason="domain_removed")
            ensure_keys(domain)
            choose_signing_key(domain, seen=frozenset(SELECTORS), now=now)
            record_state(domain, actor, "domain.assume", after=DomainState.VERIFIED)
    except IntegrityError as error:
        raise _taken(error, domain.name) from None
    domain.refresh_from_db()
    hold_or_release(domain)
    return domain


def remove_domain(domain: SendingDomain, *, actor: Actor) -> SendingDomain:
    """New mail is refused at once and open mail is held; ``restore_domain`` undoes it within UNDO_WINDOW."""
    with transaction.atomic():
        changed = (
            SendingDomain.objects.filter(pk=domain.pk)
            .exclude(state=DomainState.REMOVED)
            .update(state=DomainState.REMOVED, removed_at=timezone.now(), next_check_at=None)
        )
        if not changed:
            raise Refused(_("The domain %(name)s is removed already.") % {"name": domain.name}, reason="domain_removed")
        record_state(domain, actor, "domain.remove", after=DomainState.REMOVED)
    control.hold_domain(domain.id, reason=HELD_REMOVED)
    domain.refresh_from_db()
    return domain


def restore_domain(domain: SendingDomain, *, actor: Actor) -> SendingDomain:
    """Takes a removal back. Where another tenant has proved the domain meanwhile, the claim has to be proved anew."""
    now = timezone.now()
    removed = SendingDomain.objects.filter(pk=domain.pk, state=DomainState.REMOVED, removed_at__gte=now - UNDO_WINDOW)
    was_proved = domain.verified_at is not None
    for state in [DomainState.VERIFIED, DomainState.PENDING] if was_proved else [DomainState.PENDING]:
        try:
            with transaction.atomic():
                if not removed.update(
                    state=state, removed_at=None, failing_since=None, next_check_at=None if domain.is_assumed else now
                ):
                    raise Refused(
                        _("The domain %(name)s cannot be restored any more.") % {"name": domain.name},
                        reason="undo_too_late",
                    )
                record_state(domain, actor, "domain.restore", after=state)
            break
        except IntegrityError as error:
            if "sending_domain_once_per_tenant" in str(error):
                raise _taken(error, domain.name) from None
    domain.refresh_from_db()
    hold_or_release(domain)
    return domain


def update_domain(
    domain: SendingDomain,
    *,
    actor: Actor,
    signs: bool | None = None,
    covers_subdomains: bool | None = None,
    keeps_reverse_path: bool | None = None,
    adds_unsubscribe: bool | None = None,
) -> SendingDomain:
    """What is None stays as it is."""
    wanted = {
        "signs": signs,
        "covers_subdomains": covers_subdomains,
        "keeps_reverse_path": keeps_reverse_path,
        "adds_unsubscribe": adds_unsubscribe,
    }
    changes = {name: value for name, value in wanted.items() if value is not None and value != getattr(domain, name)}
    if changes:
        with transaction.atomic():
            SendingDomain.objects.filter(pk=domain.pk).update(**changes)
            audit.record(
                actor,
                "domain.update",
                tenant=domain.tenant,
                object_id=domain.id,
                object_name=domain.name,
                before={name: getattr(domain, name) for name in changes},
                after=changes,
            )
        domain.refresh_from_db()
    return domain


def find_domain(name: str | UUID, *, tenant: Tenant | None = None, is_removed: bool = False) -> SendingDomain:
    """By name or id. Without a tenant, for operators, the owner's row where there is one. Raises NotFound, Refused."""
    domains = SendingDomain.objects.all() if tenant is None else SendingDomain.objects.of(tenant)
    key = name if isinstance(name, UUID) else _as_uuid(name)
    wanted = Q(pk=key) if key else Q(name=_comparable(str(name)))
    removed = Q(state=DomainState.REMOVED)
    found = list(
        domains.select_related("tenant").filter(wanted, removed if is_removed else ~removed).order_by("-created_at")
    )
    owned = [domain for domain in found if domain.state in (DomainState.VERIFIED, DomainState.LAPSED)]
    if len(found) > 1 and len(owned) != 1 and not is_removed:
        raise Refused(
            _("Several tenants have added %(name)s; say which one is meant.") % {"name": name},
            reason="domain_ambiguous",
            field="tenant",
        )
    if not found:
        raise NotFound(_("There is no domain %(name)s.") % {"name": name}, field="name")
    return (owned or found)[0]


def list_domains(tenant: Tenant | None = None, *, with_removed: bool = False) -> list[SendingDomain]:
    domains = SendingDomain.objects.all() if tenant is None else SendingDomain.objects.of(tenant)
    if not with_removed:
        domains = domains.exclude(state=DomainState.REMOVED)
    return list(domains.select_related("tenant").order_by("name", "created_at"))


def platform_records(domains: Iterable[SendingDomain] | None = None) -> list[tuple[str, str, str]]:
    """What the operator publishes so that the customers' CNAMEs lead somewhere: (name, type, value)."""
    chosen = list_domains() if domains is None else list(domains)
    return [
        (key.target, "TXT", key.public_record) for domain in chosen for key in wanted_of(domain).keys
    ]  # fmt: skip


# ---------------------------------------------------------------- domains of the service itself


def ensure_own_domains(*, actor: Actor) -> list[SendingDomain]:
    """The domains the service writes from belong to the system tenant, on the operator's word. Safe to repeat.

    The one that signs for feedback loops has to be proved like any other, unless the service writes from it too: a
    signature whose key nobody can find would tell receivers that something is wrong.
    """
    system = Tenant.objects.get(is_system=True)
    own = []
    written_from = own_domain_names()
    for name in dict.fromkeys([*written_from, *filter(None, [_comparable(settings.FEEDBACK_DOMAIN)])]):
        domain = SendingDomain.objects.of(system).filter(name=name).exclude(state=DomainState.REMOVED).first()
        try:
            own.append(domain or add_domain(system, name, actor=actor, assume_verified=name in written_from))
        except Refused as refusal:
            LOG.warning("the service cannot write as %s: %s", name, refusal.sentence)
    return own


def feedback_domain() -> SendingDomain | None:
    """The domain of the operator's second signature; None where none is set, or nobody has added it yet."""
    if not settings.FEEDBACK_DOMAIN:
        return None
    own = SendingDomain.objects.filter(tenant__is_system=True, name=_comparable(settings.FEEDBACK_DOMAIN))
    return own.exclude(state=DomainState.REMOVED).first()


def own_domain_names() -> list[str]:
    """The author domain of system mail and the onboarding domain, from which mail goes out before any DNS is set."""
    author = parseaddr(settings.MAIL_FROM)[1].rpartition("@")[2]
    return list(dict.fromkeys(_comparable(name) for name in (author, settings.ONBOARDING_DOMAIN) if name))


def _taken(error: IntegrityError, name: str) -> Refused:
    if "sending_domain_once_per_tenant" in str(error):
        return Refused(_("%(name)s was added already.") % {"name": name}, reason="domain_added_already", field="name")
    if "sending_domain_one_owner" in str(error):
        return Refused(_("%(name)s belongs to another tenant.") % {"name": name}, reason="domain_taken", field="name")
    raise error


def _comparable(name: str) -> str:
    try:
        return parse_domain(name.strip())
    except MailboxSyntaxError:
        return name.strip().lower()


def _as_uuid(key: str) -> UUID | None:
    try:
        return UUID(key)
    except ValueError:
        return None
