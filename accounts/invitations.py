"""Invitations to a tenant by mail: sent, sent again, withdrawn, and accepted once by whoever reads that mailbox."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.utils.translation import gettext as _

from accounts import audit, links, memberships, people
from accounts.audit import Actor
from accounts.models import Invitation, Membership, Tenant, TenantState, User
from accounts.refusals import NotFound, Refused

LIFETIME = timedelta(days=7)
RESEND_AFTER = timedelta(seconds=60)
MOST_OPEN = 50
LINK_PATH = "/join/{token}/"
_PURPOSE = "invitation"


def invite(tenant: Tenant, *, email: str, role: str, by: memberships.By, actor: Actor) -> Invitation:
    """Raises Refused for a member, for a second open invitation, and for a role above one's own."""
    address = people.checked_address(email)
    wanted = memberships.checked_role(role)
    memberships.ensure_may_give(by, wanted)
    if Membership.objects.of(tenant).filter(user__email__iexact=address).exists():
        raise Refused(_("{email} is a member already.").format(email=address), reason="is_member", field="email")
    now = timezone.now()
    with transaction.atomic():
        # One that is over stands in nobody's way.
        open_ones = Invitation.objects.of(tenant).filter(accepted_at=None, withdrawn_at=None)
        open_ones.filter(expires_at__lte=now).update(withdrawn_at=now)
        if open_ones.count() >= MOST_OPEN:
            raise Refused(_("{n} invitations are open; withdraw some first.").format(n=MOST_OPEN), reason="too_many")
        try:
            with transaction.atomic():
                made = Invitation.objects.create(
                    tenant=tenant, email=address, role=wanted, invited_by=by.user, nonce=links.new_nonce(),
                    expires_at=now + LIFETIME,
                )  # fmt: skip
        except IntegrityError:
            raise Refused(
                _("{email} is invited already; send that invitation again.").format(email=address),
                reason="is_invited",
                field="email",
            ) from None
        _record(made, actor, "invitation.send")
    return made


def open_invitations(tenant: Tenant) -> list[Invitation]:
    """Also those that are over, for as long as nobody withdrew them: they can be sent again."""
    found = Invitation.objects.of(tenant).filter(accepted_at=None, withdrawn_at=None).select_related("invited_by")
    return list(found.order_by("-created_at")[: MOST_OPEN * 2])


def find(tenant: Tenant, key: UUID) -> Invitation:
    """An open one. Raises NotFound."""
    found = Invitation.objects.of(tenant).filter(pk=key, accepted_at=None, withdrawn_at=None).first()
    if found is None:
        raise NotFound(_("There is no such invitation."))
    return found


def send_again(invitation: Invitation, *, actor: Actor) -> Invitation:
    """With a new link and a new end; the former link is dead. Raises Refused within a minute of the last mail."""
    now = timezone.now()
    with transaction.atomic():
        changed = Invitation.objects.filter(
            pk=invitation.pk, accepted_at=None, withdrawn_at=None, mailed_at__lte=now - RESEND_AFTER
        ).update(nonce=links.new_nonce(), mailed_at=now, expires_at=now + LIFETIME)
        if not changed:
            raise Refused(
                _("A mail left within the last minute. Please give it that long before asking for another."),
                reason="too_soon",
            )
        invitation.refresh_from_db()
        _record(invitation, actor, "invitation.resend")
    return invitation


def withdraw(invitation: Invitation, *, actor: Actor) -> None:
    with transaction.atomic():
        changed = Invitation.objects.filter(pk=invitation.pk, accepted_at=None, withdrawn_at=None).update(
            withdrawn_at=timezone.now()
        )
        if not changed:
            raise NotFound(_("There is no such invitation."))
        _record(invitation, actor, "invitation.withdraw")


def link_of(invitation: Invitation) -> str:
    return links.link(LINK_PATH, links.token_for(_PURPOSE, invitation.id, invitation.nonce))


def of_link(token: str) -> Invitation:
    """Raises NotFound for one that was accepted, withdrawn, replaced or is too old, whichever it is."""
    key, nonce = links.read_token(_PURPOSE, token, lifetime=LIFETIME, sentence=_dead())
    found = (
        Invitation.objects.select_related("tenant", "invited_by")
        .filter(pk=key, accepted_at=None, withdrawn_at=None, expires_at__gt=timezone.now())
        .exclude(tenant__state=TenantState.CLOSED)
        .first()
    )
    if found is None or not constant_time_compare(found.nonce, nonce):
        raise NotFound(_dead(), reason="link_dead")
    return found


def accept(
    token: str, *, user: User | None, password: str = "", language: str = "", peer_address: str | None = None
) -> User:
    """``user`` is who is signed in: the invited address must be theirs. Without one, a new person is made.

    Raises NotFound for a dead link, Refused for the wrong person or a weak password. An invitation is accepted once.
    """
    invitation = of_link(token)
    with transaction.atomic():
        locked = Invitation.objects.select_for_update().select_related("tenant").get(pk=invitation.pk)
        if locked.accepted_at is not None or locked.withdrawn_at is not None:
            raise NotFound(_dead(), reason="link_dead")
        person = user if user is not None else _new_person(locked, password=password, language=language)
        if person.email.lower() != locked.email.lower():
            raise Refused(
                _("This invitation is for {email}; you are signed in as {person}.").format(
                    email=locked.email, person=person.email
                ),
                reason="other_person",
            )
        if person.email_confirmed_at is None:  # the link was read in that mailbox
            person.email_confirmed_at = timezone.now()
            person.save(update_fields=["email_confirmed_at"])
        Membership.objects.get_or_create(tenant=locked.tenant, user=person, defaults={"role": locked.role})
        locked.accepted_at = timezone.now()
        locked.save(update_fields=["accepted_at"])
        _record(locked, Actor.person(person, peer_address=peer_address), "invitation.accept")
    return person


def _new_person(invitation: Invitation, *, password: str, language: str) -> User:
    if User.objects.filter(email__iexact=invitation.email).exists():
        raise Refused(
            _("{email} has an account: sign in first.").format(email=invitation.email), reason="sign_in_first"
        )
    person, _is_new = people.find_or_create_user(invitation.email, language=language)
    people.set_password(person, password)
    return person


def _record(invitation: Invitation, actor: Actor, action: str) -> None:
    audit.record(
        actor,
        action,
        tenant=invitation.tenant,
        object_id=invitation.id,
        object_name=invitation.email,
        after={"role": invitation.role},
    )


def _dead() -> str:
    return _("This invitation was used, withdrawn, replaced by a newer mail, or is too old.")
