"""People: found or made by their mail address, and let in through a one-time link until they have chosen a password.

A link works once (its token is bound to the password it replaces and to the last sign-in) and for an hour. Its host
comes from the settings, never from a request.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core import signing
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.crypto import constant_time_compare, salted_hmac
from django.utils.translation import gettext as _

from accounts.models import User
from accounts.refusals import NotFound, Refused

LINK_LIFETIME = timedelta(hours=1)
LINK_PATH = "/welcome/{token}/"
_SALT = "accounts.people.one_time_link"


def find_user(email: str) -> User:
    """Raises NotFound."""
    user = User.objects.filter(email__iexact=email.strip()).first()
    if user is None:
        raise NotFound(_("There is nobody with the address %(email)s.") % {"email": email}, field="email")
    return user


def find_or_create_user(email: str, *, name: str = "", language: str = "") -> tuple[User, bool]:
    """The person with this address, and whether they are new. A new one cannot sign in before setting a password."""
    address = _checked_address(email)
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


def one_time_link(user: User) -> str:
    """Where the person sets a password and confirms the address; to be handed to that person only."""
    token = signing.dumps([user.id.hex, _state_of(user)], salt=_SALT)
    return settings.PUBLIC_URL + LINK_PATH.format(token=token)


def user_of_link(token: str) -> User:
    """Whose link it is. Raises NotFound for one that was used, is too old, or was never given out."""
    refusal = NotFound(_("This link was already used or is too old. Ask for a new one."), reason="link_dead")
    try:
        key, state = signing.loads(token, salt=_SALT, max_age=LINK_LIFETIME)
    except signing.BadSignature:
        raise refusal from None
    user = User.objects.filter(pk=UUID(hex=key), is_active=True).first()
    if user is None or not constant_time_compare(state, _state_of(user)):
        raise refusal
    return user


def _state_of(user: User) -> str:
    """Changes with what a link leads to: the password, the address, the next sign-in."""
    state = f"{user.password}\n{user.email}\n{user.last_login}"
    return salted_hmac(_SALT, state, algorithm="sha256").hexdigest()[:32]


def enter_by_link(token: str, *, password: str) -> User:
    """Sets the password; the address is confirmed, since the link was sent there or handed over by an operator."""
    user = user_of_link(token)
    with transaction.atomic():
        set_password(user, password)
        User.objects.filter(pk=user.pk, email_confirmed_at=None).update(email_confirmed_at=timezone.now())
    user.refresh_from_db()
    return user


def _checked_address(email: str) -> str:
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
