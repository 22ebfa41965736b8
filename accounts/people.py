"""People: found or made by their mail address, and let in through a one-time link until they have chosen a password.

A link works once (its token is bound to the password it replaces and to the last sign-in) and for an hour. Its host
comes from the settings, never from a request.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID
from zoneinfo import available_timezones

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core import signing
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.crypto import constant_time_compare, salted_hmac
from django.utils.translation import gettext as _

from accounts import audit
from accounts.audit import Actor
from accounts.models import User
from accounts.refusals import NotFound, Refused

LINK_LIFETIME = timedelta(hours=1)
RESET_LIFETIME = timedelta(minutes=30)
LINK_PATH = "/welcome/{token}/"
NEW_ADDRESS_PATH = "/me/email/{token}/"
_SALT = "accounts.people.one_time_link"
_NEW_ADDRESS_SALT = "accounts.people.new_address"


def find_user(email: str) -> User:
    """Raises NotFound."""
    user = User.objects.filter(email__iexact=email.strip()).first()
    if user is None:
        raise NotFound(_("There is nobody with the address %(email)s.") % {"email": email}, field="email")
    return user


def find_or_create_user(email: str, *, name: str = "", language: str = "") -> tuple[User, bool]:
    """The person with this address, and whether they are new. A new one cannot sign in before setting a password."""
    address = checked_address(email)
    user = User.objects.filter(email__iexact=address).first()
    if user is not None:
        return user, False
    try:
        with transaction.atomic():
            return User.objects.create_user(address, name=name, language=language), True
    except IntegrityError:  # made at the same moment by somebody else
        return User.objects.get(email__iexact=address), False


def set_password(user: User, password: str) -> None:
    """Raises Refused for a password that is too short, too common or too much like the address."""
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise Refused(" ".join(error.messages), reason="password_too_weak", field="password") from None
    user.set_password(password)
    user.save(update_fields=["password"])


def one_time_link(user: User, *, lifetime: timedelta = LINK_LIFETIME) -> str:
    """Where the person sets a password and confirms the address; to be handed to that person only."""
    until = int((timezone.now() + min(lifetime, LINK_LIFETIME)).timestamp())
    token = signing.dumps([user.id.hex, _state_of(user), until], salt=_SALT)
    return settings.PUBLIC_URL + LINK_PATH.format(token=token)


def user_of_link(token: str) -> User:
    """Whose link it is. Raises NotFound for one that was used, is too old, or was never given out."""
    refusal = NotFound(_("This link was already used or is too old. Ask for a new one."), reason="link_dead")
    try:
        key, state, until = signing.loads(token, salt=_SALT, max_age=LINK_LIFETIME)
        wanted = UUID(hex=key)
    except (signing.BadSignature, ValueError):
        raise refusal from None
    user = User.objects.filter(pk=wanted, is_active=True).first()
    if user is None or until < timezone.now().timestamp() or not constant_time_compare(state, _state_of(user)):
        raise refusal
    return user


def _state_of(user: User) -> str:
    """Changes with what a link leads to: the password, the address, the next sign-in."""
    state = f"{user.password}\n{user.email}\n{user.last_login}"
    return salted_hmac(_SALT, state, algorithm="sha256").hexdigest()[:32]


def enter_by_link(token: str, *, password: str, actor: Actor | None = None) -> User:
    """Sets the password; the address is confirmed, since the link was sent there or handed over by an operator."""
    user = user_of_link(token)
    with transaction.atomic():
        change_password(user, password, actor=actor or Actor.person(user))
        User.objects.filter(pk=user.pk, email_confirmed_at=None).update(email_confirmed_at=timezone.now())
    user.refresh_from_db()
    return user


# ---------------------------------------------------------------- what people change about themselves


def change_password(user: User, password: str, *, actor: Actor) -> None:
    """Ends every other session of the person (their keys depend on the password). Raises Refused."""
    with transaction.atomic():
        set_password(user, password)
        audit.record(actor, "person.password", object_id=user.id, object_name=user.email)


def update_profile(user: User, *, name: str, time_zone: str, actor: Actor) -> None:
    """Raises Refused for a zone that nobody knows."""
    if time_zone and time_zone not in available_timezones():
        raise Refused(_("There is no time zone of this name."), reason="zone_unknown", field="time_zone")
    changes = {"name": " ".join(name.split())[:120], "time_zone": time_zone}
    before = {field: getattr(user, field) for field in changes}
    if before == changes:
        return
    with transaction.atomic():
        User.objects.filter(pk=user.pk).update(**changes)
        audit.record(actor, "person.update", object_id=user.id, object_name=user.email, before=before, after=changes)
    user.refresh_from_db()


def new_address_link(user: User, email: str) -> str:
    """To be sent to the new address; works until the address or the password changes. Raises Refused."""
    address = checked_address(email)
    if address.lower() == user.email.lower():
        raise Refused(_("This is your address already."), reason="same_address", field="email")
    token = signing.dumps([user.id.hex, address, _state_of_address(user)], salt=_NEW_ADDRESS_SALT)
    return settings.PUBLIC_URL + NEW_ADDRESS_PATH.format(token=token)


def _state_of_address(user: User) -> str:
    # Not the last sign-in: the link may be opened after signing in for it.
    state = f"{user.password}\n{user.email}"
    return salted_hmac(_NEW_ADDRESS_SALT, state, algorithm="sha256").hexdigest()[:32]


def address_of_link(token: str, *, user: User) -> str:
    """The address that would become the person's. Raises NotFound."""
    refusal = NotFound(_("This link was already used or is too old. Ask for a new one."), reason="link_dead")
    try:
        key, address, state = signing.loads(token, salt=_NEW_ADDRESS_SALT, max_age=LINK_LIFETIME)
    except (signing.BadSignature, ValueError):
        raise refusal from None
    if key != user.id.hex or not constant_time_compare(state, _state_of_address(user)):
        raise refusal
    return str(address)


def change_address(token: str, *, user: User, actor: Actor) -> str:
    """The former address. Raises NotFound for a dead link, also where somebody else has the address meanwhile."""
    address, former = address_of_link(token, user=user), user.email
    try:
        with transaction.atomic():
            User.objects.filter(pk=user.pk).update(email=address, email_confirmed_at=timezone.now())
            audit.record(
                actor, "person.email", object_id=user.id, object_name=address, before={"email": former},
                after={"email": address},
            )  # fmt: skip
    except IntegrityError:
        raise NotFound(_("This link was already used or is too old. Ask for a new one."), reason="link_dead") from None
    user.refresh_from_db()
    return former


def checked_address(email: str) -> str:
    address = email.strip()
    try:
        validate_email(address)
    except ValidationError:
        raise Refused(
            _("%(email)s is no mail address.") % {"email": email}, reason="email_malformed", field="email"
        ) from None
    if len(address) > 254:
        raise Refused(_("The mail address is too long."), reason="email_malformed", field="email")
    return address
