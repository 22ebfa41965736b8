"""Signing up: nothing is an account until whoever reads the mailbox has agreed.

An address that has an account already goes through the same work (the password is hashed, a row is written, a mail
leaves), so that neither the answer nor its time tells who is registered. That mail says so instead of carrying a link.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.utils.translation import gettext as _

from accounts import audit, links, people
from accounts.audit import Actor
from accounts.models import SignUp, User
from accounts.refusals import NotFound, Refused

LIFETIME = timedelta(hours=24)
RESEND_AFTER = timedelta(seconds=60)
LINK_PATH = "/accounts/confirm/{token}/"
_PURPOSE = "sign-up"


def begin(email: str, password: str, *, language: str = "", time_zone: str = "") -> SignUp:
    """Raises Refused for what is no address, and for a weak password; never because an address is known."""
    address = people.checked_address(email)
    try:
        validate_password(password, User(email=address))
    except ValidationError as error:
        raise Refused(" ".join(error.messages), reason="password_too_weak", field="password") from None
    return SignUp.objects.create(
        email=address,
        password=make_password(password),
        language=language,
        time_zone=time_zone,
        nonce=links.new_nonce(),
        expires_at=timezone.now() + LIFETIME,
    )


def find(key: UUID) -> SignUp:
    """One that is not over. Raises NotFound."""
    found = SignUp.objects.select_related("user").filter(pk=key, expires_at__gt=timezone.now()).first()
    if found is None:
        raise NotFound(_dead())
    return found


def renew(sign_up: SignUp) -> SignUp:
    """For another mail: the former link is dead. Raises Refused within a minute of the last one."""
    now = timezone.now()
    nonce = links.new_nonce()
    changed = SignUp.objects.filter(
        pk=sign_up.pk, confirmed_at=None, mailed_at__lte=now - RESEND_AFTER, expires_at__gt=now
    ).update(nonce=nonce, mailed_at=now, expires_at=now + LIFETIME)
    if not changed:
        raise Refused(
            _("A mail left within the last minute. Please give it that long before asking for another."),
            reason="too_soon",
        )
    sign_up.refresh_from_db()
    return sign_up


def is_known(sign_up: SignUp) -> bool:
    """Whether the address had an account already: the mail then carries no link."""
    return User.objects.filter(email__iexact=sign_up.email).exists()


def link_of(sign_up: SignUp) -> str:
    return links.link(LINK_PATH, links.token_for(_PURPOSE, sign_up.id, sign_up.nonce))


def of_link(token: str) -> SignUp:
    """Raises NotFound for a link that is too old, was replaced, or was never given out."""
    key, nonce = links.read_token(_PURPOSE, token, lifetime=LIFETIME, sentence=_dead())
    found = find(key)
    if not constant_time_compare(found.nonce, nonce):
        raise NotFound(_dead(), reason="link_dead")
    return found


def confirm(token: str, *, peer_address: str | None = None) -> SignUp:
    """Makes the account. Confirming twice changes nothing more. Raises NotFound."""
    sign_up = of_link(token)
    with transaction.atomic():
        locked = SignUp.objects.select_for_update().get(pk=sign_up.pk)
        if locked.confirmed_at is not None:
            return locked
        now = timezone.now()
        user = User(
            email=locked.email,
            password=locked.password,
            language=locked.language,
            time_zone=locked.time_zone,
            email_confirmed_at=now,
        )
        try:
            with transaction.atomic():
                user.save(force_insert=True)
        except IntegrityError:  # the address got an account meanwhile, by an invitation or another sign-up
            raise NotFound(_dead(), reason="link_dead") from None
        locked.user, locked.confirmed_at, locked.password = user, now, ""
        locked.save(update_fields=["user", "confirmed_at", "password"])
        actor = Actor.person(user, peer_address=peer_address)
        audit.record(actor, "person.sign_up", object_id=user.id, object_name=user.email)
    return locked


def forget_old() -> int:
    """Sign-ups that nobody confirmed in time, and confirmed ones that have done their work."""
    return SignUp.objects.filter(expires_at__lt=timezone.now() - timedelta(days=1)).delete()[0]


def _dead() -> str:
    return _("This link is too old, or a newer mail has replaced it.")
